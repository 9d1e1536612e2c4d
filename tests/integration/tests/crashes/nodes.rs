//! Stories of nodes and their pods.
use crate::story::{NODES, PODS, Step, Story, node, story};
use api_meta::ClusterName;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clock::SystemClock;
use controller_kit::async_trait;
use controllers::{NodeRanges, Signer};
use pki::CertificateAuthority;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const OWN_NODES: &str = "/api/v1/nodes?labelSelector=of%3DNAMESPACE";

fn pod(name: &str, spec: Value) -> Value {
    let spec = crate::story::with(json!({"spec": {"containers": [{"name": "c", "image": "one"}]}}), "spec", spec);
    json!({"metadata": {"name": name}, "spec": spec["spec"]})
}

pub fn a_node_that_is_not_ready_loses_its_pods() -> Story {
    let impatient = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}]);
    let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    story(
        &["node-lifecycle-controller", "taint-eviction-controller"],
        &[OWN_NODES, PODS],
        vec![
            Step::Create(NODES, node("NAMESPACE-a", "True")),
            Step::Create(PODS, pod("impatient", json!({"nodeName": "NAMESPACE-a", "tolerations": impatient}))),
            Step::Create(PODS, pod("patient", json!({"nodeName": "NAMESPACE-a"}))),
            Step::Patch("/api/v1/nodes/NAMESPACE-a/status", ready("False")),
            Step::Delete("/api/v1/namespaces/NAMESPACE/pods/impatient", "Background&gracePeriodSeconds=0"),
            Step::Patch("/api/v1/nodes/NAMESPACE-a/status", ready("True")),
        ],
    )
}

/// An authority like the server's.
struct Authority(CertificateAuthority);

#[async_trait]
impl Signer for Authority {
    async fn sign(&self, _: &ClusterName, request_pem: &str, usage: pki::Usage, validity: Duration) -> Result<String, String> {
        self.0.sign_request(request_pem, usage, validity, &SystemClock).map_err(|error| error.to_string())
    }
}

pub fn a_machine_joins_and_leaves() -> Story {
    let asked = pki::request_pem("system:node:machine", "system:nodes", &[], &[], &pki::new_key_pem().unwrap()).unwrap();
    let request = json!({"metadata": {"name": "NAMESPACE"}, "spec": {"request": STANDARD.encode(asked),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["client auth", "digital signature"]}});
    let mut told = story(
        &["certificatesigningrequest-controller", "node-key-controller", "node-ipam-controller", "node-dns-controller"],
        &[
            OWN_NODES,
            "/apis/certificates.k8s.io/v1/certificatesigningrequests?fieldSelector=metadata.name%3DNAMESPACE",
            "/api/v1/namespaces/kube-system/secrets?fieldSelector=metadata.name%3Dmachine.node-key.k8shost",
            "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices?fieldSelector=metadata.name%3Dkube-dns-machine",
        ],
        vec![
            Step::Create("/apis/certificates.k8s.io/v1/certificatesigningrequests", request),
            Step::Create(NODES, node("machine", "True")),
            Step::Delete("/api/v1/nodes/machine", "Background"),
        ],
    );
    told.settings.signer = Some(Arc::new(Authority(CertificateAuthority::generate("clients", &SystemClock).unwrap())));
    told.settings.node_ranges = vec![
        NodeRanges { cluster_cidr: "10.244.0.0/16".parse().unwrap(), prefix: 24, reserved: None },
        NodeRanges { cluster_cidr: "fd42::/56".parse().unwrap(), prefix: 64, reserved: None },
    ];
    told.settings.dns_port = Some(10_053);
    Story { but: &["certificate"], ..told }
}

pub fn finished_pods_are_few_and_a_disruption_is_taken_back() -> Story {
    let ended = |name: &str| {
        let mut pod = pod(name, json!({"restartPolicy": "Never"}));
        pod["metadata"]["labels"] = json!({"ends": "well"});
        pod
    };
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "Tried", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let mut told = story(
        &["pod-garbage-collector-controller", "stale-pod-disruption"],
        &[PODS],
        vec![
            Step::Create(PODS, ended("a")),
            Step::Create(PODS, ended("b")),
            Step::Create(PODS, ended("c")),
            Step::Create(PODS, pod("stays", json!({}))),
            Step::Patch("/api/v1/namespaces/NAMESPACE/pods/stays/status", json!({"status": {"conditions": [target]}})),
        ],
    );
    told.settings.terminated_pod_gc_threshold = 1;
    told
}
