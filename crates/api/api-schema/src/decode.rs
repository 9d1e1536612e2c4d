//! Decoding a request's JSON: one pass that prunes unknown fields and tells what a strict decoder would refuse.
use crate::prune::{Child, child};
use crate::{Schema, Type};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Upstream stops telling strict errors after so many.
const MOST_ERRORS: usize = 100;

/// A decoded body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Without the unknown fields; of a duplicate field, the last value.
    pub value: Value,
    /// In the order met, each once: `unknown field "spec.foo"`, `duplicate field "spec.replicas"`.
    pub strict: Vec<String>,
}

/// Decodes `raw` as an object of this schema. `schema` may be [`Schema::anything`]: then only
/// duplicates are told. Values keep their JSON types: see [`crate::decode_types`].
///
/// Errors: not JSON, more than one value, or nested deeper than 128.
pub fn decode(raw: &[u8], schema: &Schema) -> Result<Decoded, serde_json::Error> {
    let mut strict = Strict::default();
    let mut deserializer = serde_json::Deserializer::from_slice(raw);
    let value = Seed { schema, strict: &mut strict, root: true, quiet: false }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Decoded { value, strict: strict.errors })
}

#[derive(Default)]
struct Strict {
    path: String,
    errors: Vec<String>,
}

impl Strict {
    fn push_key(&mut self, key: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        before
    }
    fn tell(&mut self, what: &str, key: &str) {
        if self.errors.len() >= MOST_ERRORS {
            return;
        }
        let before = self.push_key(key);
        let error = format!("{what} field {:?}", self.path);
        self.path.truncate(before);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

struct Seed<'a> {
    schema: &'a Schema,
    strict: &'a mut Strict,
    root: bool,
    /// Inside an unknown field: nothing more to tell.
    quiet: bool,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number is not finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let item = self.schema.item().filter(|_| self.schema.kind == Type::Array).unwrap_or(Schema::anything());
        let before = self.strict.path.len();
        let mut items = Vec::new();
        loop {
            if !self.quiet {
                use fmt::Write;
                write!(self.strict.path, "[{}]", items.len()).expect("a String takes all text");
            }
            let next = sequence.next_element_seed(Seed { schema: item, strict: self.strict, root: false, quiet: self.quiet })?;
            self.strict.path.truncate(before);
            match next {
                Some(value) => items.push(value),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Self { schema, strict, root, quiet } = self;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let (schema, unknown) = match child(schema, &key, root) {
                Child::Known(schema) => (schema, false),
                Child::Kept => (Schema::anything(), false),
                Child::Unknown => (Schema::anything(), true),
            };
            if unknown && !quiet {
                strict.tell("unknown", &key);
            }
            let before = if quiet { strict.path.len() } else { strict.push_key(&key) };
            let value = map.next_value_seed(Seed { schema, strict, root: false, quiet: quiet || unknown })?;
            strict.path.truncate(before);
            if unknown {
                continue;
            }
            if !quiet && object.contains_key(&key) {
                strict.tell("duplicate", &key);
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use serde_json::json;

    #[test]
    fn strict_errors_name_the_field_where_it_is() {
        let deployment = builtin::for_kind("apps", "v1", "Deployment").unwrap();
        let check = |raw: &str, value: Value, strict: &[&str]| {
            let decoded = decode(raw.as_bytes(), &deployment).unwrap();
            assert_eq!(decoded.value, value, "{raw}");
            assert_eq!(decoded.strict, strict, "{raw}");
        };
        check(
            r#"{"kind":"Deployment","spec":{"replicas":1,"foo":{"a":1,"a":2},"replicas":2},"extra":true}"#,
            json!({"kind":"Deployment","spec":{"replicas":2}}),
            &[r#"unknown field "spec.foo""#, r#"duplicate field "spec.replicas""#, r#"unknown field "extra""#],
        );
        check(
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"a"},{"Name":"b","ports":[{"x":1}]}]}}}}"#,
            json!({"spec":{"template":{"spec":{"containers":[{"name":"a"},{"ports":[{}]}]}}}}),
            &[r#"unknown field "spec.template.spec.containers[1].Name""#, r#"unknown field "spec.template.spec.containers[1].ports[0].x""#],
        );
        check(
            r#"{"metadata":{"labels":{"any":"x","any":"y"},"nope":1}}"#,
            json!({"metadata":{"labels":{"any":"y"}}}),
            &[r#"duplicate field "metadata.labels.any""#, r#"unknown field "metadata.nope""#],
        );
        // A value of the wrong type is not an unknown field: the type check tells it.
        check(r#"{"spec":{"replicas":{"a":1}}}"#, json!({"spec":{"replicas":{"a":1}}}), &[]);
        check(
            r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{"f:b":{}}}}]}}"#,
            json!({"metadata":{"managedFields":[{"fieldsV1":{"f:a":{"f:b":{}}}}]}}),
            &[],
        );
    }

    #[test]
    fn without_a_schema_only_duplicates_are_told() {
        let decoded = decode(br#"{"a":[{"b":1,"b":2.5}],"c":-3,"a":null}"#, Schema::anything()).unwrap();
        assert_eq!(decoded.value, json!({"a":null,"c":-3}));
        assert_eq!(decoded.strict, [r#"duplicate field "a[0].b""#, r#"duplicate field "a""#]);
    }

    #[test]
    fn broken_text_is_an_error() {
        for raw in ["", "{", "{} {}", r#"{"a":1e999}"#, "nul"] {
            assert!(decode(raw.as_bytes(), Schema::anything()).is_err(), "{raw}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(decode(deep.as_bytes(), Schema::anything()).is_err());
    }
}
