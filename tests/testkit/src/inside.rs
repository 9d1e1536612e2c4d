//! Inside: virtual clusters for tests, and the same tests once more in one of the server they start.
use crate::{Api, Server, wait_until};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Set to `1`, tests talk to a virtual cluster instead of the host cluster.
pub const VARIABLE: &str = "K8SHOST_TEST_INSIDE";
const PATIENCE: Duration = Duration::from_secs(30);

pub fn is_wanted() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value == "1")
}

/// Makes the cluster that is tested where it is missing, and the server's kubeconfig the one of its administrator.
pub(crate) fn enter(server: &Server) {
    if server.kubeconfig().exists() {
        return;
    }
    let host = server.host_api();
    // Its pods may do what tests ask of nodes.
    let policy = json!({"metadata": {"name": "tests"}, "spec": {"podSecurityAdmissionLevel": "privileged"}});
    created(&host, "/apis/k3k.io/v1beta1/virtualclusterpolicies", &policy);
    created(&host, "/api/v1/namespaces", &json!({"metadata": {"name": "tenants", "labels": {"policy.k3k.io/policy-name": "tests"}}}));
    make(&host, "tenants", "inside", &json!({"mirrorHostNodes": true}), &server.kubeconfig());
}

/// Makes a virtual cluster and writes the kubeconfig of its administrator to a file.
pub(crate) fn make(host: &Api, namespace: &str, name: &str, spec: &Value, file: &Path) {
    let cluster = json!({"metadata": {"name": name}, "spec": spec});
    created(host, "/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
    created(host, &format!("/apis/k3k.io/v1beta1/namespaces/{namespace}/clusters"), &cluster);
    let secret = format!("/api/v1/namespaces/{namespace}/secrets/k3k-{name}-kubeconfig");
    let mut found = Value::Null;
    wait_until("the virtual cluster has a kubeconfig", PATIENCE, || {
        let reply = host.get(&secret);
        found = reply.json();
        reply.code == 200
    });
    let encoded = found["data"]["kubeconfig.yaml"].as_str().expect("the Secret holds a kubeconfig");
    std::fs::write(file, STANDARD.decode(encoded).expect("a Secret's data are base64")).expect("the kubeconfig can be written");
}

/// Creates an object once its kind is served; it may be there already.
fn created(host: &Api, path: &str, object: &Value) {
    let mut last = String::new();
    wait_until(&format!("{path} takes the object"), PATIENCE, || {
        let reply = host.post(path, object);
        last = reply.text();
        assert!(matches!(reply.code, 201 | 404 | 409), "{path}: {last}");
        reply.code != 404
    });
}
