//! Secret: sensitive data.
use crate::fields::{Fill, Read, selectable};
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
}
