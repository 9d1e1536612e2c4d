//! Autoscaling by what others measure, asked of an aggregated server: of pods, of an object, and of nothing in the cluster.
use crate::aggregation::{sample, service};
use crate::support::{SOON, deployment};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Aggregated, Api, Server, ServerOptions, wait_until};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

/// The sample server answers for one version of a group.
fn register(api: &Api, sample: &Aggregated, group: &str, version: &str) {
    let spec = json!({"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100, "caBundle": STANDARD.encode(&sample.ca_pem),
        "service": {"namespace": "default", "name": "garden", "port": sample.port}});
    let name = format!("{version}.{group}");
    api.post("/apis/apiregistration.k8s.io/v1/apiservices", &json!({"metadata": {"name": name}, "spec": spec})).ok();
}

/// One pod of the deployment runs, as far as the API knows; gives its name.
fn running_pod(api: &Api, app: &str) -> String {
    let pods = format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{app}");
    let mut name = String::new();
    wait_until("the deployment's pod is there", SOON, || {
        name = api.get(&pods).ok()["items"][0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        !name.is_empty()
    });
    let at = "2026-01-01T00:00:00Z";
    let status = json!({"phase": "Running", "startTime": at, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]});
    api.patch("merge", &format!("/api/v1/namespaces/default/pods/{name}/status"), &json!({"status": status})).ok();
    name
}

fn autoscaler(api: &Api, target: &str, metric: &Value) {
    let spec =
        json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "minReplicas": 1, "maxReplicas": 5, "metrics": [metric]});
    api.post(AUTOSCALERS, &json!({"metadata": {"name": target}, "spec": spec})).ok();
}

fn condition(api: &Api, name: &str, kind: &str) -> Value {
    let found = api.get(&format!("{AUTOSCALERS}/{name}")).ok();
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

#[test]
fn replicas_follow_metrics_that_others_know() {
    let server = Server::start(ServerOptions {
        arguments: ["--disable-agent", "--disable", "scheduler,hosting,iam"].map(Into::into).into(),
        ..ServerOptions::default()
    });
    let api = server.api();
    for name in ["pods", "object", "external"] {
        let mut deployment = deployment(name);
        deployment["spec"]["replicas"] = json!(1);
        api.post(DEPLOYMENTS, &deployment).ok();
    }
    let pod = running_pod(&api, "pods");
    running_pod(&api, "object");
    running_pod(&api, "external");
    // Nobody knows them yet.
    let external = json!({"type": "External", "external": {"metric": {"name": "waiting", "selector": {"matchLabels": {"queue": "in"}}},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    autoscaler(&api, "external", &external);
    wait_until("what is not known is said", SOON, || condition(&api, "external", "ScalingActive")["reason"] == "FailedGetExternalMetric");
    let why = condition(&api, "external", "ScalingActive")["message"].as_str().unwrap_or_default().to_owned();
    let expected =
        "the HPA was unable to compute the replica count: unable to get external metric waiting/queue=in: unable to fetch metrics from external metrics API: ";
    assert!(why.starts_with(expected), "{why}");

    let sample = sample(&api);
    service(&api);
    sample.measure("waiting", &[("", "20"), ("", "10")]);
    sample.measure("requests", &[(pod.as_str(), "25"), ("another", "100")]);
    sample.measure("visitors", &[("shop", "40")]);
    register(&api, &sample, "custom.metrics.k8s.io", "v1beta2");
    register(&api, &sample, "external.metrics.k8s.io", "v1beta1");
    for name in ["v1beta2.custom.metrics.k8s.io", "v1beta1.external.metrics.k8s.io"] {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
        wait_until("the metrics are served", SOON, || api.get(&path).ok()["status"]["conditions"][0]["status"] == "True");
    }
    autoscaler(&api, "pods", &json!({"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "10"}}}));
    let shop = json!({"apiVersion": "v1", "kind": "Service", "name": "shop"});
    autoscaler(
        &api,
        "object",
        &json!({"type": "Object", "object": {"metric": {"name": "visitors"}, "describedObject": shop, "target": {"type": "Value", "value": "20"}}}),
    );
    for (name, replicas, from) in
        [("pods", 3, "pods metric requests"), ("object", 2, "Service metric visitors"), ("external", 3, "external metric waiting(queue=in)")]
    {
        wait_until(&format!("{name} is scaled"), SOON, || api.get(&format!("{DEPLOYMENTS}/{name}")).ok()["spec"]["replicas"] == replicas);
        // The status follows.
        let expected = format!("the HPA was able to successfully calculate a replica count from {from}");
        wait_until(&format!("{name} says so"), SOON, || condition(&api, name, "ScalingActive")["message"] == *expected);
    }
    let asked: Vec<String> = sample.asked().into_iter().map(|asked| asked.path).collect();
    let queue = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/waiting?labelSelector=queue%3Din";
    assert!(asked.iter().any(|path| path == queue), "{asked:?}");
    let shown = api.get(&format!("{AUTOSCALERS}/external")).ok()["status"]["currentMetrics"][0]["external"].clone();
    assert_eq!(shown["metric"]["name"], "waiting");
}
