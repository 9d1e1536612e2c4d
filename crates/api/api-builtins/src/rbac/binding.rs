//! What RoleBindings and ClusterRoleBindings have in common: subjects and the role they get.
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Row};
use serde_json::Value;

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Users, groups and roles are RBAC's own; service accounts are core's, which has no name to fill in.
pub fn default(object: &mut Value) {
    object.open("roleRef").zero("apiGroup", GROUP);
    for subject in object.each("subjects") {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            subject.zero("apiGroup", GROUP);
        }
    }
}

pub const COLUMNS: &[Column] = &[
    Column::with("Role", |row| format!("{}/{}", row.object["roleRef"]["kind"].text(), row.object["roleRef"]["name"].text()).into()),
    Column::with("Users", |row| subjects(row, "User")).wide(),
    Column::with("Groups", |row| subjects(row, "Group")).wide(),
    Column::with("ServiceAccounts", |row| subjects(row, "ServiceAccount")).wide(),
];

fn subjects(row: &Row, kind: &str) -> Value {
    let name = |subject: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", subject["namespace"].text(), subject["name"].text()),
        _ => subject["name"].text().to_owned(),
    };
    row.object["subjects"].list().iter().filter(|subject| subject["kind"] == kind).map(name).collect::<Vec<_>>().join(", ").into()
}

/// A binding; the role it binds can't be changed, only its subjects.
pub fn validate(new: &Value, old: Option<&Value>, namespaced: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let root = At::root(new);
    let role = root.field("roleRef");
    if role["apiGroup"].text() != GROUP {
        errors.not_supported(&role.field("apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role["kind"].text()) {
        errors.not_supported(&role.field("kind"), kinds);
    }
    errors.named(&role.field("name"), names::path_segment);
    let subjects = root.field("subjects");
    for subject in subjects.items() {
        self::subject(&mut errors, &subject, namespaced);
    }
    if let Some(old) = old
        && old["roleRef"] != *role.value()
    {
        errors.invalid(&role, "cannot change roleRef");
    }
    errors
}

fn subject(errors: &mut FieldErrors, subject: &At, namespaced: bool) {
    let (kind, name, group, namespace) = (subject.field("kind"), subject.field("name"), subject.field("apiGroup"), subject.field("namespace"));
    errors.present(&name);
    match kind.text() {
        "ServiceAccount" => {
            errors.named_if_set(&name, names::dns1123_subdomain);
            if !group.text().is_empty() {
                errors.not_supported(&group, &[""]);
            }
            if !namespaced && namespace.text().is_empty() {
                errors.required(&namespace, "");
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                errors.not_supported(&group, &[GROUP]);
            }
        }
        _ => errors.not_supported(&kind, &["ServiceAccount", "User", "Group"]),
    }
}
