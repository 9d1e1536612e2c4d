//! DaemonSet: a pod on every node.
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, labels, number};
use crate::fields::Fill;
use crate::pod_spec::defaults;
use api_resource::{ALL, Column, Names, Resource, STATUS, Subresource, text};
use serde_json::Value;

pub struct DaemonSets;

impl Resource for DaemonSets {
    const NAMES: Names = Names::with("apps", "v1", "DaemonSet", "daemonsets", "daemonset", const { &[text("ds")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Desired", |row| number(&row.object["status"]["desiredNumberScheduled"])).integer(),
        Column::with("Current", |row| number(&row.object["status"]["currentNumberScheduled"])).integer(),
        Column::with("Ready", |row| number(&row.object["status"]["numberReady"])).integer(),
        Column::with("Up-to-date", |row| number(&row.object["status"]["updatedNumberScheduled"])).integer(),
        Column::with("Available", |row| number(&row.object["status"]["numberAvailable"])).integer(),
        Column::with("Node Selector", |row| labels(&row.object["spec"]["template"]["spec"]["nodeSelector"]).into()),
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        let strategy = spec.open("updateStrategy");
        strategy.zero("type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let update = strategy.open("rollingUpdate");
            update.absent("maxUnavailable", 1);
            update.absent("maxSurge", 0);
        }
        spec.absent("revisionHistoryLimit", 10);
        defaults::template(spec.open("template"));
    }
}
