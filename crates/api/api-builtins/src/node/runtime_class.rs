//! RuntimeClass: which container runtime runs a pod.
use crate::check::{At, Report, metadata, resources};
use crate::fields::Fill;
use crate::pod_spec::validate_tolerations;
use crate::quantities;
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, ResourceScope};
use serde_json::Value;

pub struct RuntimeClasses;

impl Resource for RuntimeClasses {
    const NAMES: Names = Names::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::path("Handler", ".handler")];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        if let Some(overhead) = object.child("overhead") {
            quantities::canonical_map(overhead, "podFixed");
        }
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let handler = root.field("handler");
        errors.reasons(&handler, names::dns1123_label(handler.as_str().unwrap_or_default()));
        if let Some(old) = old {
            errors.immutable(&handler, &old["handler"]);
        }
        let overhead = root.field("overhead.podFixed");
        for (name, amount) in overhead.entries() {
            resources::amount_of(&mut errors, &amount, name);
        }
        metadata::labels(&mut errors, &root.field("scheduling.nodeSelector"));
        validate_tolerations(&mut errors, &root.field("scheduling.tolerations"));
        errors
    }
}
