//! Workloads keep what they promise: requests, names, claims, indexes, budgets, priorities, and reasons.
use crate::SOON;
use testkit::Cluster;
use testkit::images::{BUSYBOX, HTTPD, HTTPD_2};

#[test]
fn a_rolling_update_under_load_fails_no_request() {
    let cluster = Cluster::with_images(&[BUSYBOX, HTTPD, HTTPD_2]);
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: httpd:1
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        # Whoever was told of it late still gets an answer.
        lifecycle: {preStop: {exec: {command: [sleep, "3"]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "touch /log; until [ -f /begin ]; do sleep 0.2; done; until [ -f /end ]; do timeout 5 wget -qO- http://$(cat /begin)/ >>/log 2>&1 || echo failed >>/log; done; touch /over; sleep 100000"]
"#,
    );
    kubectl.sh("kubectl rollout status deployment/web --timeout=90s && kubectl wait --for=condition=Ready pod/load --timeout=60s").ok();
    let service = kubectl.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'").ok();
    kubectl.until(&format!("kubectl exec load -- timeout 5 wget -qO- http://{service}/"), SOON, |page| page == "httpd version 1");
    kubectl.sh(&format!("kubectl exec load -- sh -c 'echo {service} >/begin.new && mv /begin.new /begin'")).ok();
    let answers = |of: &str| format!("kubectl exec load -- sh -c 'grep -c \"{of}\" /log || true'");
    let many = |printed: &str| printed.parse::<u32>().is_ok_and(|count| count >= 50);
    kubectl.until(&answers("version 1"), SOON, many);
    kubectl.sh("kubectl set image deployment/web main=httpd:2 && kubectl rollout status deployment/web --timeout=120s").ok();
    kubectl.until(&answers("version 2"), SOON, many);
    kubectl.until("kubectl get pods -l app=web -o jsonpath='{.items[*].spec.containers[0].image}'", SOON, |images| images == "httpd:2 httpd:2");
    kubectl.sh("kubectl exec load -- touch /end").ok();
    kubectl.until("kubectl exec load -- sh -c '[ -f /over ] && grep -vc \"httpd version\" /log || true'", SOON, |printed| printed == "0");
    kubectl.apply(INDEXED);
    kubectl.sh("kubectl wait --for=condition=failed job/indexed --timeout=120s").ok();
    let status = "kubectl get job indexed -o jsonpath='{.status.completedIndexes} {.status.failedIndexes} {.status.succeeded} {.status.failed} {.status.conditions[?(@.type==\"Failed\")].reason}'";
    assert_eq!(kubectl.sh(status).ok(), "0,2 1 2 2 FailedIndexes");
}

/// One index of three fails, is tried once more, and keeps none of the others from being done.
const INDEXED: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: indexed}
spec:
  completions: 3
  parallelism: 3
  completionMode: Indexed
  backoffLimitPerIndex: 1
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: "busybox:1.36", command: [sh, -c, "[ $JOB_COMPLETION_INDEX != 1 ]"]}]
"#;

const DATABASE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "busybox:1.36", command: [sleep, "100000"], volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 32Mi}}}}
"#;

#[test]
fn names_claims_priorities_and_budgets_hold() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();

    // A name, an address by that name and a claim belong together, whichever pod has them.
    kubectl.apply(DATABASE);
    kubectl.sh("kubectl rollout status statefulset/db --timeout=120s").ok();
    assert_eq!(kubectl.sh("kubectl get pods -l app=db -o jsonpath='{.items[*].metadata.name}'").ok(), "db-0 db-1 db-2");
    for pod in ["db-0", "db-1", "db-2"] {
        kubectl.sh(&format!("kubectl exec {pod} -- sh -c 'hostname >/data/name'")).ok();
    }
    let uids = "kubectl get pvc data-db-0 data-db-1 data-db-2 -o jsonpath='{.items[*].metadata.uid}'";
    let claims = kubectl.sh(uids).ok();
    kubectl.sh("kubectl delete pods db-0 db-1 db-2 --timeout=60s && kubectl rollout status statefulset/db --timeout=120s").ok();
    for pod in ["db-0", "db-1", "db-2"] {
        kubectl.until_it_prints(&format!("kubectl exec {pod} -- sh -c 'cat /data/name; hostname'"), &format!("{pod}\n{pod}"));
        let address = kubectl.sh(&format!("kubectl get pod {pod} -o jsonpath='{{.status.podIP}}'")).ok();
        kubectl.until(&format!("kubectl exec db-0 -- nslookup {pod}.db.default.svc.cluster.local"), SOON, |answer| answer.contains(&address));
    }
    assert_eq!(kubectl.sh(uids).ok(), claims);

    // What blocks its owner is waited for.
    kubectl.sh(r#"kubectl patch pod db-2 --type=merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'"#).ok();
    kubectl.sh("kubectl delete statefulset db --cascade=foreground --wait=false").ok();
    kubectl.until_it_prints("kubectl get pods -l app=db -o jsonpath='{.items[*].metadata.name}'", "db-2");
    assert_eq!(kubectl.sh("kubectl get statefulset db -o jsonpath='{.metadata.finalizers}'").ok(), "[\"foregroundDeletion\"]");
    kubectl.sh(r#"kubectl patch pod db-2 --type=merge -p '{"metadata":{"finalizers":null}}'"#).ok();
    kubectl.until_it_prints("kubectl get statefulset,pods -o name", "");

    // The more important pod gets the room.
    let cpu: u32 = kubectl.sh("kubectl get nodes -o jsonpath='{.items[0].status.allocatable.cpu}'").ok().parse().expect("whole processors");
    let pod = |name: &str, class: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{priorityClassName: {class}, terminationGracePeriodSeconds: 1, containers: [{{name: main, \
             image: 'busybox:1.36', command: [sleep, '100000'], resources: {{requests: {{cpu: {}m}}}}}}]}}}}",
            cpu * 700
        )
    };
    kubectl.sh("kubectl create priorityclass low --value=10 && kubectl create priorityclass high --value=1000").ok();
    kubectl.apply(&pod("humble", "low"));
    kubectl.sh("kubectl wait --for=condition=Ready pod/humble --timeout=60s").ok();
    kubectl.apply(&pod("important", "high"));
    kubectl.sh("kubectl wait --for=condition=Ready pod/important --timeout=60s").ok();
    kubectl.until_it_prints("kubectl get pods -o jsonpath='{.items[*].metadata.name}'", "important");
    kubectl.until(
        "kubectl get events --field-selector reason=Preempted -o jsonpath='{.items[*].regarding.name}{.items[*].involvedObject.name}'",
        SOON,
        |about| about.contains("humble"),
    );
    kubectl.apply(&pod("humble", "low"));
    kubectl.until("kubectl describe pod humble", SOON, |text| text.contains("0/1 nodes are available: 1 Insufficient cpu"));
    kubectl.sh("kubectl delete pods humble important --timeout=60s").ok();

    // A namespace tells what it waits for.
    kubectl.sh("kubectl create namespace held && kubectl create configmap kept -n held").ok();
    kubectl.sh(r#"kubectl patch configmap kept -n held --type=merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'"#).ok();
    kubectl.sh("kubectl delete namespace held --wait=false").ok();
    let told = |kind: &str| format!("kubectl get namespace held -o jsonpath='{{.status.conditions[?(@.type==\"{kind}\")].message}}'");
    kubectl.until_it_prints(
        &told("NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
    );
    kubectl.until_it_prints(&told("NamespaceContentRemaining"), "Some resources are remaining: configmaps. has 1 resource instances");
    kubectl.sh(r#"kubectl patch configmap kept -n held --type=merge -p '{"metadata":{"finalizers":null}}'"#).ok();
    kubectl.sh("kubectl wait --for=delete namespace/held --timeout=60s").ok();

    // A drain leaves a budget its last pod, for as long as there is one.
    kubectl.sh("kubectl create deployment guarded --image=busybox:1.36 -- sleep 100000").ok();
    kubectl.sh("kubectl rollout status deployment/guarded --timeout=60s").ok();
    kubectl.sh("kubectl create poddisruptionbudget guarded --selector=app=guarded --min-available=1").ok();
    kubectl.until_it_prints("kubectl get pdb guarded -o jsonpath='{.status.currentHealthy}'", "1");
    let before = kubectl.sh("kubectl get pods -l app=guarded -o name").ok();
    let node = kubectl.sh("kubectl get nodes -o jsonpath='{.items[0].metadata.name}'").ok();
    let drain = |seconds: u32| kubectl.sh(&format!("kubectl drain {node} --ignore-daemonsets --delete-emptydir-data --force --timeout={seconds}s"));
    let refused = drain(8).err();
    assert!(refused.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{refused}");
    assert_eq!(kubectl.sh("kubectl get pods -l app=guarded --field-selector=status.phase=Running -o name").ok(), before);
    kubectl.sh("kubectl delete pdb guarded").ok();
    drain(90).ok();
    kubectl.until_it_prints("kubectl get pods -l app=guarded -o jsonpath='{.items[*].status.phase}'", "Pending");
    kubectl.sh(&format!("kubectl uncordon {node} && kubectl rollout status deployment/guarded --timeout=60s")).ok();
}
