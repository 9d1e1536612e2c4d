//! ResourceClaim: a request for devices.
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use crate::resource::{device_requests, resource_claim_status};
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, Row, STATUS, Subresource, WriteContext};
use serde_json::{Value, json};

pub struct ResourceClaims;

impl Resource for ResourceClaims {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", "resourceclaim");
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[Column::with("State", state)];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        device_requests::default(object.open("spec"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        match old {
            Some(old) => errors.immutable(&spec, &old["spec"]),
            None => device_requests::validate(&mut errors, &spec),
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        resource_claim_status::validate(new, old)
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
}

fn state(row: &Row) -> Value {
    let (deleted, status) = (row.object["metadata"]["deletionTimestamp"].is_set(), &row.object["status"]);
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if status["allocation"].is_null() {
        if !deleted {
            states.push("pending");
        }
    } else {
        states.push("allocated");
        if !status["reservedFor"].list().is_empty() {
            states.push("reserved");
        }
    }
    states.join(",").into()
}
