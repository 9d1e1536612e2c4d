//! Workloads: apps/v1, batch/v1, autoscaling/v2, policy/v1.
use crate::suite::Suite;
use serde_json::{Value, json};

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]}})
}

fn workload() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()}})
}

#[test]
fn deployments() {
    let suite = Suite::new("apps/v1", "deployments", workload());
    insta::assert_yaml_snapshot!("deployment", suite.stored());
    suite
        .refuses(json!({"spec": {"replicas": -1}}), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"])
        .refuses(json!({"spec": {"selector": null}}), &["spec.selector: Required value"])
        .refuses(json!({"spec": {"selector": {"matchLabels": null}}}), &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"])
        .refuses(
            json!({"spec": {"selector": {"matchLabels": {"app": "db"}}}}),
            &["spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"],
        )
        .refuses(
            json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        )
        .refuses(
            json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}}),
            &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        )
        .refuses(
            json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}}),
            &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        )
        .refuses(
            json!({"spec": {"progressDeadlineSeconds": 5, "minReadySeconds": 5}}),
            &["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
        )
        .refuses(json!({"spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}}), &["spec.template.spec.containers[0].image: Required value"])
        .refuses_update(
            json!({"spec": {"selector": {"matchLabels": {"tier": "x"}}, "template": {"metadata": {"labels": {"tier": "x"}}}}}),
            &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"tier\":\"x\"}}: field is immutable"],
        );
}

#[test]
fn other_workloads() {
    Suite::new("apps/v1", "replicasets", workload())
        .refuses(json!({"spec": {"selector": {"matchLabels": null}}}), &["spec.selector: Invalid value: {}: empty selector is invalid for replicaset"]);
    let daemons = Suite::new("apps/v1", "daemonsets", workload());
    assert_eq!(daemons.stored()["spec"]["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}));
    daemons.refuses(
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}}),
        &["spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"],
    );
    let mut stateful = workload();
    stateful["spec"]["volumeClaimTemplates"] =
        json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let stateful = Suite::new("apps/v1", "statefulsets", stateful);
    insta::assert_yaml_snapshot!("stateful_set", stateful.stored()["spec"]);
    stateful
        .refuses(json!({"spec": {"podManagementPolicy": "Random"}}), &["spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'"])
        .refuses_update(
            json!({"spec": {"serviceName": "other"}}),
            &["spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"],
        )
        .refuses_update(json!({"spec": {"replicas": 3}}), &[])
        // What the pods mount is the claims', which become volumes only in the pods.
        .accepts(json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}}}))
        .refuses(
            json!({"spec": {"template": {"metadata": {"labels": {"a b": "c"}}, "spec": {"restartPolicy": "Never"}}}}),
            &[
                "spec.template.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        );
    let controllers = Suite::new("v1", "replicationcontrollers", json!({"spec": {"template": template()}}));
    assert_eq!(controllers.stored()["spec"]["selector"], json!({"app": "web"}));
    Suite::new("apps/v1", "controllerrevisions", json!({"revision": 1, "data": {}}))
        .refuses_update(json!({"data": {"x": 1}}), &["data: Invalid value: {\"x\":1}: field is immutable"]);
    Suite::new("v1", "podtemplates", json!({"template": template()}));
}

fn job() -> Value {
    json!({"metadata": {"name": "pi"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "pi", "image": "perl"}]}}}})
}

#[test]
fn jobs() {
    let suite = Suite::new("batch/v1", "jobs", job());
    insta::assert_yaml_snapshot!("job", suite.stored());
    suite
        .refuses(json!({"spec": {"template": {"spec": {"restartPolicy": null}}}}), &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""])
        .refuses(json!({"spec": {"completionMode": "Indexed", "completions": null, "parallelism": 2}}), &["spec.completions: Required value: when completion mode is Indexed"])
        .refuses(json!({"spec": {"backoffLimit": -1}}), &["spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"])
        .refuses(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}), &["spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"00000000-0000-0000-0000-000000000001\",\"batch.kubernetes.io/job-name\":\"pi\",\"controller-uid\":\"00000000-0000-0000-0000-000000000001\",\"job-name\":\"pi\"}: `selector` does not match template `labels`"])
        .refuses_update(json!({"spec": {"completions": 2}}), &["spec.completions: Invalid value: 2: field is immutable"])
        .refuses_update(json!({"spec": {"parallelism": 2, "suspend": true}}), &[]);
    let resource = api_builtins::find("batch", "v1", "jobs").unwrap();
    assert!(resource.orphans_by_default());
}

#[test]
fn cron_jobs() {
    let suite = Suite::new("batch/v1", "cronjobs", json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": job()["spec"]}}}));
    suite
        .refuses(json!({"spec": {"schedule": "soon"}}), &["spec.schedule: Invalid value: \"soon\": expected exactly 5 fields, found 1: [soon]"])
        .refuses(
            json!({"spec": {"schedule": "TZ=UTC 0 * * * *"}}),
            &["spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"],
        )
        .refuses(json!({"spec": {"timeZone": "Mars/Olympus"}}), &["spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus"])
        .refuses(
            json!({"spec": {"concurrencyPolicy": "Maybe"}}),
            &["spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\""],
        )
        .refuses(
            json!({"metadata": {"name": "x".repeat(53)}}),
            &["metadata.name: Invalid value: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\": must be no more than 52 characters"],
        );
}

#[test]
fn autoscalers_and_budgets() {
    let suite =
        Suite::new("autoscaling/v2", "horizontalpodautoscalers", json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3}}));
    assert_eq!(suite.stored()["spec"]["metrics"][0]["resource"]["target"], json!({"type": "Utilization", "averageUtilization": 80}));
    suite.refuses(json!({"spec": {"minReplicas": 4}}), &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"]).refuses(
        json!({"spec": {"metrics": [{"type": "Resource"}]}}),
        &["spec.metrics[0].resource: Required value: must populate information for the given metric source"],
    );
    Suite::new("policy/v1", "poddisruptionbudgets", json!({"spec": {"minAvailable": 1, "selector": {}}}))
        .refuses(
            json!({"spec": {"maxUnavailable": 1}}),
            &["spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1,\"selector\":{}}: minAvailable and maxUnavailable cannot be both set"],
        )
        .refuses(json!({"spec": {"minAvailable": "150%"}}), &["spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%"]);
}
