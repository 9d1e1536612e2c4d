//! Pods that cannot run, and how they say so.
use crate::SOON;
use testkit::Cluster;

#[test]
fn what_goes_wrong_is_told_in_the_words_of_upstream() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: no-image}
spec: {containers: [{name: main, image: "registry.invalid/nothing:1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: never-pulled}
spec: {containers: [{name: main, image: "nothing:1", imagePullPolicy: Never}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bad-name}
spec: {containers: [{name: main, image: "Bad//Name"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: no-secret}
spec: {containers: [{name: main, image: "busybox:1.36", env: [{name: A, valueFrom: {secretKeyRef: {name: missing, key: a}}}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: no-command}
spec: {restartPolicy: Never, containers: [{name: main, image: "busybox:1.36", command: [/no/such/program]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: "busybox:1.36", command: [sh, -c, "x=0123456789; while true; do x=$x$x; done"], resources: {limits: {memory: 32Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: too-large}
spec: {containers: [{name: main, image: "busybox:1.36", resources: {requests: {cpu: "1000"}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: nowhere}
spec: {nodeSelector: {there-is: none}, containers: [{name: main, image: "busybox:1.36"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: too-long}
spec: {activeDeadlineSeconds: 2, containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: no-volume}
spec: {volumes: [{name: v, configMap: {name: missing}}], containers: [{name: main, image: "busybox:1.36", volumeMounts: [{name: v, mountPath: /v}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: not-root}
spec: {securityContext: {runAsNonRoot: true}, containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]}
"#,
    );
    let waiting = |pod: &str, part: &str| format!("kubectl get pod {pod} -o jsonpath='{{.status.containerStatuses[0].state.waiting.{part}}}'");
    kubectl.until(&waiting("no-image", "reason"), SOON, |reason| reason == "ErrImagePull" || reason == "ImagePullBackOff");
    kubectl.until_it_prints(&waiting("no-image", "reason"), "ImagePullBackOff");
    let message = kubectl.sh(&waiting("no-image", "message")).ok();
    assert!(message.starts_with("Back-off pulling image \"registry.invalid/nothing:1\""), "{message}");
    kubectl.until_it_prints(&waiting("never-pulled", "reason"), "ErrImageNeverPull");
    assert_eq!(kubectl.sh(&waiting("never-pulled", "message")).ok(), "Container image \"nothing:1\" is not present with pull policy of Never");
    kubectl.until_it_prints(&waiting("bad-name", "reason"), "InvalidImageName");
    kubectl.until_it_prints(&waiting("no-secret", "reason"), "CreateContainerConfigError");
    assert_eq!(kubectl.sh(&waiting("no-secret", "message")).ok(), "secret \"missing\" not found");
    // It starts by itself once the secret is there.
    kubectl.sh("kubectl create secret generic missing --from-literal=a=1").ok();
    kubectl.until("kubectl get pod no-secret -o jsonpath='{.status.containerStatuses[0].restartCount} {.status.phase}'", SOON, |status| {
        !status.contains("Pending")
    });
    kubectl.until_it_prints("kubectl get pod no-command -o jsonpath='{.status.phase} {.status.containerStatuses[0].state.terminated.exitCode}'", "Failed 128");
    let message = kubectl.sh("kubectl get pod no-command -o jsonpath='{.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.message}'").ok();
    assert!(message.starts_with("StartError ") && message.contains("/no/such/program"), "{message}");
    kubectl.until_it_prints("kubectl get pod hungry -o jsonpath='{.status.phase} {.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}'", "Failed OOMKilled 137");
    let unscheduled = |pod: &str| format!("kubectl get pod {pod} -o jsonpath='{{.status.phase}}: {{.status.conditions[?(@.type==\"PodScheduled\")].message}}'");
    kubectl.until(&unscheduled("too-large"), SOON, |text| text.starts_with("Pending: 0/1 nodes are available: 1 Insufficient cpu."));
    kubectl.until(&unscheduled("nowhere"), SOON, |text| {
        text.starts_with("Pending: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
    });
    kubectl.until_it_prints("kubectl get pod too-long -o jsonpath='{.status.phase} {.status.reason}'", "Failed DeadlineExceeded");
    kubectl.until("kubectl get events --field-selector involvedObject.name=no-volume,reason=FailedMount -o jsonpath='{.items[*].message}'", SOON, |text| {
        text.contains("MountVolume.SetUp failed for volume \"v\" : configmap \"missing\" not found")
    });
    kubectl.until_it_prints(&waiting("not-root", "reason"), "CreateContainerConfigError");
    assert!(kubectl.sh(&waiting("not-root", "message")).ok().contains("container has runAsNonRoot and image will run as root"));
    // Pods that never ran go away as well.
    kubectl.sh("kubectl delete pods --all --grace-period=1 --timeout=90s").ok();
}
