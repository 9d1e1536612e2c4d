//! What a policy wants in each of its namespaces, and whether what is there is that.
use crate::kinds::Policy;
use crate::names::{self, MANAGED_BY, POLICY_CONTROLLER, POLICY_LABEL};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// The three kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Quota,
    Limits,
    Network,
}

pub const SORTS: [Sort; 3] = [Sort::Quota, Sort::Limits, Sort::Network];

/// The object of a sort; `None` when the policy says nothing of it.
pub fn wanted(sort: Sort, policy: &Policy, namespace: &str, cluster_cidrs: &[IpNet]) -> Option<Value> {
    let (api_version, kind, spec) = match sort {
        Sort::Quota => ("v1", "ResourceQuota", texts(policy.spec.quota.clone()?)),
        Sort::Limits => ("v1", "LimitRange", with_defaults(texts(policy.spec.limit.clone()?))),
        Sort::Network if policy.spec.disable_network_policy => return None,
        Sort::Network => ("networking.k8s.io/v1", "NetworkPolicy", network(namespace, cluster_cidrs)),
    };
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    Some(json!({
        "apiVersion": api_version, "kind": kind, "spec": spec,
        "metadata": {
            "name": names::policy(name),
            "namespace": namespace,
            "labels": {MANAGED_BY: POLICY_CONTROLLER, POLICY_LABEL: name},
            "ownerReferences": [{
                "apiVersion": "k3k.io/v1beta1", "kind": "VirtualClusterPolicy", "name": name, "uid": policy.metadata.uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
    }))
}

/// Out to everywhere but the pod network, and there to the own namespace and the cluster's DNS; in from everywhere, which others' rules out restrict.
fn network(namespace: &str, cluster_cidrs: &[IpNet]) -> Value {
    let anywhere = |pods: &IpNet| if pods.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let outside = cluster_cidrs.iter().map(|pods| json!({"ipBlock": {"cidr": anywhere(pods), "except": [pods]}}));
    let namespaced = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let inside = [
        json!({"namespaceSelector": namespaced(namespace)}),
        json!({"namespaceSelector": namespaced("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}),
    ];
    json!({
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}],
        "egress": [{"to": outside.chain(inside).collect::<Vec<_>>()}],
    })
}

/// Quantities may be written as numbers in a policy; core objects have them as text.
fn texts(value: Value) -> Value {
    match value {
        Value::Number(number) => number.to_string().into(),
        Value::Array(items) => items.into_iter().map(texts).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, texts(value))).collect::<Map<_, _>>().into(),
        other => other,
    }
}

/// What the server makes of a LimitRange for containers: limits default to the maximum, requests to the limits or the minimum.
fn with_defaults(mut spec: Value) -> Value {
    for limit in spec["limits"].as_array_mut().into_iter().flatten().filter(|limit| limit["type"] == "Container") {
        for (into, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            for (resource, quantity) in limit[from].as_object().cloned().unwrap_or_default() {
                if limit[into][&resource].is_null() {
                    limit[into][resource] = quantity;
                }
            }
        }
    }
    spec
}
