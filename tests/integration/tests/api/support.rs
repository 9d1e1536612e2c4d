//! What these tests have in common.
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Api, Server, ServerOptions};

/// Far more than anything here takes.
pub const SOON: Duration = Duration::from_secs(30);
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server in which nothing but the test writes, and its admin.
pub fn quiet() -> (Server, Api) {
    let server = Server::start(ServerOptions {
        arguments: ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam"].map(Into::into).into(),
        ..ServerOptions::default()
    });
    let api = server.api();
    // Pods need one, and no controller makes it here.
    api.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).ok();
    (server, api)
}

pub fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

pub fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    })
}

/// The names of a list's items.
pub fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().expect("a list").iter().map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

/// Everything in the namespaces tests write to, as it is stored.
pub fn everything(api: &Api) -> Vec<Value> {
    const WHERE: [&str; 10] = [
        "/api/v1/namespaces",
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/namespaces/default/pods",
        "/api/v1/namespaces/default/secrets",
        "/api/v1/namespaces/default/services",
        "/api/v1/namespaces/default/serviceaccounts",
        "/apis/apps/v1/namespaces/default/deployments",
        "/apis/coordination.k8s.io/v1/namespaces/default/leases",
        "/apis/networking.k8s.io/v1/ipaddresses",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    ];
    WHERE.iter().map(|path| api.get(path).ok()["items"].take()).collect()
}
