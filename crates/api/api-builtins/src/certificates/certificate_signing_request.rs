//! CertificateSigningRequest: asks a signer for a certificate.
use crate::cells::{AGE, NONE, text_or};
use crate::fields::{Fill, Read, selectable};
use crate::subresources::APPROVAL;
use api_resource::{Column, Field, NameRule, Names, Resource, ResourceScope, Row, STATUS, Subresource, WriteContext, human_duration, text};
use serde_json::{Value, json};

pub struct CertificateSigningRequests;

impl Resource for CertificateSigningRequests {
    const NAMES: Names = Names::with(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "certificatesigningrequest",
        const { &[text("csr")] },
        &[],
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        AGE,
        Column::with("SignerName", |row| text_or(&row.object["spec"]["signerName"], NONE)),
        Column::with("Requestor", |row| row.object["spec"]["username"].text().into()),
        Column::with("RequestedDuration", |row| row.object["spec"]["expirationSeconds"].int().map_or(NONE.into(), human_duration).into()),
        Column::with("Condition", state),
    ];
    const OWN_COLUMNS: bool = true;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, APPROVAL];
    const FIELDS: &'static [Field] = &[selectable("spec.signerName", "")];
    const GENERATION: bool = false;
    fn prepare_create(object: &mut Value, context: &WriteContext) {
        // Who asks is what the signer relies on: the requester can't say it himself.
        let spec = object.open("spec");
        spec.remove("extra");
        spec.put("username", context.username);
        spec.put("groups", context.groups);
        if context.user_uid.is_empty() {
            spec.remove("uid");
        } else {
            spec.put("uid", context.user_uid);
        }
        object.put("status", json!({}));
    }
    fn prepare_update(new: &mut Value, old: &Value, _context: &WriteContext) {
        new.put("spec", old["spec"].clone());
    }
    fn prepare_part(subresource: &str, new: &mut Value, old: &Value, context: &WriteContext) {
        let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if subresource == "status" {
            keep_decisions(new, old);
        }
        stamp_conditions(new, old, &now);
    }
}

/// Only `/approval` decides: Approved and Denied stay as they are in the status written here.
fn keep_decisions(new: &mut Value, old: &Value) {
    let decides = |condition: &Value| matches!(condition["type"].as_str(), Some("Approved" | "Denied"));
    let conditions = |object: &Value, decided: bool| -> Vec<Value> {
        object["status"]["conditions"].as_array().into_iter().flatten().filter(|condition| decides(condition) == decided).cloned().collect()
    };
    let all = [conditions(old, true), conditions(new, false)].concat();
    if !all.is_empty() || new["status"].get("conditions").is_some() {
        new.open("status").put("conditions", all);
    }
}

/// Conditions carry when they were last written and when their status last changed.
fn stamp_conditions(new: &mut Value, old: &Value, now: &str) {
    let before = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in new.open("status").each("conditions") {
        let same = before.iter().find(|other| other["type"] == condition["type"]);
        if same != Some(condition) {
            condition.absent("lastUpdateTime", now);
        }
        match same {
            Some(same) if same["status"] == condition["status"] && same.get("lastTransitionTime").is_some() => {
                let since = same["lastTransitionTime"].clone();
                condition.absent("lastTransitionTime", since);
            }
            _ => condition.absent("lastTransitionTime", now),
        }
    }
}

fn state(row: &Row) -> Value {
    let has = |kind: &str| row.object["status"]["conditions"].list().iter().any(|condition| condition["type"] == kind);
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !row.object["status"]["certificate"].text().is_empty() {
        state.push_str(",Issued");
    }
    state.into()
}
