//! Jobs: work that ends.
use testkit::Cluster;

#[test]
fn jobs_complete_fail_and_are_counted() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.sh("kubectl create job once --image=busybox:1.36 -- sh -c 'echo done'").ok();
    kubectl.sh("kubectl wait --for=condition=complete job/once --timeout=90s").ok();
    assert_eq!(kubectl.sh("kubectl logs job/once").ok(), "done\n");
    assert_eq!(kubectl.sh("kubectl get job once -o jsonpath='{.status.succeeded}'").ok(), "1");
    kubectl.apply(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: many}, spec: {completions: 4, parallelism: 2, completionMode: Indexed,
          template: {spec: {restartPolicy: Never, containers: [{name: work, image: 'busybox:1.36', command: [sh, -c, 'echo index $JOB_COMPLETION_INDEX']}]}}}}",
    );
    kubectl.sh("kubectl wait --for=condition=complete job/many --timeout=90s").ok();
    assert_eq!(kubectl.sh("kubectl get job many -o jsonpath='{.status.completedIndexes}'").ok(), "0-3");
    kubectl.apply(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: hopeless}, spec: {backoffLimit: 1,
          template: {spec: {restartPolicy: Never, containers: [{name: work, image: 'busybox:1.36', command: [sh, -c, 'exit 3']}]}}}}",
    );
    kubectl.sh("kubectl wait --for=condition=failed job/hopeless --timeout=120s").ok();
    let status = kubectl.sh("kubectl get job hopeless -o jsonpath='{.status.failed} {.status.conditions[?(@.type==\"Failed\")].reason}'").ok();
    assert_eq!(status, "2 BackoffLimitExceeded");
    // Deleting a Job deletes its pods.
    kubectl.sh("kubectl delete job once many hopeless").ok();
    kubectl.until_it_prints("kubectl get pods -o name", "");
}
