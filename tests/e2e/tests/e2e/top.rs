//! What pods and nodes use: `kubectl top` over metrics.k8s.io.
use crate::SOON;
use testkit::{Cluster, wait_until};

#[test]
fn kubectl_top_tells_what_pods_and_nodes_use() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "while true; do :; done"]
    resources: {limits: {cpu: 200m, memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: idle, labels: {app: idle}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]
"#,
    );
    kubectl.sh("kubectl wait --for=condition=Ready pod --all --timeout=90s").ok();
    let millicores = |name: &str| -> Option<u32> {
        let line = kubectl.sh(&format!("kubectl top pod {name} --no-headers"));
        line.stdout.split_whitespace().nth(1)?.strip_suffix('m')?.parse().ok()
    };
    wait_until("the busy pod is seen to be busy, within its limit", SOON, || millicores("busy").is_some_and(|m| (100..=260).contains(&m)));
    assert!(millicores("idle").is_some_and(|m| m < 20), "{:?}", kubectl.k("top pod idle"));
    let all = kubectl.sh("kubectl top pods -A --containers --sort-by=cpu").ok();
    assert!(all.lines().nth(1).is_some_and(|line| line.contains("busy") && line.contains("main") && line.contains("Mi")), "{all}");
    assert!(kubectl.sh("kubectl top pods -l app=idle --no-headers").ok().starts_with("idle"));
    let nodes = kubectl.sh("kubectl top nodes --no-headers").ok();
    assert!(nodes.contains("m ") && nodes.contains("Mi") && nodes.contains('%'), "{nodes}");
    let table = kubectl.sh("kubectl get podmetrics").ok();
    assert!(table.starts_with("NAME") && table.contains("CPU") && table.contains("WINDOW") && table.contains("busy"), "{table}");
    let missing = kubectl.k("get podmetrics nobody");
    assert!(!missing.success && missing.stderr.contains("not found"), "{missing:?}");
    let refused = kubectl.k("delete podmetrics busy");
    assert!(!refused.success && refused.stderr.contains("MethodNotAllowed"), "{refused:?}");
}

#[test]
fn an_autoscaler_adds_pods_under_load_and_takes_them_away_again() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: work}
spec:
  selector: {matchLabels: {app: work}}
  template:
    metadata: {labels: {app: work}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, "while true; do [ -f /load ] || sleep 0.2; done"]
        resources: {requests: {cpu: 100m}, limits: {cpu: 200m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: work}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: work}
  minReplicas: 1
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
"#,
    );
    let replicas = |wanted: &str| kubectl.sh("kubectl get deployment work -o jsonpath='{.spec.replicas}'").stdout == wanted;
    let condition = |name: &str| kubectl.sh(&format!("kubectl get hpa work -o jsonpath='{{.status.conditions[?(@.type==\"{name}\")].reason}}'")).stdout;
    wait_until("its load is known", SOON, || condition("ScalingActive") == "ValidMetricFound");
    kubectl.sh("kubectl exec deployment/work -- touch /load").ok();
    wait_until("a second pod comes", SOON, || replicas("2"));
    wait_until("it is told", SOON, || kubectl.sh("kubectl get events --field-selector reason=SuccessfulRescale").stdout.contains("New size: 2"));
    kubectl.sh("kubectl rollout status deployment/work --timeout=90s").ok();
    kubectl.sh("for pod in $(kubectl get pods -l app=work -o name); do kubectl exec $pod -- rm -f /load; done").ok();
    wait_until("and goes when nothing is to be done", SOON, || replicas("1"));
    let shown = kubectl.sh("kubectl get hpa work").ok();
    assert!(shown.contains("Deployment/work") && shown.contains("/60%"), "{shown}");
}
