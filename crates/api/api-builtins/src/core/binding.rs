//! Binding: assigns a pod to a node; written, never read.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use api_resource::{Names, Resource};
use serde_json::Value;

pub struct Bindings;

impl Resource for Bindings {
    const NAMES: Names = Names::new("", "v1", "Binding", "bindings", "binding");
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let kind = root.field("target.kind");
        if !matches!(kind.text(), "" | "Node") {
            errors.not_supported(&kind, &["Node", "<empty>"]);
        }
        errors.present(&root.field("target.name"));
        errors
    }
}
