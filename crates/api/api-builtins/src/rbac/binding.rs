//! What RoleBindings and ClusterRoleBindings have in common: subjects and the role they get.
use crate::fields::{Fill, Read};
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
