//! Storage: claims answered by LightningStor, from the claim to the file in the container and back to nothing.
use crate::SOON;
use nix::sys::signal::Signal;
use std::path::PathBuf;
use testkit::{Cluster, Tool};

const READY: &str = "--for=condition=Ready --timeout=90s";

fn images(cluster: &Cluster) -> Vec<PathBuf> {
    let volumes = ["ssd", "hdd"].map(|kind| cluster.server.data_dir().join("lightningstor").join(kind).join("volumes"));
    volumes.iter().flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten()).map(|entry| entry.path().join("image")).collect()
}

/// Whether no image, device, mount or record of a volume is left.
fn nothing_is_left(cluster: &Cluster) -> bool {
    let remains = cluster.remains();
    let mounted = remains.mounts.iter().any(|mount| mount.to_string_lossy().contains("csi"));
    images(cluster).is_empty() && remains.loop_devices.is_empty() && !mounted
}

fn pod(name: &str, claim: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 2000}}
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]
  containers:
  - {{name: main, image: "busybox:1.36", command: [sleep, "100000"], volumeMounts: [{{name: data, mountPath: /data}}]}}
"#
    )
}

fn claim(name: &str, with: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 64Mi}}}}{with}}}
"#
    )
}

fn delete_pod(kubectl: &Tool, name: &str) {
    kubectl.sh(&format!("kubectl delete pod {name} --timeout=60s")).ok();
}

#[test]
fn a_claim_keeps_its_data_from_pod_to_pod_and_leaves_nothing() {
    let mut cluster = Cluster::start();
    let kubectl = cluster.tool();
    // What the cluster starts with.
    kubectl.until("kubectl get storageclass", SOON, |text| text.contains("lightningstor-ssd (default)") && text.contains("lightningstor-hdd"));
    kubectl.until("kubectl get csinodes -o jsonpath='{.items[*].spec.drivers[*].name}'", SOON, |text| text == "stor.plasmacloud.io");

    kubectl.apply(&claim("data", ""));
    kubectl.until("kubectl describe pvc data", SOON, |text| text.contains("waiting for first consumer to be created before binding"));
    kubectl.apply(&pod("first", "data"));
    kubectl.sh(&format!("kubectl wait {READY} pod/first")).ok();
    let exec = |pod: &str, script: &str| kubectl.sh(&format!("kubectl exec {pod} -- sh -c '{script}'"));
    exec("first", "echo kept >/data/file && sync").ok();
    assert_eq!(exec("first", "stat -c %g /data").ok(), "2000\n");
    assert!(exec("first", "mount | grep /data").ok().contains("ext4"));
    assert!(kubectl.sh("kubectl get pvc data").ok().contains("Bound"));
    assert!(kubectl.sh("kubectl get volumeattachments").ok().contains("stor.plasmacloud.io"));
    // It holds what it was made for, and no more.
    assert!(exec("first", "dd if=/dev/zero of=/data/large bs=1M count=100").err().contains("No space left on device"));
    exec("first", "rm /data/large").ok();

    // Another pod after the first, also past a killed server.
    delete_pod(&kubectl, "first");
    cluster.server.end(Signal::SIGKILL);
    cluster.server.launch();
    cluster.wait_for_node();
    kubectl.apply(&pod("second", "data"));
    kubectl.sh(&format!("kubectl wait {READY} pod/second")).ok();
    assert_eq!(exec("second", "cat /data/file").ok(), "kept\n");

    // A pod that runs through a killed server keeps its volume, and lets go of it afterwards.
    cluster.server.end(Signal::SIGKILL);
    cluster.server.launch();
    cluster.wait_for_node();
    assert_eq!(exec("second", "cat /data/file").ok(), "kept\n");
    assert_eq!(images(&cluster).len(), 1);
    assert_eq!(cluster.remains().loop_devices.len(), 1);

    delete_pod(&kubectl, "second");
    kubectl.sh("kubectl delete pvc data --timeout=60s").ok();
    kubectl.until_it_prints("kubectl get pv,volumeattachments -o name", "");
    testkit::wait_until("nothing is left of the volume", SOON, || nothing_is_left(&cluster));
}
