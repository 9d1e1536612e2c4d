//! ConfigMap: configuration data.
use crate::check::{At, Report};
use crate::core::data_size;
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, text};
use serde_json::Value;

pub struct ConfigMaps;

impl Resource for ConfigMaps {
    const NAMES: Names = Names::with("", "v1", "ConfigMap", "configmaps", "configmap", const { &[text("cm")] }, &[]);
    const COLUMNS: &'static [Column] =
        &[Column::with("Data", |row| (row.object["data"].entries().count() + row.object["binaryData"].entries().count()).into())];
    const GENERATION: bool = false;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        if let Some(old) = old {
            data_size::frozen(&mut errors, &root, old, &["data", "binaryData"]);
        }
        let mut size = 0;
        for part in ["data", "binaryData"] {
            let at = root.field(part);
            for (key, value) in at.entries() {
                for reason in names::config_map_key(key) {
                    errors.invalid_as(&value, key, reason);
                }
                if part == "data" && root["binaryData"].get(key).is_some() {
                    errors.invalid_as(&value, key, "duplicate of key present in binaryData");
                }
                size += if part == "data" { value.text().len() } else { data_size::decoded(value.text()) };
            }
        }
        if size > data_size::MAXIMUM {
            errors.too_long(&root.field("[]"), data_size::MAXIMUM);
        }
        errors
    }
}
