//! Escalation: nobody grants what they do not hold, unless they were told that they may.
use crate::support::quiet;
use serde_json::{Value, json};
use testkit::{Api, Reply};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    json!({
        "metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}],
    })
}

/// Lets `mallory` do this in every namespace.
fn allow(api: &Api, name: &str, rules: Value) {
    api.post(&format!("{RBAC}/clusterroles"), &role(name, rules)).ok();
    api.post(&format!("{RBAC}/clusterrolebindings"), &binding(name, "ClusterRole", name)).ok();
}

fn refused(reply: &Reply) -> String {
    let (code, reason, message) = reply.refusal();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"), "{message}");
    message
}

#[test]
fn roles_grant_no_more_than_their_author_holds() {
    let (_server, api) = quiet();
    allow(
        &api,
        "role-writer",
        json!([rule("rbac.authorization.k8s.io", &["roles", "clusterroles"], &["create", "update", "patch", "get"]), rule("", &["pods"], &["get", "list"])]),
    );
    let mallory = api.acting_as("mallory", &[]);
    assert_eq!(mallory.post(ROLES, &role("held", json!([rule("", &["pods"], &["get"])]))).code, 201);
    let secrets = json!([rule("", &["pods"], &["get"]), rule("", &["secrets"], &["get", "list"])]);
    assert_eq!(
        refused(&mallory.post(ROLES, &role("more", secrets.clone()))),
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"mallory\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
    );
    assert_eq!(api.get(&format!("{ROLES}/more")).code, 404);
    let held = format!("{ROLES}/held");
    refused(&mallory.put(&held, &role("held", secrets.clone())));
    refused(&mallory.patch("merge", &held, &json!({ "rules": secrets })));
    refused(&mallory.patch("json", &held, &json!([{"op": "add", "path": "/rules/-", "value": rule("", &["secrets"], &["get"])}])));
    let apply = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "applied"}, "rules": secrets});
    refused(&mallory.patch("apply", &format!("{ROLES}/applied?fieldManager=m"), &apply));
    refused(&mallory.post(&format!("{ROLES}?dryRun=All"), &role("dry", secrets.clone())));
    refused(&mallory.post(&format!("{RBAC}/clusterroles"), &role("cluster", json!([{"nonResourceURLs": ["*"], "verbs": ["get"]}]))));
    let aggregated = json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}, "rules": []});
    assert!(refused(&mallory.post(&format!("{RBAC}/clusterroles"), &aggregated)).ends_with("must have cluster-admin privileges to use the aggregationRule"));
    // What the garbage collector needs can be changed on any role.
    api.post(ROLES, &role("foreign", secrets.clone())).ok();
    mallory.patch("merge", &format!("{ROLES}/foreign"), &json!({"metadata": {"finalizers": ["example.com/a"]}})).ok();
    refused(&mallory.patch("merge", &format!("{ROLES}/foreign"), &json!({"metadata": {"labels": {"a": "b"}}})));
    // Who was told that they may, may.
    allow(&api, "escalator", json!([rule("rbac.authorization.k8s.io", &["roles"], &["escalate"])]));
    assert_eq!(mallory.post(ROLES, &role("more", secrets)).code, 201);
}

#[test]
fn bindings_bind_no_more_than_their_author_holds() {
    let (_server, api) = quiet();
    allow(
        &api,
        "binder",
        json!([rule("rbac.authorization.k8s.io", &["rolebindings", "clusterrolebindings"], &["create", "update", "patch"]), rule("", &["pods"], &["get"])]),
    );
    let mallory = api.acting_as("mallory", &[]);
    api.post(ROLES, &role("pods", json!([rule("", &["pods"], &["get"])]))).ok();
    api.post(ROLES, &role("secrets", json!([rule("", &["secrets"], &["*"])]))).ok();
    assert_eq!(mallory.post(BINDINGS, &binding("held", "Role", "pods")).code, 201);
    assert!(refused(&mallory.post(BINDINGS, &binding("more", "Role", "secrets"))).contains("{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"*\"]}"));
    let admin = refused(&mallory.post(&format!("{RBAC}/clusterrolebindings"), &binding("admin", "ClusterRole", "cluster-admin")));
    assert!(admin.starts_with("clusterrolebindings.rbac.authorization.k8s.io \"admin\" is forbidden: user \"mallory\""), "{admin}");
    assert_eq!(mallory.post(BINDINGS, &binding("none", "Role", "none")).refusal().2, "roles.rbac.authorization.k8s.io \"none\" not found");
    assert_eq!(api.get("/api/v1/namespaces/default/secrets").code, 200);
    refused(&mallory.get("/api/v1/namespaces/default/secrets"));
    // A binding to one role may be allowed without holding what it grants.
    let bind_one = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["bind"], "resourceNames": ["secrets"]}]);
    allow(&api, "one", bind_one);
    assert_eq!(mallory.post(BINDINGS, &binding("more", "Role", "secrets")).code, 201);
    assert_eq!(mallory.get("/api/v1/namespaces/default/secrets").code, 200);
    // The role of a binding never changes.
    let (code, _, message) = api.patch("merge", &format!("{BINDINGS}/more"), &json!({"roleRef": {"name": "pods"}})).refusal();
    assert_eq!(code, 422);
    assert!(message.contains("cannot change roleRef"), "{message}");
}
