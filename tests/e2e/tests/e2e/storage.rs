//! Storage: claims answered by LightningStor, from the claim to the file in the container and back to nothing.
use crate::SOON;
use nix::sys::signal::Signal;
use std::path::PathBuf;
use tempfile::TempDir;
use testkit::{Cluster, Tool};

const READY: &str = "--for=condition=Ready --timeout=90s";

pub fn images(cluster: &Cluster) -> Vec<PathBuf> {
    let volumes = ["ssd", "hdd"].map(|kind| cluster.server.data_dir().join("lightningstor").join(kind).join("volumes"));
    volumes.iter().flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten()).map(|entry| entry.path().join("image")).collect()
}

/// Whether no image, device, mount or record of a volume is left.
pub fn nothing_is_left(cluster: &Cluster) -> bool {
    let remains = cluster.remains();
    let mounted = remains.mounts.iter().any(|mount| mount.to_string_lossy().contains("csi"));
    images(cluster).is_empty() && remains.loop_devices.is_empty() && !mounted
}

pub fn pod(name: &str, claim: &str) -> String {
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

pub fn claim(name: &str, with: &str) -> String {
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

#[test]
fn claims_grow_are_kept_or_deleted_and_say_what_is_not_possible() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    // At once, and kept: the class says so.
    kubectl.apply(&claim("kept", ", storageClassName: lightningstor-hdd"));
    kubectl.until_it_prints("kubectl get pvc kept -o jsonpath='{.status.phase} {.status.capacity.storage}'", "Bound 64Mi");
    kubectl.sh("kubectl delete pvc kept --timeout=60s").ok();
    kubectl.until_it_prints("kubectl get pv -o jsonpath='{.items[*].status.phase} {.items[*].spec.persistentVolumeReclaimPolicy}'", "Released Retain");
    assert_eq!(images(&cluster).len(), 1);
    // What was kept is deleted once somebody says so.
    kubectl.sh("kubectl patch $(kubectl get pv -o name) -p '{\"spec\":{\"persistentVolumeReclaimPolicy\":\"Delete\"}}'").ok();
    kubectl.until_it_prints("kubectl get pv -o name", "");
    testkit::wait_until("the image is gone", SOON, || nothing_is_left(&cluster));

    // More than there is, and more copies than one.
    kubectl.apply(&claim("huge", ", storageClassName: lightningstor-hdd").replace("64Mi", "900Ti"));
    kubectl.until("kubectl describe pvc huge", SOON, |text| text.contains("code = ResourceExhausted"));
    kubectl.apply(
        r#"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: three-copies}
provisioner: stor.plasmacloud.io
parameters: {type: ssd, replication: "3"}
volumeBindingMode: Immediate
allowVolumeExpansion: true
"#,
    );
    kubectl.apply(&claim("copies", ", storageClassName: three-copies"));
    kubectl.until("kubectl describe pvc copies", SOON, |text| text.contains("replication 3 is not possible"));
    kubectl.sh("kubectl delete pvc huge copies --timeout=60s").ok();
    crate::storage_attributes::change_and_are_protected(&cluster, &kubectl);

    // A StatefulSet's claims: one each, which grow.
    kubectl.apply(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: set}
spec:
  serviceName: set
  replicas: 2
  selector: {matchLabels: {app: set}}
  template:
    metadata: {labels: {app: set}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "busybox:1.36", command: [sleep, "100000"], volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 64Mi}}}}
"#,
    );
    kubectl.sh("kubectl rollout status statefulset/set --timeout=90s").ok();
    kubectl.sh("kubectl exec set-1 -- sh -c 'hostname >/data/name'").ok();
    kubectl.sh(r#"kubectl patch pvc data-set-1 -p '{"spec":{"resources":{"requests":{"storage":"128Mi"}}}}'"#).ok();
    kubectl.until_it_prints("kubectl get pv -o jsonpath='{.items[?(@.spec.claimRef.name==\"data-set-1\")].spec.capacity.storage}'", "128Mi");
    // A mounted ext4 grows only for those with CAP_SYS_RESOURCE, which a test has not everywhere; before it is mounted it always does.
    kubectl.sh("kubectl delete pod set-1 --timeout=60s && kubectl rollout status statefulset/set --timeout=90s").ok();
    kubectl.until("kubectl get pvc data-set-1 -o jsonpath='{.status.capacity.storage} {.status.conditions}'", SOON, |text| {
        matches!(text.trim(), "128Mi" | "128Mi []")
    });
    kubectl.sh("kubectl exec set-1 -- dd if=/dev/zero of=/data/large bs=1M count=100").ok();
    // One pod at a time.
    kubectl.apply(&pod("second", "data-set-1"));
    kubectl.until("kubectl describe pod second", SOON, |text| text.contains("same name and ReadWriteOncePod access mode"));
    kubectl.sh("kubectl delete pod second set-1 --timeout=60s && kubectl rollout status statefulset/set --timeout=90s").ok();
    assert_eq!(kubectl.sh("kubectl exec set-1 -- cat /data/name").ok(), "set-1\n");
    kubectl.sh("kubectl delete statefulset set && kubectl delete pvc data-set-0 data-set-1 --timeout=60s").ok();
    kubectl.until_it_prints("kubectl get pv,volumeattachments -o name", "");
    testkit::wait_until("nothing is left", SOON, || nothing_is_left(&cluster));
}

#[test]
fn a_virtual_cluster_has_the_hosts_classes_and_volumes_of_its_own() {
    let cluster = Cluster::start();
    let host = cluster.server.host_tool();
    let with = cluster.server.virtual_cluster("team-a", "same");
    let without = cluster.server.virtual_cluster("team-b", "same");
    assert_eq!(with.sh("kubectl get storageclass -o name").ok(), "");
    host.sh(r#"kubectl -n team-a patch cluster.k3k.io same --type=merge -p '{"spec":{"sync":{"storageClasses":{"enabled":true}}}}'"#).ok();
    with.until("kubectl get storageclass", SOON, |text| text.contains("lightningstor-ssd (default)"));
    assert_eq!(without.sh("kubectl get storageclass -o name").ok(), "");

    testkit::wait_until("the service account is there", SOON, || with.k("get serviceaccount default").success);
    with.apply(&claim("data", ""));
    with.apply(&pod("user", "data"));
    with.sh(&format!("kubectl wait {READY} pod/user")).ok();
    with.sh("kubectl exec user -- sh -c 'echo mine >/data/file'").ok();
    let volume = with.sh("kubectl get pvc data -o jsonpath='{.spec.volumeName}'").ok();
    let handle = with.sh(&format!("kubectl get pv {volume} -o jsonpath='{{.spec.csi.volumeHandle}}'")).ok();
    assert_eq!(handle, format!("same.team-a_{volume}"));
    // It is nobody else's, not even the host's.
    assert_eq!(host.sh("kubectl get pv -o name").ok(), "");
    // Another cluster neither gets a volume of a class it does not have, nor the first one's by its handle.
    without.apply(&claim("data", ", storageClassName: lightningstor-ssd"));
    without.until("kubectl describe pvc data", SOON, |text| text.contains("not found"));
    let stolen = format!(
        r#"
apiVersion: v1
kind: PersistentVolume
metadata: {{name: stolen}}
spec:
  capacity: {{storage: 64Mi}}
  accessModes: [ReadWriteOnce]
  csi: {{driver: stor.plasmacloud.io, volumeHandle: {handle}}}
"#
    );
    std::fs::write(without.home.join("stolen.yaml"), stolen).unwrap();
    assert!(without.sh("kubectl apply -f stolen.yaml").err().contains("none that the host cluster has made for this virtual cluster"));

    with.sh("kubectl delete pod user --timeout=60s && kubectl delete pvc data --timeout=60s").ok();
    with.until_it_prints("kubectl get pv,volumeattachments -o name", "");
    testkit::wait_until("nothing is left", SOON, || nothing_is_left(&cluster));

    // A cluster that is removed takes its volumes along, also those in use.
    with.apply(&claim("data", ""));
    with.apply(&pod("user", "data"));
    with.sh(&format!("kubectl wait {READY} pod/user")).ok();
    host.sh("kubectl -n team-a delete cluster.k3k.io same --timeout=60s").ok();
    testkit::wait_until("nothing is left of the cluster's volumes", 2 * SOON, || nothing_is_left(&cluster));
}

/// A disk of a test's own, so small that it can be filled.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(mib: u32) -> Self {
        let disk = Self(TempDir::new().expect("a directory"));
        let options = format!("size={mib}m");
        nix::mount::mount(Some("none"), disk.0.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), Some(options.as_str())).expect("tests run as root");
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The cluster that used it has gone before.
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_the_claim_says_so() {
    let disk = SmallDisk::new(160);
    let volumes = || std::fs::read_dir(disk.0.path().join("volumes")).into_iter().flatten().count();
    let cluster = Cluster::start_with(&["--lightningstor-ssd-dir", &disk.0.path().display().to_string()]);
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: now}
provisioner: stor.plasmacloud.io
parameters: {type: ssd, replication: "1"}
volumeBindingMode: Immediate
allowVolumeExpansion: true
"#,
    );
    kubectl.apply(&claim("first", ", storageClassName: now").replace("64Mi", "128Mi"));
    kubectl.apply(&pod("user", "first"));
    kubectl.sh(&format!("kubectl wait {READY} pod/user")).ok();
    kubectl.sh("kubectl exec user -- dd if=/dev/urandom of=/data/large bs=1M count=80 conv=fsync").ok();

    // Neither a volume nor a larger one is made of what is not there.
    kubectl.apply(&claim("second", ", storageClassName: now").replace("64Mi", "128Mi"));
    kubectl.until("kubectl describe pvc second", SOON, |text| {
        text.contains("ProvisioningFailed") && text.contains("failed to provision volume with StorageClass \"now\": rpc error: code = ResourceExhausted")
    });
    kubectl.sh(r#"kubectl patch pvc first -p '{"spec":{"resources":{"requests":{"storage":"512Mi"}}}}'"#).ok();
    kubectl.until("kubectl describe pvc first", SOON, |text| text.contains("VolumeResizeFailed") && text.contains("code = OutOfRange"));
    assert_eq!(kubectl.sh("kubectl get pvc first -o jsonpath='{.status.capacity.storage}'").ok(), "128Mi");
    kubectl.until("kubectl get pvc first -o jsonpath='{.status.conditions[*].type} {.status.conditions[*].message}'", SOON, |text| {
        text.contains("ControllerResizeError") && text.contains("code = OutOfRange")
    });
    let told = "kubectl get pvc first -o jsonpath='{.status.allocatedResources.storage} {.status.allocatedResourceStatuses.storage}'";
    kubectl.until_it_prints(told, "512Mi ControllerResizeInfeasible");
    assert_eq!(volumes(), 1);

    // Who asked for too much may ask for less, and not for less than there is.
    let ask = |size: &str| kubectl.sh(&format!(r#"kubectl patch pvc first -p '{{"spec":{{"resources":{{"requests":{{"storage":"{size}"}}}}}}}}'"#));
    assert!(ask("128Mi").err().contains("field can not be less than status.capacity"));
    ask("144Mi").ok();
    kubectl.until_it_prints("kubectl get pv -o jsonpath='{.items[*].spec.capacity.storage}'", "144Mi");
    // A mounted ext4 grows where the machine may do that; else the next pod's start grows it.
    delete_pod(&kubectl, "user");
    kubectl.apply(&pod("user", "first"));
    kubectl.sh(&format!("kubectl wait {READY} pod/user")).ok();
    kubectl.until_it_prints("kubectl get pvc first -o jsonpath='{.status.capacity.storage}'", "144Mi");
    kubectl.until_it_prints("kubectl get pvc first -o jsonpath='{.status.allocatedResourceStatuses}{.status.conditions}'", "");

    // The claim that waits gets its volume once there is room, by itself.
    kubectl.sh("kubectl delete pod user --timeout=60s && kubectl delete pvc first --timeout=60s").ok();
    kubectl.until_it_prints("kubectl get pvc second -o jsonpath='{.status.phase}'", "Bound");
    kubectl.sh("kubectl delete pvc second --timeout=60s").ok();
    kubectl.until_it_prints("kubectl get pv -o name", "");
    testkit::wait_until("nothing is left", SOON, || nothing_is_left(&cluster) && volumes() == 0);
}
