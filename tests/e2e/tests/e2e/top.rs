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
