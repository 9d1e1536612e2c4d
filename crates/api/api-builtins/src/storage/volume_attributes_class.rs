//! VolumeAttributesClass: changeable properties of volumes.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope, text};
use serde_json::Value;

pub struct VolumeAttributesClasses;

impl Resource for VolumeAttributesClasses {
    const NAMES: Names =
        Names::with("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", "volumeattributesclass", const { &[text("vac")] }, &[]);
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::path("DriverName", ".driverName")];
    const GENERATION: bool = false;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        errors.named(&root.field("driverName"), crate::pod_spec::csi_driver_name);
        let parameters = root.field("parameters");
        if parameters.is_zero() {
            errors.required(&parameters, "must contain at least one key/value pair");
        }
        if let Some(old) = old {
            for field in ["driverName", "parameters"] {
                if new[field] != old[field] {
                    errors.forbidden(&root.field(field), format!("updates to {field} are forbidden."));
                }
            }
        }
        errors
    }
}
