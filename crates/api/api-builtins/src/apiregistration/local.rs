//! The APIServices of what this server answers for itself: one for each group and version.
use serde_json::{Value, json};

/// Who keeps such an object: made at the start and left alone then, or kept as the definitions in the cluster say.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// What groups of custom resources have.
const CUSTOM: (i64, i64) = (1000, 100);

/// Upstream's priorities of groups: the higher comes first in discovery.
const GROUPS: &[(&str, i64)] = &[
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
    ("storagemigration.k8s.io", 15_800),
];

/// Of a group and version that is built in.
pub fn builtin(group: &str, version: &str, now: &str) -> Value {
    let group_priority = GROUPS.iter().find(|(name, _)| *name == group).map_or(100, |(_, priority)| *priority);
    let version_priority = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io", _) => 21,
        ("metrics.k8s.io", _) => 100,
        _ => 15,
    };
    object(group, version, (group_priority, version_priority), "onstart", now)
}

/// Of a group and version that definitions serve.
pub fn custom(group: &str, version: &str, now: &str) -> Value {
    object(group, version, CUSTOM, "true", now)
}

fn object(group: &str, version: &str, (group_priority, version_priority): (i64, i64), managed: &str, now: &str) -> Value {
    let available =
        json!({ "type": "Available", "status": "True", "lastTransitionTime": now, "reason": "Local", "message": "Local APIServices are always available" });
    let mut spec = json!({ "version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": format!("{version}.{group}"), "labels": { MANAGED: managed } }, "spec": spec, "status": { "conditions": [available] } })
}
