//! AdmissionReview: what a webhook is sent, and whether what it answers is an answer.
use crate::matching::Matched;
use crate::{AdmissionRequest, Operation};
use api_meta::{Status, StatusDetails};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a webhook has decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// `Err` carries the Status that refuses the request, already worded.
    pub allowed: Result<(), Box<Status>>,
    /// A decoded JSON patch, when one was sent.
    pub patch: Option<Vec<u8>>,
    pub warnings: Vec<String>,
    pub audit: BTreeMap<String, String>,
}

/// The `request` of an AdmissionReview, but for its uid, object and oldObject.
pub(crate) fn request(request: &AdmissionRequest<'_>, matched: &Matched) -> Map<String, Value> {
    let kind = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let resource = |group: &str, version: &str, resource: &str| json!({ "group": group, "version": version, "resource": resource });
    let user = request.user;
    let mut info = json!({ "username": user.username, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    let mut fields = json!({
        "kind": kind(&matched.kind.0, &matched.kind.1, &matched.kind.2),
        "resource": resource(&matched.group, &matched.version, &matched.resource),
        "requestKind": kind(request.group_of_kind(), request.version_of_kind(), request.kind),
        "requestResource": resource(request.group, request.version, request.resource),
        "operation": request.operation.as_str(),
        "userInfo": info,
        "dryRun": request.dry_run,
        "options": if request.operation == Operation::Connect { Value::Null } else { request.options.clone() },
    });
    for (field, text) in [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", request.review_name()),
        ("namespace", request.review_namespace()),
    ] {
        if !text.is_empty() {
            fields[field] = text.into();
        }
    }
    match fields {
        Value::Object(fields) => fields,
        _ => unreachable!("it was made as an object"),
    }
}

/// The whole review.
pub(crate) fn review(mut request: Map<String, Value>, version: &str, uid: &str, object: &Value, old: &Value) -> Vec<u8> {
    request.insert("uid".into(), uid.into());
    request.insert("object".into(), object.clone());
    request.insert("oldObject".into(), old.clone());
    let review = json!({ "kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request });
    review.to_string().into_bytes()
}

/// Judges an answer. The error says in upstream's words why it is none.
pub(crate) fn verdict(webhook: &str, answer: &Value, version: &str, uid: &str, mutating: bool) -> Result<Verdict, String> {
    let response = &answer["response"];
    if !response.is_object() {
        return Err("webhook response was absent".into());
    }
    let text = |field: &str| response[field].as_str().unwrap_or_default();
    let patch = STANDARD.decode(text("patch")).map_err(|error| format!("illegal base64 data: {error}"))?;
    let mut kind_of_patch = text("patchType");
    if version == "v1" {
        if text("uid") != uid {
            return Err(format!("expected response.uid={uid:?}, got {:?}", text("uid")));
        }
        let (group_version, kind) = (answer["apiVersion"].as_str().unwrap_or_default(), answer["kind"].as_str().unwrap_or_default());
        if (group_version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err(format!("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group_version}, Kind={kind}"));
        }
        let has_type = !response["patchType"].is_null();
        match (mutating, patch.is_empty(), has_type) {
            (true, false, false) => return Err("webhook returned response.patch but not response.patchType".into()),
            (true, true, true) => return Err("webhook returned response.patchType but not response.patch".into()),
            (false, false, _) => return Err("validating webhook may not return response.patch".into()),
            (false, true, true) => return Err("validating webhook may not return response.patchType".into()),
            _ => {}
        }
    } else if !patch.is_empty() {
        kind_of_patch = "JSONPatch";
    }
    let allowed = if response["allowed"] == true { Ok(()) } else { Err(Box::new(denial(webhook, &response["status"]))) };
    if allowed.is_ok() && !patch.is_empty() && kind_of_patch != "JSONPatch" {
        return Err(format!("unsupported patch type {kind_of_patch:?}"));
    }
    let warnings = crate::request::items(&response["warnings"]).iter().filter_map(|w| w.as_str().map(str::to_owned)).collect();
    let audit = crate::selector::labels_of(&response["auditAnnotations"]);
    Ok(Verdict { allowed, patch: Some(patch).filter(|patch| mutating && !patch.is_empty()), warnings, audit })
}

/// The Status a denied request ends in: the webhook's own, made presentable.
fn denial(webhook: &str, status: &Value) -> Status {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| (400..=999).contains(code)).unwrap_or(400);
    let mut refusal = Status::new(code, known_reason(text("reason")), message);
    refusal.details = serde_json::from_value::<StatusDetails>(status["details"].clone()).ok().map(Box::new);
    refusal
}

/// The reason as a Status carries it: one of upstream's, or none.
pub(crate) fn known_reason(reason: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "AlreadyExists",
        "Conflict",
        "Gone",
        "Invalid",
        "ServerTimeout",
        "StoreReadError",
        "Timeout",
        "TooManyRequests",
        "BadRequest",
        "MethodNotAllowed",
        "NotAcceptable",
        "RequestEntityTooLarge",
        "UnsupportedMediaType",
        "InternalError",
        "Expired",
        "ServiceUnavailable",
    ];
    KNOWN.iter().find(|known| **known == reason).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(response: Value) -> Result<Verdict, String> {
        verdict("w", &json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}), "v1", "u", true)
    }

    #[test]
    fn only_an_answer_to_the_question_counts() {
        for (response, why) in [
            (json!({"uid": "x", "allowed": true}), "expected response.uid=\"u\", got \"x\""),
            (json!({"uid": "u", "allowed": true, "patch": "W10="}), "webhook returned response.patch but not response.patchType"),
            (json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}), "webhook returned response.patchType but not response.patch"),
            (json!({"uid": "u", "allowed": true, "patchType": "Merge", "patch": "W10="}), "unsupported patch type \"Merge\""),
            (Value::Null, "webhook response was absent"),
        ] {
            assert_eq!(answered(response).unwrap_err(), why);
        }
        let other = verdict("w", &json!({"kind": "Pod", "apiVersion": "v1", "response": {"uid": "u"}}), "v1", "u", true);
        assert_eq!(other.unwrap_err(), "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod");
    }

    #[test]
    fn a_denial_is_never_a_success_and_says_who_denied() {
        let denied = |status: Value| *answered(json!({"uid": "u", "allowed": false, "status": status})).unwrap().allowed.unwrap_err();
        let plain = denied(Value::Null);
        assert_eq!((plain.code, plain.message.as_str()), (400, "admission webhook \"w\" denied the request without explanation"));
        let lying = denied(json!({"code": 200, "status": "Success", "message": "no", "reason": "Forbidden"}));
        assert_eq!((lying.code, lying.reason, lying.message.as_str()), (400, "Forbidden", "admission webhook \"w\" denied the request: no"));
        assert_eq!(denied(json!({"code": 403, "reason": "Forbidden"})).message, "admission webhook \"w\" denied the request: Forbidden");
    }
}
