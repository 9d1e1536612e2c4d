//! The specification's own scripts on storage, run as they stand in `scenarios`.
use crate::SOON;
use testkit::Cluster;
use testkit::images::{POSTGRES, VISITS};

#[test]
fn a_volume_is_provisioned_used_and_removed_by_the_specifications_script() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.until("kubectl get storageclass -o name", SOON, |text| text.contains("lightningstor-ssd"));
    let printed = kubectl.sh(include_str!("../../scenarios/persistent_volume.sh")).ok();
    assert!(printed.lines().any(|line| line == "hello"), "{printed}");
    kubectl.until_it_prints("kubectl get pods,pvc,pv,volumeattachments -o name", "");
}

#[test]
fn an_application_of_several_tiers_is_deployed_reached_and_removed_by_the_specifications_script() {
    let cluster = Cluster::with_images(&[POSTGRES, VISITS]);
    let kubectl = cluster.tool();
    kubectl.until("kubectl get storageclass -o name", SOON, |text| text.contains("lightningstor-ssd"));
    let printed = kubectl.sh(include_str!("../../scenarios/multi_tier.sh")).ok();
    assert!(printed.trim_end().ends_with("E2E test passed!"), "{printed}");
    kubectl.until_it_prints("kubectl get namespace project-123 -o name --ignore-not-found; kubectl get pv,volumeattachments -o name", "");
    testkit::wait_until("nothing of the volume is left", SOON, || cluster.remains().loop_devices.is_empty());
}
