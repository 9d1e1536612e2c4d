//! Secret: sensitive data.
use crate::check::{At, Report};
use crate::core::data_size;
use crate::fields::{Fill, Read, selectable};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Field, Names, Resource};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

pub struct Secrets;

impl Resource for Secrets {
    const NAMES: Names = Names::new("", "v1", "Secret", "secrets", "secret");
    const COLUMNS: &'static [Column] = &[Column::path("Type", ".type"), Column::with("Data", |row| row.object["data"].entries().count().into())];
    const FIELDS: &'static [Field] = &[selectable("type", "")];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        object.zero("type", "Opaque");
        // stringData is a way to write data: it is never stored.
        if let Some(Value::Object(texts)) = object.remove("stringData") {
            for (key, text) in texts {
                if let Value::String(text) = text {
                    object.open("data").put(&key, STANDARD.encode(text));
                }
            }
        }
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        if let Some(old) = old {
            errors.immutable(&root.field("type"), &old["type"]);
            data_size::frozen(&mut errors, &root, old, &["data"]);
        }
        let data = root.field("data");
        let mut size = 0;
        for (key, value) in data.entries() {
            for reason in names::config_map_key(key) {
                errors.invalid_as(&value, key, reason);
            }
            size += data_size::decoded(value.text());
        }
        if size > data_size::MAXIMUM {
            errors.too_long(&data, data_size::MAXIMUM);
        }
        required_keys(&mut errors, &root, &data);
        errors
    }
}

/// What secrets of upstream's types have to hold.
fn required_keys(errors: &mut FieldErrors, root: &At, data: &At) {
    let missing = |key: &str| data.get(key).is_none();
    match root["type"].text() {
        "kubernetes.io/service-account-token" => {
            let annotations = root.field("metadata.annotations");
            let account = annotations.key("kubernetes.io/service-account.name");
            if account.text().is_empty() {
                errors.required(&account, "");
            }
        }
        "kubernetes.io/dockercfg" => json(errors, &data.key(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => json(errors, &data.key(".dockerconfigjson")),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data["ssh-privatekey"].text().is_empty() => errors.required(&data.key("ssh-privatekey"), ""),
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if missing(key) {
                    errors.required(&data.key(key), "");
                }
            }
        }
        _ => {}
    }
}

/// A key whose content is a JSON object.
fn json(errors: &mut FieldErrors, at: &At) {
    let Some(encoded) = at.as_str() else { return errors.required(at, "") };
    let decoded = STANDARD.decode(encoded).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&decoded) {
        errors.invalid_as(at, "<secret contents redacted>", error.to_string());
    }
}
