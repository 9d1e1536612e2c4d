//! Deployment: rolls out ReplicaSets.
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, number};
use crate::fields::Fill;
use crate::pod_spec::defaults;
use api_resource::{ALL, Column, Names, Resource, SCALE, STATUS, Subresource, text};
use serde_json::Value;

pub struct Deployments;

impl Resource for Deployments {
    const NAMES: Names = Names::with("apps", "v1", "Deployment", "deployments", "deployment", const { &[text("deploy")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Ready", |row| format!("{}/{}", number(&row.object["status"]["readyReplicas"]), number(&row.object["spec"]["replicas"])).into()),
        Column::with("Up-to-date", |row| number(&row.object["status"]["updatedReplicas"])),
        Column::with("Available", |row| number(&row.object["status"]["availableReplicas"])),
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("replicas", 1);
        let strategy = spec.open("strategy");
        strategy.zero("type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let update = strategy.open("rollingUpdate");
            update.absent("maxUnavailable", "25%");
            update.absent("maxSurge", "25%");
        }
        spec.absent("revisionHistoryLimit", 10);
        spec.absent("progressDeadlineSeconds", 600);
        defaults::template(spec.open("template"));
    }
}
