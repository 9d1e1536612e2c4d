//! Roles in kube-system and kube-public, and who has them.
use super::{READ, binding, events, named, role, rule, service_account, user};
use serde_json::Value;

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";

pub(super) fn roles() -> Vec<Value> {
    let leader = |name: &str| {
        let rules = vec![rule("watch", "core", "configmaps"), named("get update", "core", "configmaps", name)];
        role(SYSTEM, &format!("system::leader-locking-{name}"), rules)
    };
    vec![
        role(SYSTEM, "extension-apiserver-authentication-reader", vec![named(READ, "core", "configmaps", "extension-apiserver-authentication")]),
        role(SYSTEM, "system:controller:bootstrap-signer", vec![rule(READ, "core", "secrets")]),
        role(SYSTEM, "system:controller:cloud-provider", vec![rule("create get list update watch", "core", "configmaps")]),
        role(SYSTEM, "system:controller:token-cleaner", vec![rule("delete get list watch", "core", "secrets"), events()]),
        leader("kube-controller-manager"),
        leader("kube-scheduler"),
        role(
            PUBLIC,
            "system:controller:bootstrap-signer",
            vec![rule(READ, "core", "configmaps"), named("update", "core", "configmaps", "cluster-info"), events()],
        ),
    ]
}

pub(super) fn bindings() -> Vec<Value> {
    let controller = |namespace: &str, name: &str| {
        let role = format!("system:controller:{name}");
        binding(namespace, &role, &role, vec![service_account(SYSTEM, name)])
    };
    let leader = |name: &str| {
        let role = format!("system::leader-locking-{name}");
        binding(SYSTEM, &role, &role, vec![user(&format!("system:{name}")), service_account(SYSTEM, name)])
    };
    vec![
        binding(
            SYSTEM,
            "system::extension-apiserver-authentication-reader",
            "extension-apiserver-authentication-reader",
            vec![user("system:kube-controller-manager"), user("system:kube-scheduler")],
        ),
        controller(SYSTEM, "bootstrap-signer"),
        controller(SYSTEM, "cloud-provider"),
        controller(SYSTEM, "token-cleaner"),
        leader("kube-controller-manager"),
        leader("kube-scheduler"),
        controller(PUBLIC, "bootstrap-signer"),
    ]
}
