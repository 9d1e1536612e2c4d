//! Snapshots and clones of claims by the API: taken of a volume in use, restored, kept, deleted; in virtual clusters too.
use crate::SOON;
use crate::storage::{claim, images, nothing_is_left, pod};
use std::path::PathBuf;
use testkit::{Cluster, Tool};

const READY: &str = "--for=condition=Ready --timeout=90s";

pub fn snapshot(name: &str, of: &str, with: &str) -> String {
    format!(
        r#"
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {{name: {name}}}
spec: {{source: {of}{with}}}
"#
    )
}

pub fn from(kind: &str, name: &str) -> String {
    let group = if kind == "VolumeSnapshot" { "apiGroup: snapshot.storage.k8s.io, " } else { "" };
    format!(", dataSource: {{{group}kind: {kind}, name: {name}}}")
}

pub fn runs(kubectl: &Tool, pod: &str) {
    kubectl.sh(&format!("kubectl wait {READY} pod/{pod}")).ok();
}

fn content(kubectl: &Tool, pod: &str) -> String {
    kubectl.sh(&format!("kubectl exec {pod} -- cat /data/file")).ok()
}

fn snapshots(cluster: &Cluster) -> Vec<PathBuf> {
    let kinds = ["ssd", "hdd"].map(|kind| cluster.server.data_dir().join("lightningstor").join(kind).join("snapshots"));
    kinds.iter().flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten()).map(|entry| entry.path()).collect()
}

/// Takes a snapshot of a volume that is being written to, and brings it back beside the volume, which has gone on.
fn take_and_restore(kubectl: &Tool) {
    kubectl.until("kubectl get volumesnapshotclass -o name", SOON, |text| text.contains("lightningstor"));
    kubectl.apply(&claim("data", ""));
    kubectl.apply(&pod("writer", "data"));
    runs(kubectl, "writer");
    // Not synced: what a file system has in memory belongs to the snapshot, too.
    kubectl.sh("kubectl exec writer -- sh -c 'echo before >/data/file'").ok();
    kubectl.apply(&snapshot("first", "{persistentVolumeClaimName: data}", ""));
    kubectl.until_it_prints(
        "kubectl get vs first -o jsonpath='{.status.readyToUse} {.status.restoreSize} {.spec.volumeSnapshotClassName}'",
        "true 64Mi lightningstor",
    );
    kubectl.sh("kubectl exec writer -- sh -c 'echo after >/data/file && sync'").ok();

    kubectl.apply(&claim("restored", &from("VolumeSnapshot", "first")));
    kubectl.apply(&pod("reader", "restored"));
    runs(kubectl, "reader");
    assert_eq!(content(kubectl, "reader"), "before\n");
    // A claim may be copied as it is, and the copy may be larger.
    kubectl.apply(&claim("copied", &from("PersistentVolumeClaim", "data")).replace("64Mi", "96Mi"));
    kubectl.apply(&pod("copy", "copied"));
    runs(kubectl, "copy");
    assert_eq!(content(kubectl, "copy"), "after\n");
    kubectl.sh("kubectl exec copy -- dd if=/dev/zero of=/data/large bs=1M count=70").ok();
    assert_eq!(content(kubectl, "writer"), "after\n");
}

#[test]
fn a_snapshot_of_a_volume_in_use_is_restored_and_goes_as_its_class_says() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    take_and_restore(&kubectl);
    let row = kubectl.sh("kubectl get vs first").ok();
    assert!(row.starts_with("NAME") && row.contains("READYTOUSE   SOURCEPVC") && row.contains("lightningstor"), "{row}");
    kubectl.until("kubectl describe vs first", SOON, |text| {
        ["CreatingSnapshot", "SnapshotCreated", "SnapshotReady", "volumesnapshot-bound-protection"].iter().all(|expected| text.contains(expected))
    });

    // Refused by the rules of the definition, told by the controller.
    let both = snapshot("both", "{persistentVolumeClaimName: data, volumeSnapshotContentName: x}", "");
    assert!(kubectl.kubectl_with("apply -f -", &both).err().contains("exactly one of volumeSnapshotContentName and persistentVolumeClaimName must be set"));
    kubectl.apply(&snapshot("of-nothing", "{persistentVolumeClaimName: nothing}", ", volumeSnapshotClassName: lightningstor"));
    kubectl.until("kubectl get vs of-nothing -o jsonpath='{.status.error.message}'", SOON, |text| text.contains("cannot get claim from snapshot"));
    kubectl.sh("kubectl delete vs of-nothing --timeout=60s").ok();
    kubectl.apply(&claim("small", &(", storageClassName: lightningstor-hdd".to_owned() + &from("VolumeSnapshot", "first"))).replace("64Mi", "32Mi"));
    kubectl.until("kubectl describe pvc small", SOON, |text| text.contains("is less than the size"));
    kubectl.sh("kubectl delete pvc small --timeout=60s").ok();

    // Kept when its object goes, and found again by its handle.
    let handle = kubectl.sh("kubectl get volumesnapshotcontents -o jsonpath='{.items[0].status.snapshotHandle}'").ok();
    kubectl.sh("kubectl patch $(kubectl get vsc -o name) --type=merge -p '{\"spec\":{\"deletionPolicy\":\"Retain\"}}'").ok();
    kubectl.sh("kubectl delete vs first --timeout=60s && kubectl delete vsc --all --timeout=60s").ok();
    assert_eq!(snapshots(&cluster).len(), 1);
    kubectl.apply(&format!(
        r#"
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotContent
metadata: {{name: known}}
spec:
  driver: stor.plasmacloud.io
  deletionPolicy: Delete
  source: {{snapshotHandle: {handle}}}
  volumeSnapshotRef: {{name: again, namespace: default}}
"#
    ));
    kubectl.apply(&snapshot("again", "{volumeSnapshotContentName: known}", ""));
    kubectl.until_it_prints("kubectl get vs again -o jsonpath='{.status.readyToUse} {.status.restoreSize}'", "true 64Mi");

    // A driver that dies in between leaves nothing behind, nor does what is deleted.
    kubectl.sh("kubectl delete pod writer reader copy --timeout=60s && kubectl delete pvc --all --timeout=60s && kubectl delete vs again --timeout=60s").ok();
    kubectl.until_it_prints("kubectl get pv,vsc,volumeattachments -o name", "");
    testkit::wait_until("nothing is left", SOON, || nothing_is_left(&cluster) && snapshots(&cluster).is_empty());
}

#[test]
fn a_virtual_cluster_has_snapshots_of_its_own_volumes_alone() {
    let cluster = Cluster::start();
    let host = cluster.server.host_tool();
    let tenant = cluster.server.virtual_cluster("team-a", "same");
    host.sh(r#"kubectl -n team-a patch cluster.k3k.io same --type=merge -p '{"spec":{"sync":{"storageClasses":{"enabled":true}}}}'"#).ok();
    tenant.until("kubectl get storageclass", SOON, |text| text.contains("lightningstor-ssd (default)"));
    testkit::wait_until("the service account is there", SOON, || tenant.k("get serviceaccount default").success);
    take_and_restore(&tenant);
    let handle = tenant.sh("kubectl get vsc -o jsonpath='{.items[0].status.snapshotHandle}'").ok();
    assert!(handle.starts_with("same.team-a_snapshot-"), "{handle}");
    assert_eq!(host.sh("kubectl get vs,vsc -A -o name").ok(), "");

    // The host's snapshots are none of its business, whatever it writes.
    host.until("kubectl get volumesnapshotclass -o name", SOON, |text| text.contains("lightningstor"));
    host.apply(&claim("theirs", ", storageClassName: lightningstor-hdd"));
    host.apply(&snapshot("theirs", "{persistentVolumeClaimName: theirs}", ""));
    host.until_it_prints("kubectl get vs theirs -o jsonpath='{.status.readyToUse}'", "true");
    let theirs = host.sh("kubectl get vsc -o jsonpath='{.items[0].status.snapshotHandle}'").ok();
    tenant.apply(&format!(
        r#"
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotContent
metadata: {{name: stolen}}
spec:
  driver: stor.plasmacloud.io
  deletionPolicy: Delete
  source: {{snapshotHandle: {theirs}}}
  volumeSnapshotRef: {{name: stolen, namespace: default}}
"#
    ));
    tenant.apply(&snapshot("stolen", "{volumeSnapshotContentName: stolen}", ""));
    tenant.until("kubectl get vs stolen -o jsonpath='{.status.error.message}'", SOON, |text| text.contains("none that the host cluster has made"));
    let lie = format!(r#"{{"status":{{"snapshotHandle":"{theirs}","readyToUse":true,"restoreSize":1}}}}"#);
    tenant.sh(&format!("kubectl patch vsc stolen --subresource=status --type=merge -p '{lie}'")).ok();
    tenant.until_it_prints("kubectl get vs stolen -o jsonpath='{.status.readyToUse}'", "true");
    tenant.apply(&claim("stolen", &(", storageClassName: lightningstor-hdd".to_owned() + &from("VolumeSnapshot", "stolen"))));
    tenant.until("kubectl describe pvc stolen", SOON, |text| text.contains("none that the host cluster has made"));
    tenant.sh("kubectl delete pvc stolen --timeout=60s && kubectl delete vs stolen --timeout=60s").ok();
    host.until_it_prints("kubectl get vs theirs -o jsonpath='{.status.readyToUse}'", "true");
    assert_eq!(snapshots(&cluster).len(), 2);

    // The cluster takes its snapshots along.
    host.sh("kubectl delete vs theirs --timeout=60s && kubectl delete pvc theirs --timeout=60s").ok();
    host.sh("kubectl delete $(kubectl get pv -o name) --timeout=60s").ok();
    host.sh("kubectl -n team-a delete cluster.k3k.io same --timeout=60s").ok();
    testkit::wait_until("nothing is left of the cluster's snapshots", 2 * SOON, || snapshots(&cluster).is_empty());
    testkit::wait_until("nothing is left of the cluster's volumes", 2 * SOON, || images(&cluster).len() <= 1);
}
