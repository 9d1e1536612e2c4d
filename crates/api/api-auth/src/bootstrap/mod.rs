//! The roles and bindings every cluster starts with: upstream's bootstrap policy.
mod cluster_roles;
mod controllers;
mod roles;

use crate::Rule;
use serde_json::{Value, json};

pub use cluster_roles::node_rules;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const READ_WRITE: &str = "create delete deletecollection get list patch update watch";
const EVENTS_GROUPS: &str = "core events.k8s.io";

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings, each once. The rules of admin, edit and
/// view are already aggregated. Whoever reconciles them does so unless the annotation
/// `rbac.authorization.kubernetes.io/autoupdate` says "false".
pub fn objects() -> Vec<Value> {
    [cluster_roles::cluster_roles(), controllers::cluster_roles(), cluster_roles::bindings(), controllers::bindings(), roles::roles(), roles::bindings()]
        .concat()
}

/// Verbs on resources; each argument is a list of words, the group `core` is "".
fn rule(verbs: &str, groups: &str, resources: &str) -> Rule {
    let groups = words(groups).into_iter().map(|group| if group == "core" { String::new() } else { group }).collect();
    Rule { verbs: words(verbs), api_groups: groups, resources: words(resources), ..Rule::default() }
}

fn named(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
    Rule { resource_names: words(names), ..rule(verbs, groups, resources) }
}

fn paths(verbs: &str, urls: &str) -> Rule {
    Rule { verbs: words(verbs), non_resource_urls: words(urls), ..Rule::default() }
}

fn events() -> Rule {
    rule("create patch update", EVENTS_GROUPS, "events")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn cluster_role(name: &str, rules: Vec<Rule>) -> Value {
    let mut role = object("ClusterRole", "", name);
    role["rules"] = serde_json::to_value(rules).expect("rules are lists of strings");
    role
}

fn role(namespace: &str, name: &str, rules: Vec<Rule>) -> Value {
    let mut role = object("Role", namespace, name);
    role["rules"] = serde_json::to_value(rules).expect("rules are lists of strings");
    role
}

fn user(name: &str) -> Value {
    json!({"apiGroup": GROUP, "kind": "User", "name": name})
}

fn group(name: &str) -> Value {
    json!({"apiGroup": GROUP, "kind": "Group", "name": name})
}

fn service_account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

fn cluster_binding(name: &str, role: &str, subjects: Vec<Value>) -> Value {
    let mut binding = object("ClusterRoleBinding", "", name);
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": role});
    if !subjects.is_empty() {
        binding["subjects"] = subjects.into();
    }
    binding
}

fn binding(namespace: &str, name: &str, role: &str, subjects: Vec<Value>) -> Value {
    let mut binding = object("RoleBinding", namespace, name);
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "Role", "name": role});
    binding["subjects"] = subjects.into();
    binding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, RbacIndex, RbacKind, User};
    use api_meta::{ClusterName, Object};
    use std::collections::HashSet;

    #[test]
    fn every_object_has_a_name_of_its_own_and_every_binding_its_role() {
        let mut seen = HashSet::new();
        let key = |kind: &str, namespace: &str, name: &str| format!("{kind}/{namespace}/{name}");
        let all = objects();
        for object in &all {
            let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
            assert!(seen.insert(key(kind, metadata["namespace"].as_str().unwrap_or(""), metadata["name"].as_str().unwrap())), "{metadata} is there twice");
        }
        for binding in all.iter().filter(|object| object.get("roleRef").is_some()) {
            let role = &binding["roleRef"];
            let kind = role["kind"].as_str().unwrap();
            let namespace = if kind == "Role" { binding["metadata"]["namespace"].as_str().unwrap() } else { "" };
            assert!(seen.contains(&key(kind, namespace, role["name"].as_str().unwrap())), "{role} is missing");
        }
    }

    #[test]
    fn admin_edit_and_view_grow_from_each_other() {
        let (index, cluster) = (RbacIndex::default(), ClusterName::root());
        for value in objects() {
            let resource = format!("{}s", value["kind"].as_str().unwrap().to_lowercase());
            let object = Object::parse(serde_json::to_vec(&value).unwrap().into()).unwrap();
            index.apply(&cluster, RbacKind::of(GROUP, &resource).unwrap(), &object);
        }
        let attributes = |verb: &'static str, group: &'static str, resource: &'static str| (verb, group, resource);
        let may = |role: &str, (verb, group, resource): (&str, &str, &str)| {
            let user = User::default();
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let asked = Attributes { cluster: &cluster, user: &user, verb, group, version: "", resource, subresource, namespace: "a", name: "", path: "" };
            index.role_rules(&cluster, "", role).unwrap().iter().any(|rule| rule.allows(&asked))
        };
        for (asked, roles) in [
            (attributes("get", "", "pods/log"), "view edit admin cluster-admin"),
            (attributes("get", "", "secrets"), "edit admin cluster-admin"),
            (attributes("create", "apps", "deployments"), "edit admin cluster-admin"),
            (attributes("create", GROUP, "rolebindings"), "admin cluster-admin"),
            (attributes("create", "", "nodes"), "cluster-admin"),
        ] {
            for role in ["view", "edit", "admin", "cluster-admin"] {
                assert_eq!(may(role, asked), roles.split(' ').any(|r| r == role), "{role} {asked:?}");
            }
        }
        let discovery = |user: User, path: &'static str| {
            index
                .authorize(&Attributes {
                    cluster: &cluster,
                    user: &user,
                    verb: "get",
                    group: "",
                    version: "",
                    resource: "",
                    subresource: "",
                    namespace: "",
                    name: "",
                    path,
                })
                .is_allowed()
        };
        assert!(discovery(User::anonymous(), "/healthz"));
        assert!(!discovery(User::anonymous(), "/apis"));
        assert!(discovery(User::authenticated("x", []), "/apis/apps/v1"));
    }
}
