//! PodCertificateRequest: a node asks a signer for a certificate of one of its pods.
use crate::certificates::signer;
use crate::check::metadata::annotations;
use crate::check::{At, Report};
use crate::fields::{Fill, Read, selectable};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Field, Names, Resource, Row, STATUS, Subresource, WriteContext};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

pub struct PodCertificateRequests;

const LEAST_SECONDS: i64 = 3600;
const DEFAULT_SECONDS: i64 = 86_400;
const MOST_SECONDS: i64 = 7_862_400;
const LONGEST_UID: usize = 128;
const LARGEST_REQUEST: usize = 10 << 10;
/// Only one of them may be there, as what became of the request.
const OUTCOMES: &[&str] = &["Denied", "Failed", "Issued"];

impl Resource for PodCertificateRequests {
    const NAMES: Names = Names::new("certificates.k8s.io", "v1", "PodCertificateRequest", "podcertificaterequests", "podcertificaterequest");
    const COLUMNS: &'static [Column] = &[
        Column::path("PodName", ".spec.podName"),
        Column::path("ServiceAccountName", ".spec.serviceAccountName"),
        Column::path("NodeName", ".spec.nodeName"),
        Column::path("SignerName", ".spec.signerName"),
        Column::with("State", state),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const FIELDS: &'static [Field] = &[selectable("spec.signerName", ""), selectable("spec.podName", ""), selectable("spec.nodeName", "")];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        object.open("spec").absent("maxExpirationSeconds", DEFAULT_SECONDS);
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        if let Some(old) = old {
            // A request is what was asked for: it is answered, not changed.
            errors.immutable(&spec, &old["spec"]);
            return errors;
        }
        signer::name(&mut errors, &spec.field("signerName"));
        for field in ["podName", "serviceAccountName", "nodeName"] {
            let name = spec.field(field);
            errors.reasons(&name, names::dns1123_subdomain(name.text()));
        }
        for field in ["podUID", "serviceAccountUID", "nodeUID"] {
            let uid = spec.field(field);
            if uid.text().is_empty() {
                errors.required(&uid, "must not be empty");
            } else if uid.text().len() > LONGEST_UID {
                errors.too_long(&uid, LONGEST_UID);
            }
        }
        // The project's own signers give no certificate that outlives a day.
        let most = if spec["signerName"].text().starts_with("kubernetes.io/") { DEFAULT_SECONDS } else { MOST_SECONDS };
        let seconds = spec.field("maxExpirationSeconds");
        if !seconds.int().is_some_and(|seconds| (LEAST_SECONDS..=most).contains(&seconds)) {
            errors.invalid(&seconds, format!("must be in the range [{LEAST_SECONDS}, {most}]"));
        }
        let request = spec.field("stubPKCS10Request");
        match STANDARD.decode(request.text()).map(|der| der.len()) {
            Ok(0) => errors.required(&request, "must not be empty"),
            Ok(length) if length > LARGEST_REQUEST => errors.too_long(&request, LARGEST_REQUEST),
            Ok(_) => {}
            Err(_) => errors.invalid(&request, "must be base64"),
        }
        let told = spec.field("unverifiedUserAnnotations");
        annotations(&mut errors, &told);
        for (key, entry) in told.entries() {
            if !key.contains('/') {
                errors.invalid_as(&entry, key, "must have a prefix that is a domain, as in \"example.com/key\"");
            }
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let conditions = root.field("status.conditions");
        let mut outcomes = 0;
        for condition in conditions.items().filter(|condition| OUTCOMES.contains(&condition["type"].text())) {
            outcomes += 1;
            if condition["status"] != "True" {
                errors.not_supported(&condition.field("status"), &["True"]);
            }
            if outcomes > 1 {
                errors.invalid_as(
                    &condition.field("type"),
                    condition["type"].text(),
                    r#"There may be at most one condition with type "Issued", "Denied", or "Failed""#,
                );
            }
        }
        let outcome = |object: &Value| object["status"]["conditions"].list().iter().find(|c| OUTCOMES.contains(&c["type"].text())).cloned();
        if let Some(before) = outcome(old)
            && outcome(new).is_none_or(|now| now["type"] != before["type"])
        {
            errors.invalid(&conditions, format!("immutable after PodCertificateRequest is issued, denied, or failed: {:?} may not go", before["type"].text()));
        }
        const ISSUED: &[&str] = &["certificateChain", "notBefore", "beginRefreshAt", "notAfter"];
        let issued = outcome(new).is_some_and(|condition| condition["type"] == "Issued");
        for field in ISSUED {
            let (at, before) = (root.field("status"), &old["status"][*field]);
            let at = at.field(field);
            if !before.is_zero() && before != at.value() {
                errors.invalid(&at, "field is immutable");
            } else if issued && at.is_zero() {
                errors.required(&at, "must be set when the certificate is issued");
            } else if !issued && !at.is_zero() {
                errors.invalid(&at, "can only be set along with an \"Issued\" condition");
            }
        }
        errors
    }
}

fn state(row: &Row) -> Value {
    let found = row.object["status"]["conditions"].list().iter().map(|condition| condition["type"].text()).find(|kind| OUTCOMES.contains(kind));
    found.unwrap_or("Pending").into()
}
