//! Storage on a machine that joined: volumes, snapshots and copies lie on its own disk, and keep their pods there.
use crate::SOON;
use crate::storage::{claim, images, nothing_is_left, pod};
use crate::storage_snapshots::{from, runs, snapshot};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use testkit::{Cluster, Machine, Tool, wait_until};

fn lie_in(data_dir: &Path, what: &str) -> Vec<PathBuf> {
    let kinds = ["ssd", "hdd"].map(|kind| data_dir.join("lightningstor").join(kind).join(what));
    kinds.iter().flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten()).map(|entry| entry.path()).collect()
}

fn on(node: &str, pod: &str) -> String {
    pod.replace("\nspec:\n", &format!("\nspec:\n  nodeSelector: {{kubernetes.io/hostname: {node}}}\n"))
}

fn node_of(kubectl: &Tool, pod: &str) -> String {
    kubectl.sh(&format!("kubectl get pod {pod} -o jsonpath='{{.spec.nodeName}}'")).ok()
}

fn read(kubectl: &Tool, pod: &str) -> String {
    kubectl.sh(&format!("kubectl exec {pod} -- cat /data/file")).ok()
}

#[test]
fn a_joined_machines_volumes_live_and_end_on_its_own_disk() {
    let cluster = Cluster::start();
    let mut machine = Machine::of(&cluster, "n1");
    let kubectl = cluster.tool();
    let drivers = "kubectl get csinode n1 -o jsonpath='{.spec.drivers[*].name} {.spec.drivers[*].topologyKeys[*]}'";
    kubectl.until_it_prints(drivers, "stor.plasmacloud.io topology.stor.plasmacloud.io/node");
    let server = kubectl.sh("kubectl get nodes -o jsonpath='{.items[*].metadata.name}'").ok().replace("n1", "").trim().to_owned();
    let told = "kubectl get csistoragecapacities -n kube-system -o jsonpath='{.items[*].nodeTopology.matchLabels}'";
    kubectl.until(told, SOON, |text| text.contains(r#""topology.stor.plasmacloud.io/node":"n1""#) && text.contains(&server));

    // Made where the pod has to be, and from then on the pod has to be where it is.
    kubectl.apply(&claim("data", ""));
    kubectl.apply(&on("n1", &pod("first", "data")));
    runs(&kubectl, "first");
    kubectl.sh("kubectl exec first -- sh -c 'echo kept >/data/file && sync'").ok();
    assert_eq!((lie_in(&machine.data_dir(), "volumes").len(), images(&cluster).len()), (1, 0));
    kubectl.sh("kubectl delete pod first --timeout=60s").ok();
    kubectl.apply(&pod("second", "data"));
    runs(&kubectl, "second");
    assert_eq!((node_of(&kubectl, "second").as_str(), read(&kubectl, "second").as_str()), ("n1", "kept\n"));

    // The agent dies and comes back, and the volume goes on, grows, and is snapshotted there.
    machine.end(Signal::SIGKILL);
    machine.launch();
    kubectl.until_it_prints("kubectl exec second -- cat /data/file", "kept");
    kubectl.sh("kubectl patch pvc data -p '{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"96Mi\"}}}}'").ok();
    kubectl.until_it_prints("kubectl get pv -o jsonpath='{.items[*].spec.capacity.storage}'", "96Mi");
    // A mounted ext4 grows where the machine may do that; else the next pod's start grows it.
    kubectl.sh("kubectl delete pod second --timeout=60s").ok();
    kubectl.apply(&pod("second", "data"));
    runs(&kubectl, "second");
    kubectl.until_it_prints("kubectl get pvc data -o jsonpath='{.status.capacity.storage} {.status.allocatedResourceStatuses}'", "96Mi");
    kubectl.apply(&snapshot("taken", "{persistentVolumeClaimName: data}", ""));
    kubectl.until_it_prints("kubectl get vs taken -o jsonpath='{.status.readyToUse}'", "true");
    assert_eq!(lie_in(&machine.data_dir(), "snapshots").len(), 1);
    kubectl.sh("kubectl exec second -- sh -c 'echo after >/data/file && sync'").ok();

    // What begins with the snapshot or the volume begins there: chosen for a pod, or at once.
    let larger = |name: &str, with: &str| claim(name, with).replace("64Mi", "96Mi");
    let at_once = |with: &str| ", storageClassName: lightningstor-hdd".to_owned() + with;
    kubectl.apply(&larger("restored", &from("VolumeSnapshot", "taken")));
    kubectl.apply(&larger("restored-at-once", &at_once(&from("VolumeSnapshot", "taken"))));
    kubectl.apply(&larger("copied", &from("PersistentVolumeClaim", "data")));
    for (name, of, has) in [("restores", "restored", "kept\n"), ("at-once", "restored-at-once", "kept\n"), ("copies", "copied", "after\n")] {
        kubectl.apply(&pod(name, of));
        runs(&kubectl, name);
        assert_eq!((node_of(&kubectl, name).as_str(), read(&kubectl, name).as_str()), ("n1", has), "{name}");
    }
    // Who insists on another node is told why that can't be.
    kubectl.apply(&larger("astray", &from("VolumeSnapshot", "taken")));
    kubectl.apply(&on(&server, &pod("strays", "astray")));
    kubectl.until("kubectl describe pod strays", SOON, |text| text.contains("didn't match PersistentVolume's node affinity"));

    // The same the other way round.
    kubectl.apply(&claim("here", ""));
    kubectl.apply(&on(&server, &pod("third", "here")));
    runs(&kubectl, "third");
    assert_eq!(images(&cluster).len(), 1);
    kubectl.sh("kubectl delete pod third --timeout=60s").ok();
    kubectl.sh(&format!("kubectl cordon {server}")).ok();
    kubectl.apply(&pod("fourth", "here"));
    kubectl.until("kubectl describe pod fourth", SOON, |text| text.contains("didn't match PersistentVolume's node affinity"));
    kubectl.sh(&format!("kubectl uncordon {server}")).ok();
    runs(&kubectl, "fourth");
    assert_eq!(node_of(&kubectl, "fourth"), server);

    kubectl.sh("kubectl delete pod --all --timeout=60s && kubectl delete vs,pvc --all --timeout=60s").ok();
    // What was made at once is kept, as its class says, until somebody says otherwise.
    kubectl.sh("kubectl patch $(kubectl get pv -o name) -p '{\"spec\":{\"persistentVolumeReclaimPolicy\":\"Delete\"}}'").ok();
    kubectl.until_it_prints("kubectl get pv,vsc,volumeattachments -o name", "");
    let is_empty = |what: &str| lie_in(&machine.data_dir(), what).is_empty();
    wait_until("nothing is left", SOON, || {
        nothing_is_left(&cluster) && is_empty("volumes") && is_empty("snapshots") && machine.remains().loop_devices.is_empty()
    });

    // A machine that takes no part in storage has no volumes.
    machine.end(Signal::SIGINT);
    machine.arguments.extend(["--disable".into(), "lightningstor".into()]);
    machine.launch();
    kubectl.until_it_prints("kubectl get csinode n1 -o jsonpath='{.spec.drivers}'", "[]");
    kubectl.apply(&claim("nowhere", ""));
    kubectl.apply(&on("n1", &pod("waits", "nowhere")));
    kubectl.until("kubectl describe pod waits", SOON, |text| text.contains("didn't match PersistentVolume's node affinity"));
}
