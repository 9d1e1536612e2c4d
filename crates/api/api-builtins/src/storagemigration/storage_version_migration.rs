//! StorageVersionMigration: all objects of a resource are to be stored in its newest form.
use crate::check::{At, Report};
use crate::fields::Fill;
use api_meta::{FieldErrors, names};
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource, WriteContext};
use serde_json::{Value, json};

pub struct StorageVersionMigrations;

impl Resource for StorageVersionMigrations {
    const NAMES: Names = Names::new("storagemigration.k8s.io", "v1", "StorageVersionMigration", "storageversionmigrations", "storageversionmigration");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let resource = root.field("spec.resource");
        errors.named_if_set(&resource.field("group"), names::dns1123_subdomain);
        errors.named(&resource.field("resource"), names::dns1123_subdomain);
        if let Some(old) = old {
            errors.immutable(&resource, &old["spec"]["resource"]);
        }
        errors
    }
}
