//! Stories of workloads.
use crate::story::{CLAIMS, DEPLOYMENTS, NODES, PODS, REPLICA_SETS, REVISIONS, Step, Story, image, node, story, template, with, workload};
use clock::{Clock, ManualClock, SystemClock};
use serde_json::{Value, json};
use std::sync::Arc;

const STATEFUL_SETS: &str = "/apis/apps/v1/namespaces/NAMESPACE/statefulsets";
const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/NAMESPACE/daemonsets";
const CONTROLLERS: &str = "/api/v1/namespaces/NAMESPACE/replicationcontrollers";
const QUOTAS: &str = "/api/v1/namespaces/NAMESPACE/resourcequotas";
const JOBS: &str = "/apis/batch/v1/namespaces/NAMESPACE/jobs";
const CRON_JOBS: &str = "/apis/batch/v1/namespaces/NAMESPACE/cronjobs";
const BUDGETS: &str = "/apis/policy/v1/namespaces/NAMESPACE/poddisruptionbudgets";
const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/NAMESPACE/horizontalpodautoscalers";
const WEB: &str = "/apis/apps/v1/namespaces/NAMESPACE/deployments/web";

pub fn a_deployment_rolls_and_its_budget_follows() -> Story {
    let budget = json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    story(
        &["deployment-controller", "replicaset-controller", "disruption-controller"],
        &[DEPLOYMENTS, REPLICA_SETS, PODS, BUDGETS],
        vec![Step::Create(BUDGETS, budget), Step::Create(DEPLOYMENTS, workload("web", json!({"replicas": 2}))), Step::Patch(WEB, image("two"))],
    )
}

pub fn a_deployment_that_is_deleted_takes_all_with_it() -> Story {
    story(
        &["garbage-collector-controller"],
        &[DEPLOYMENTS, REPLICA_SETS, PODS],
        vec![
            Step::Create(DEPLOYMENTS, workload("web", json!({"replicas": 2, "strategy": {"type": "Recreate"}}))),
            Step::Patch(WEB, image("two")),
            Step::Delete(WEB, "Foreground"),
        ],
    )
}

pub fn a_deployment_leaves_orphans_that_another_adopts() -> Story {
    story(
        &["garbage-collector-controller"],
        &[DEPLOYMENTS, REPLICA_SETS, PODS],
        vec![
            Step::Create(DEPLOYMENTS, workload("web", json!({"replicas": 2}))),
            Step::Delete(WEB, "Orphan"),
            // As after a mistake.
            Step::Create(DEPLOYMENTS, workload("web", json!({"replicas": 1}))),
        ],
    )
}

pub fn a_stateful_set_keeps_its_order_and_its_claims() -> Story {
    const DB: &str = "/apis/apps/v1/namespaces/NAMESPACE/statefulsets/db";
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    let fields = json!({"replicas": 2, "serviceName": "db", "volumeClaimTemplates": [claim],
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Retain"}});
    story(
        &["statefulset-controller"],
        &[STATEFUL_SETS, PODS, CLAIMS, REVISIONS],
        vec![Step::Create(STATEFUL_SETS, workload("db", fields)), Step::Patch(DB, image("two")), Step::Patch(DB, json!({"spec": {"replicas": 1}}))],
    )
}

pub fn a_daemon_set_runs_on_every_node() -> Story {
    let mut set = workload("agent", json!({}));
    // What is in a template is in its hash, and so alike at each telling; what is left of one must not run in the next.
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({"runs": "agents"});
    let node = |name: &str| with(node(name, "True"), "metadata", json!({"labels": {"of": "NAMESPACE", "runs": "agents"}}));
    story(
        &["daemonset-controller"],
        &[DAEMON_SETS, PODS, REVISIONS, "/api/v1/nodes?labelSelector=of%3DNAMESPACE"],
        vec![
            Step::Create(NODES, node("NAMESPACE-a")),
            Step::Create(NODES, node("NAMESPACE-b")),
            Step::Create(DAEMON_SETS, set),
            Step::Patch("/apis/apps/v1/namespaces/NAMESPACE/daemonsets/agent", image("two")),
            Step::Delete("/apis/apps/v1/namespaces/NAMESPACE/daemonsets/agent", "Background"),
            Step::Delete("/api/v1/nodes/NAMESPACE-a", "Background"),
            Step::Delete("/api/v1/nodes/NAMESPACE-b", "Background"),
        ],
    )
}

fn job(name: &str, ends: &str, fields: Value) -> Value {
    let mut template = template(name, json!({"ends": ends}));
    template["spec"]["restartPolicy"] = json!("Never");
    with(json!({"metadata": {"name": name}, "spec": {"template": template}}), "spec", fields)
}

pub fn an_indexed_job_counts_every_pod_once() -> Story {
    let fields = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 2, "backoffLimitPerIndex": 0, "maxFailedIndexes": 2});
    story(&["job-controller"], &[JOBS, PODS], vec![Step::Create(JOBS, job("work", "index-1-fails", fields))])
}

pub fn a_finished_job_goes_in_its_time() -> Story {
    let fields = json!({"completions": 2, "parallelism": 2, "ttlSecondsAfterFinished": 0});
    story(&["job-controller", "ttl-after-finished-controller"], &[JOBS, PODS], vec![Step::Create(JOBS, job("work", "well", fields))])
}

pub fn pods_of_a_deleted_job_are_let_go() -> Story {
    story(
        &["job-orphan-pods", "garbage-collector-controller"],
        &[JOBS, PODS],
        vec![
            Step::Create(JOBS, job("work", "never", json!({"completions": 2, "parallelism": 2}))),
            Step::Delete("/apis/batch/v1/namespaces/NAMESPACE/jobs/work", "Background"),
        ],
    )
}

pub fn a_cron_job_starts_each_run_once_and_keeps_few() -> Story {
    let template = job("run", "well", json!({}))["spec"].clone();
    let now = SystemClock.now();
    // Due once between the cron job's birth and the day after, when the controllers live; by twelve hours, no minute matters.
    let minute = now.strftime("%M").to_string();
    let hour = (now.strftime("%H").to_string().parse::<u32>().unwrap() + 12) % 24;
    let tomorrow = ManualClock::at(now + jiff::SignedDuration::from_hours(23));
    let cron = json!({"metadata": {"name": "nightly"}, "spec": {"schedule": format!("{minute} {hour} * * *"), "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 0, "jobTemplate": {"spec": template}}});
    let told = story(&["cronjob-controller", "job-controller"], &[CRON_JOBS, JOBS, PODS], vec![Step::Create(CRON_JOBS, cron)]);
    Story { clock: Arc::new(tomorrow), ..told }
}

pub fn a_replication_controller_adopts_and_is_bounded_by_quota() -> Story {
    let stray = json!({"metadata": {"name": "stray", "labels": {"app": "old"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
    let controller = json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "selector": {"app": "old"}, "template": template("old", json!({}))}});
    story(
        &["replication-controller", "resourcequota-controller"],
        &[PODS, CONTROLLERS, QUOTAS],
        vec![
            Step::Create(QUOTAS, json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "5"}}})),
            Step::Create(PODS, stray),
            Step::Create(CONTROLLERS, controller),
            // The younger goes, which is the one that was made.
            Step::Patch("/api/v1/namespaces/NAMESPACE/replicationcontrollers/old", json!({"spec": {"replicas": 0}})),
        ],
    )
}

pub fn an_autoscaler_lifts_what_is_too_small() -> Story {
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let autoscaler = json!({"metadata": {"name": "web"}, "spec": {"minReplicas": 2, "maxReplicas": 3, "metrics": [cpu],
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    // What the autoscaler tells of itself is from before it scaled until its next look, which nobody waits for here.
    story(
        &["horizontal-pod-autoscaler-controller", "deployment-controller"],
        &[DEPLOYMENTS, PODS],
        vec![Step::Create(DEPLOYMENTS, workload("web", json!({"replicas": 1}))), Step::Create(AUTOSCALERS, autoscaler)],
    )
}
