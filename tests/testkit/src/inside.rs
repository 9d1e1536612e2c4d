//! Inside: the same tests once more, in a virtual cluster of the server they start.
use crate::{Server, Tool, wait_until};
use std::path::Path;
use std::time::Duration;

/// Set to `1`, tests talk to a virtual cluster instead of the host cluster.
pub const VARIABLE: &str = "K8SHOST_TEST_INSIDE";

/// What the cluster is made with: its pods may do what the tests ask of nodes.
const MANIFESTS: &str = "
apiVersion: k3k.io/v1beta1
kind: VirtualClusterPolicy
metadata: {name: tests}
spec: {podSecurityAdmissionLevel: privileged}
---
apiVersion: v1
kind: Namespace
metadata: {name: tenants, labels: {policy.k3k.io/policy-name: tests}}
---
apiVersion: k3k.io/v1beta1
kind: Cluster
metadata: {name: inside, namespace: tenants}
spec: {mirrorHostNodes: true}
";

pub fn is_wanted() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value == "1")
}

/// Makes the cluster where it is missing, and the server's kubeconfig the one of its administrator.
pub fn enter(server: &Server) {
    if server.kubeconfig().exists() {
        return;
    }
    let host: Tool = server.host_tool();
    wait_until("the host cluster knows of virtual ones", Duration::from_secs(20), || host.kubectl_with("apply -f -", MANIFESTS).success);
    kubeconfig(&host, "tenants", "inside", &server.kubeconfig());
}

/// Writes the kubeconfig of a virtual cluster's administrator to a file, once the cluster has one.
pub fn kubeconfig(host: &Tool, namespace: &str, name: &str, file: &Path) {
    let secret = format!("k3k-{name}-kubeconfig");
    let template = "-o=go-template={{index .data \"kubeconfig.yaml\" | base64decode}}";
    let mut kubeconfig = String::new();
    wait_until("the virtual cluster has a kubeconfig", Duration::from_secs(20), || {
        let read = host.kubectl(["get", "secret", "-n", namespace, &secret, template]);
        kubeconfig = read.stdout;
        read.success && !kubeconfig.is_empty()
    });
    std::fs::write(file, kubeconfig).expect("the kubeconfig can be written");
}
