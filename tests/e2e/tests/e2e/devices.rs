//! Devices: claimed by pods, chosen by the scheduler, prepared by a driver on the node, and anybody's again afterwards.
use crate::{SOON, device_driver};
use nix::sys::signal::Signal;
use testkit::{Cluster, Tool, wait_until};

const CLASSES: &str = r#"
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec:
  selectors:
  - cel: {expression: 'device.driver == "gpu.example"'}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: big}
spec:
  spec:
    devices:
      requests:
      - name: card
        exactly:
          deviceClassName: gpu
          selectors:
          - cel: {expression: 'device.capacity["gpu.example"].memory.compareTo(quantity("20Gi")) > 0'}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: shared}
spec:
  devices:
    requests:
    - name: card
      exactly:
        deviceClassName: gpu
        selectors:
        - cel: {expression: 'device.attributes["gpu.example"].model == "small"'}
"#;

fn pod(name: &str, claim: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  resourceClaims: [{{name: gpu, {claim}}}]
  containers:
  - {{name: main, image: "busybox:1.36", command: [sleep, "100000"], resources: {{claims: [{{name: gpu, request: card}}]}}}}
  - {{name: other, image: "busybox:1.36", command: [sleep, "100000"]}}
"#
    )
}

/// What a container sees of its device.
fn seen(kubectl: &Tool, pod: &str, container: &str) -> String {
    kubectl.sh(&format!("kubectl wait --for=condition=Ready --timeout=90s pod/{pod}")).ok();
    kubectl
        .sh(&format!("kubectl exec {pod} -c {container} -- sh -c 'echo \"$DEVICE:$CLAIM\"; test -c /dev/gpu && echo x > /dev/gpu && echo there || echo none'"))
        .ok()
}

#[test]
fn a_device_is_one_pods_at_a_time_and_survives_the_server() {
    let mut cluster = Cluster::start();
    let kubectl = cluster.tool();
    let driver = device_driver::serve(&cluster);
    kubectl.apply(CLASSES);
    kubectl.apply(&pod("one", "resourceClaimTemplateName: big"));
    // The driver refuses at first; the pod is told, waits, and is tried again.
    kubectl.until("kubectl describe pod one", SOON, |text| text.contains("FailedPrepareDynamicResources") && text.contains("the devices are still warming up"));
    let claim = kubectl.sh("kubectl get pod one -o jsonpath='{.status.resourceClaimStatuses[?(@.name==\"gpu\")].resourceClaimName}'").ok();
    assert!(claim.starts_with("one-gpu-"), "{claim}");
    assert_eq!(seen(&kubectl, "one", "main"), format!("gpu-0:{claim}\nthere\n"));
    assert_eq!(seen(&kubectl, "one", "other"), ":\nnone\n");
    assert!(kubectl.sh(&format!("kubectl get resourceclaim {claim} --no-headers")).ok().contains("allocated,reserved"));
    let first = kubectl.sh(&format!("kubectl get resourceclaim {claim} -o jsonpath='{{.metadata.uid}}'")).ok();

    // Nobody else gets it meanwhile, also not from a server that was killed.
    kubectl.apply(&pod("two", "resourceClaimTemplateName: big"));
    let why = "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let condition = "kubectl get pod two -o jsonpath='{.status.conditions[?(@.type==\"PodScheduled\")].message}'";
    kubectl.until_it_prints(condition, why);
    let container = "kubectl get pod one -o jsonpath='{.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}'";
    let before = kubectl.sh(container).ok();
    cluster.server.end(Signal::SIGKILL);
    cluster.server.launch();
    cluster.wait_for_node();
    assert_eq!(seen(&kubectl, "one", "main"), format!("gpu-0:{claim}\nthere\n"));
    assert_eq!(kubectl.sh(container).ok(), before);
    kubectl.until_it_prints(condition, why);

    // Once the first is gone the second has it.
    kubectl.sh("kubectl delete pod one --timeout=60s").ok();
    assert!(seen(&kubectl, "two", "main").starts_with("gpu-0:two-gpu-"));
    kubectl.until_it_prints(&format!("kubectl get resourceclaim {claim} --ignore-not-found"), "");
    assert!(driver.asked().contains(&format!("unprepare {first}")), "{:?}", driver.asked());

    // A claim with a name is for all that name it, and has a device while anybody uses it.
    for name in ["three", "four"] {
        kubectl.apply(&pod(name, "resourceClaimName: shared"));
    }
    assert_eq!((seen(&kubectl, "three", "main"), seen(&kubectl, "four", "main")), ("gpu-1:shared\nthere\n".into(), "gpu-1:shared\nthere\n".into()));
    kubectl.sh("kubectl delete pod three --timeout=60s").ok();
    assert!(kubectl.sh("kubectl get resourceclaim shared --no-headers").ok().contains("allocated,reserved"));
    assert_eq!(seen(&kubectl, "four", "main"), "gpu-1:shared\nthere\n");

    // A device that is said to be sick loses its pods, and gets none until it is well.
    let rule = "apiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\nmetadata: {name: sick}\nspec: {deviceSelector: {driver: gpu.example, device: gpu-1}, taint: {key: sick, effect: NoExecute}}\n";
    kubectl.apply(rule);
    kubectl.until_it_prints("kubectl get pod four --ignore-not-found", "");
    kubectl.apply(&pod("five", "resourceClaimName: shared"));
    kubectl.until("kubectl describe pod five", SOON, |text| text.contains("1 cannot allocate all claims"));
    kubectl.sh("kubectl delete devicetaintrule sick").ok();
    assert_eq!(seen(&kubectl, "five", "main"), "gpu-1:shared\nthere\n");
    kubectl.sh("kubectl delete pod two five --timeout=60s").ok();
    kubectl.until("kubectl get resourceclaims --no-headers", SOON, |text| text.lines().count() == 1 && text.contains("pending"));
    wait_until("everything was taken down", SOON, || driver.prepared() == 0);
    let records = cluster.server.data_dir().join("agent/dra");
    wait_until("nothing is remembered", SOON, || std::fs::read_dir(&records).into_iter().flatten().count() == 0);
}
