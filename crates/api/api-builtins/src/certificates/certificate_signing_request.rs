//! CertificateSigningRequest: asks a signer for a certificate.
use crate::cells::{AGE, NONE, text_or};
use crate::certificates::signer;
use crate::check::{At, Report};
use crate::fields::{Fill, Read, selectable};
use crate::subresources::APPROVAL;
use api_meta::FieldErrors;
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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let request = spec.field("request");
        if !signer::holds_pem(request.text(), "CERTIFICATE REQUEST") {
            errors.invalid(&request, "PEM block type must be CERTIFICATE REQUEST");
        }
        signer::name(&mut errors, &spec.field("signerName"));
        let seconds = spec.field("expirationSeconds");
        if seconds.int().is_some_and(|seconds| seconds < 600) {
            errors.invalid(&seconds, "may not specify a duration less than 600 seconds (10 minutes)");
        }
        let usages = spec.field("usages");
        if usages.list().is_empty() {
            errors.required(&usages, "usages must be set");
        }
        for (index, usage) in usages.items().enumerate() {
            if !signer::USAGES.contains(&usage.text()) {
                errors.not_supported(&usage, signer::USAGES);
            }
            if usages.list()[..index].contains(&usage) {
                errors.duplicate(&usage);
            }
        }
        errors
    }
    fn validate_part(subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let (status, conditions) = (root.field("status"), root.field("status.conditions"));
        for (index, condition) in conditions.items().enumerate() {
            let kind = condition.field("type");
            errors.present(&kind);
            let state = condition.field("status");
            errors.one_of(&state, &["False", "True", "Unknown"]);
            if matches!(kind.text(), "Approved" | "Denied" | "Failed") && matches!(state.text(), "False" | "Unknown") {
                errors.not_supported(&state, &["True"]);
            }
            if conditions.list()[..index].iter().any(|other| other["type"] == condition["type"]) {
                errors.duplicate(&kind);
            }
        }
        let has = |object: &Value, kind: &str| object["status"]["conditions"].list().iter().any(|condition| condition["type"] == kind);
        if has(new, "Approved") && has(new, "Denied") {
            errors.invalid_as(&conditions, "Denied", "Approved and Denied conditions are mutually exclusive");
        }
        for kind in ["Approved", "Denied", "Failed"] {
            if has(old, kind) && !has(new, kind) {
                errors.forbidden(&conditions, format!("updates may not remove a condition of type {kind:?}"));
            }
        }
        let certificate = status.field("certificate");
        let before = &old["status"]["certificate"];
        if !before.text().is_empty() && before != certificate.value() {
            errors.forbidden(&certificate, "updates may not clear or modify existing certificate content");
        } else if subresource == "status" && !certificate.text().is_empty() && !signer::holds_pem(certificate.text(), "CERTIFICATE") {
            errors.invalid_as(&certificate, "<certificate data>", "must contain at least one CERTIFICATE PEM block");
        }
        errors
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
