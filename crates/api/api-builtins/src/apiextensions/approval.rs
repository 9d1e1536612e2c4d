//! Approval: groups of the Kubernetes community need its leave.
use crate::fields::Read;
use api_custom::state::{APPROVED, Approval, approval, is_protected};
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;

/// Refuses a definition for a protected group without the annotation that says who approved it.
pub fn validate(errors: &mut FieldErrors, new: &Value, old: Option<&Value>) {
    if !is_protected(new["spec"]["group"].text()) {
        return;
    }
    let (state, why) = approval(new);
    // What was let in before stays in.
    if old.is_some_and(|old| approval(old).0 == state) {
        return;
    }
    let path = FieldPath::new("metadata.annotations").key(APPROVED);
    match state {
        Approval::Missing => errors.push(FieldError::required(&path, why)),
        Approval::Invalid => errors.push(FieldError::invalid(&path, new["metadata"]["annotations"][APPROVED].clone(), why)),
        Approval::Bypassed | Approval::Approved => {}
    }
}
