//! Stories of volumes.
use crate::story::{CLAIMS, NODES, PODS, Step, Story, node, story, with};
use serde_json::{Value, json};

const VOLUMES: &str = "/api/v1/persistentvolumes";
const OWN_VOLUMES: &str = "/api/v1/persistentvolumes?labelSelector=of%3DNAMESPACE";

fn claim() -> Value {
    json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand-NAMESPACE",
        "resources": {"requests": {"storage": "1Mi"}}}})
}

fn volume(source: Value) -> Value {
    let volume = json!({"metadata": {"name": "NAMESPACE", "labels": {"of": "NAMESPACE"}}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand-NAMESPACE", "persistentVolumeReclaimPolicy": "Retain"}});
    with(volume, "spec", source)
}

pub fn a_claim_binds_its_volume_and_both_are_protected() -> Story {
    story(
        &[
            "persistentvolume-binder-controller",
            "persistentvolume-controller",
            "persistentvolumeclaim-protection-controller",
            "persistentvolume-protection-controller",
        ],
        &[CLAIMS, OWN_VOLUMES],
        vec![
            Step::Create(VOLUMES, volume(json!({"hostPath": {"path": "/tmp"}}))),
            Step::Create(CLAIMS, claim()),
            Step::Delete("/api/v1/namespaces/NAMESPACE/persistentvolumeclaims/data", "Background"),
            Step::Delete("/api/v1/persistentvolumes/NAMESPACE", "Background"),
        ],
    )
}

pub fn a_volume_is_attached_while_a_pod_needs_it() -> Story {
    let pod = json!({"metadata": {"name": "user"}, "spec": {"nodeName": "attaching", "containers": [{"name": "c", "image": "one"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}});
    story(
        &["attachdetach-controller", "attachdetach-controller-detach"],
        &[CLAIMS, OWN_VOLUMES, PODS, "/apis/storage.k8s.io/v1/volumeattachments"],
        vec![
            // Its name is part of what an attachment is called.
            Step::Create(NODES, node("attaching", "True")),
            Step::Create(VOLUMES, volume(json!({"csi": {"driver": "example.com", "volumeHandle": "one"}}))),
            Step::Create(CLAIMS, claim()),
            Step::Create(PODS, pod),
            // As its node would.
            Step::Delete("/api/v1/namespaces/NAMESPACE/pods/user", "Background&gracePeriodSeconds=0"),
            Step::Delete("/api/v1/nodes/attaching", "Background"),
        ],
    )
}

pub fn a_pod_brings_its_claim_along() -> Story {
    let template = json!({"spec": claim()["spec"]});
    let pod = json!({"metadata": {"name": "user"}, "spec": {"containers": [{"name": "c", "image": "one"}],
        "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]}});
    story(
        &["ephemeral-volume-controller", "garbage-collector-controller"],
        &[CLAIMS, PODS],
        vec![Step::Create(PODS, pod), Step::Delete("/api/v1/namespaces/NAMESPACE/pods/user", "Background")],
    )
}
