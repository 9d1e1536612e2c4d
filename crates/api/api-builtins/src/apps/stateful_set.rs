//! StatefulSet: pods with stable names and storage.
use crate::cells::{CONTAINERS, IMAGES, number};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use api_resource::{ALL, Column, Names, Resource, SCALE, STATUS, Subresource, text};
use serde_json::Value;

pub struct StatefulSets;

impl Resource for StatefulSets {
    const NAMES: Names = Names::with("apps", "v1", "StatefulSet", "statefulsets", "statefulset", const { &[text("sts")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Ready", |row| format!("{}/{}", number(&row.object["status"]["readyReplicas"]), number(&row.object["spec"]["replicas"])).into()),
        CONTAINERS,
        IMAGES,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.zero("podManagementPolicy", "OrderedReady");
        let strategy = spec.open("updateStrategy");
        if strategy["type"].is_zero() {
            strategy.put("type", "RollingUpdate");
            strategy.open("rollingUpdate");
        }
        if strategy["type"] == "RollingUpdate"
            && let Some(update) = strategy.child("rollingUpdate")
        {
            update.absent("partition", 0);
            update.absent("maxUnavailable", 1);
        }
        let retention = spec.open("persistentVolumeClaimRetentionPolicy");
        retention.zero("whenDeleted", "Retain");
        retention.zero("whenScaled", "Retain");
        spec.absent("replicas", 1);
        spec.absent("revisionHistoryLimit", 10);
        for claim in spec.each("volumeClaimTemplates") {
            claim.put("apiVersion", "v1");
            claim.put("kind", "PersistentVolumeClaim");
            defaults::claim_spec(claim.open("spec"));
            claim.open("status").zero("phase", "Pending");
        }
        defaults::template(spec.open("template"));
    }
}
