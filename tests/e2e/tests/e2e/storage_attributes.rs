//! Classes of attributes: what claims' volumes are given when they are made, and while they are used.
use crate::SOON;
use crate::storage::{claim, images};
use std::os::unix::fs::MetadataExt;
use testkit::{Cluster, Tool, wait_until};

fn class(name: &str, parameter: &str) -> String {
    format!(
        r#"
apiVersion: storage.k8s.io/v1
kind: VolumeAttributesClass
metadata: {{name: {name}}}
driverName: stor.plasmacloud.io
parameters: {{{parameter}}}
"#
    )
}

/// Leaves nothing behind.
pub fn change_and_are_protected(cluster: &Cluster, kubectl: &Tool) {
    let wants = |class: &str| kubectl.sh(&format!("kubectl patch pvc fast -p '{{\"spec\":{{\"volumeAttributesClassName\":{class}}}}}'"));
    let status = "kubectl get pvc fast -o jsonpath='{.status.currentVolumeAttributesClassName} {.status.modifyVolumeStatus.status} {.status.modifyVolumeStatus.targetVolumeAttributesClassName}'";
    kubectl.apply(&class("reserved", "allocation: full"));
    kubectl.apply(&class("impossible", "iops: \"100\""));
    kubectl.apply(&claim("fast", ", storageClassName: lightningstor-hdd, volumeAttributesClassName: reserved"));
    kubectl.until_it_prints(status, "reserved");
    assert_eq!(kubectl.sh("kubectl get pv -o jsonpath='{.items[*].spec.volumeAttributesClassName}'").ok(), "reserved");
    let taken = || images(cluster).iter().map(|image| std::fs::metadata(image).map_or(0, |image| image.blocks() * 512)).sum::<u64>();
    assert!(taken() >= 64 << 20, "it takes its room at once, and has {}", taken());

    // What can't be is told, and leaves what there is.
    assert!(wants("null").err().contains("update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"));
    wants("\"later\"").ok();
    kubectl.until_it_prints(status, "reserved Pending");
    wants("\"impossible\"").ok();
    kubectl.until_it_prints(status, "reserved Infeasible impossible");
    kubectl.until("kubectl describe pvc fast", SOON, |text| text.contains("VolumeModifyFailed") && text.contains("mutable parameter \"iops\" is none of"));

    // A class that comes later is taken then.
    wants("\"later\"").ok();
    kubectl.apply(&class("later", "allocation: thin, readAheadKiB: \"64\""));
    kubectl.until_it_prints(status, "later");
    kubectl.until("kubectl describe pvc fast", SOON, |text| text.contains("VolumeModifySuccessful"));
    assert_eq!(kubectl.sh("kubectl get pvc fast -o jsonpath='{.status.conditions}'").ok(), "");

    // It stays as long as anybody names it.
    kubectl.sh("kubectl delete vac reserved impossible --timeout=60s && kubectl delete vac later --wait=false && kubectl delete pvc fast --timeout=60s").ok();
    assert!(kubectl.sh("kubectl get vac later -o jsonpath='{.metadata.finalizers}'").ok().contains("kubernetes.io/vac-protection"));
    kubectl.sh("kubectl patch $(kubectl get pv -o name) -p '{\"spec\":{\"persistentVolumeReclaimPolicy\":\"Delete\"}}'").ok();
    kubectl.until_it_prints("kubectl get vac,pv -o name", "");
    wait_until("the image is gone", SOON, || images(cluster).is_empty());
}
