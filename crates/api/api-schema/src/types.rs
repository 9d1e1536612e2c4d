//! The typed round trip: what Go's decoder and encoder make of an object of a built-in kind.
use crate::{Schema, Type, base64_text, go_time};
use api_meta::{Quantity, Status};
use serde_json::{Number, Value};

/// Checks that a built-in object's values have the types of its schema, and gives them the form
/// upstream stores: nulls and empty optional lists and maps go, quantities and times become canonical.
///
/// Only nodes of built-in definitions are looked at; of a custom resource that is its metadata.
/// Error: upstream's 400, `{kind} in version "{version}" cannot be handled as a {kind}: json: cannot unmarshal ...`.
pub fn decode_types(value: &mut Value, schema: &Schema, kind: &str, version: &str) -> Result<(), Status> {
    check_types(value, schema).map_err(|why| Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}")))
}

/// [`decode_types`] with the bare error of Go's decoder, e.g. for a patch's result.
pub fn check_types(value: &mut Value, schema: &Schema) -> Result<(), String> {
    let mut place = Place { owner: "", path: String::new() };
    if schema.definition.is_some() {
        return place.walk(value, schema);
    }
    custom(value, schema, true)
}

/// Finds the built-in parts of a custom resource.
fn custom(value: &mut Value, schema: &Schema, root: bool) -> Result<(), String> {
    if schema.definition.is_some() {
        return Place { owner: "", path: String::new() }.walk(value, schema);
    }
    match value {
        Value::Object(object) => object.iter_mut().try_for_each(|(key, value)| match crate::prune::child(schema, key, root) {
            crate::prune::Child::Known(schema) => custom(value, schema, false),
            _ => Ok(()),
        }),
        Value::Array(items) => schema.item().map_or(Ok(()), |schema| items.iter_mut().try_for_each(|item| custom(item, schema, false))),
        _ => Ok(()),
    }
}

/// Where the decoder is: the Go struct whose field it fills, and the fields that lead there.
struct Place<'a> {
    owner: &'a str,
    path: String,
}

impl<'a> Place<'a> {
    fn walk(&mut self, value: &mut Value, schema: &'a Schema) -> Result<(), String> {
        match schema.kind {
            Type::Any => Ok(()),
            Type::Object => match value {
                Value::Object(_) => self.object(value, schema),
                other => Err(self.mismatch(describe(other), schema)),
            },
            Type::Array => {
                let Value::Array(items) = value else { return Err(self.mismatch(describe(value), schema)) };
                let Some(schema) = schema.item() else { return Ok(()) };
                items.iter_mut().try_for_each(|item| {
                    if item.is_null() {
                        *item = zero(schema);
                    }
                    self.walk(item, schema)
                })
            }
            Type::String => self.string(value, schema),
            Type::Boolean => {
                if value.is_boolean() {
                    Ok(())
                } else {
                    Err(self.mismatch(describe(value), schema))
                }
            }
            Type::Integer => match value {
                Value::Number(number) => self.integer(number, schema.format.as_deref() == Some("int32"), schema),
                other => Err(self.mismatch(describe(other), schema)),
            },
            Type::Number => {
                if value.is_number() {
                    Ok(())
                } else {
                    Err(self.mismatch(describe(value), schema))
                }
            }
            Type::IntOrString => match value {
                Value::String(_) => Ok(()),
                Value::Number(number) => self.integer(number, true, schema),
                other => Err(self.mismatch_with(describe(other), "int32")),
            },
        }
    }

    fn object(&mut self, value: &mut Value, schema: &'a Schema) -> Result<(), String> {
        let Value::Object(object) = value else { return Ok(()) };
        // A definition is a Go struct; else it is a map, whose keys Go's errors leave out.
        let owner = self.owner;
        let structure = schema.definition.as_deref().map(short);
        self.owner = structure.unwrap_or(owner);
        let metadata = structure == Some("ObjectMeta");
        let mut failure = None;
        object.retain(|key, value| {
            if failure.is_some() {
                return true;
            }
            let Some(field) = schema.field(key) else { return true };
            if value.is_null() {
                if structure.is_some() {
                    return false;
                }
                *value = zero(field);
            }
            let before = self.path.len();
            if structure.is_some() {
                if before > 0 {
                    self.path.push('.');
                }
                self.path.push_str(key);
            }
            failure = self.walk(value, field).err();
            self.path.truncate(before);
            structure.is_none() || !is_omitted(value, field, metadata) || schema.required.iter().any(|r| **r == **key)
        });
        self.owner = owner;
        failure.map_or(Ok(()), Err)
    }

    fn string(&self, value: &mut Value, schema: &Schema) -> Result<(), String> {
        let format = schema.format.as_deref();
        if format == Some("quantity") {
            return quantity(value);
        }
        let Value::String(text) = value else { return Err(self.mismatch(describe(value), schema)) };
        match format {
            Some("date-time" | "micro-time") => *text = go_time::canonical(text, format == Some("micro-time"))?,
            Some("byte") => {
                if let Some(canonical) = base64_text::canonical(text)? {
                    *text = canonical;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn integer(&self, number: &Number, narrow: bool, schema: &Schema) -> Result<(), String> {
        let fits = number.as_i64().is_some_and(|n| !narrow || i32::try_from(n).is_ok());
        let name = if narrow { "int32".to_owned() } else { go_type(schema) };
        if fits { Ok(()) } else { Err(self.mismatch_with(format!("number {number}"), &name)) }
    }

    fn mismatch(&self, what: impl std::fmt::Display, schema: &Schema) -> String {
        self.mismatch_with(what, &go_type(schema))
    }
    fn mismatch_with(&self, what: impl std::fmt::Display, name: &str) -> String {
        let target = if self.owner.is_empty() { "value".to_owned() } else { format!("struct field {}.{}", self.owner, self.path) };
        format!("json: cannot unmarshal {what} into Go {target} of type {name}")
    }
}

/// What Go's encoder leaves out of a struct (`omitempty`), as far as a schema tells.
fn is_omitted(value: &Value, schema: &Schema, metadata: bool) -> bool {
    match value {
        Value::Array(items) => items.is_empty() && schema.kind == Type::Array,
        Value::Object(object) => object.is_empty() && schema.additional.is_some(),
        // ObjectMeta has no pointers to strings, so that its empty ones are never written.
        Value::String(text) => metadata && text.is_empty(),
        _ => false,
    }
}

/// What a null becomes where Go has a place for it: in a list or a map.
fn zero(schema: &Schema) -> Value {
    match schema.kind {
        Type::Any => Value::Null,
        Type::Object => Value::Object(Default::default()),
        Type::Array => Value::Array(Vec::new()),
        Type::String if schema.format.as_deref() == Some("quantity") => "0".into(),
        Type::String => "".into(),
        Type::Integer | Type::Number | Type::IntOrString => 0.into(),
        Type::Boolean => false.into(),
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn short(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

/// How Go prints the type of a node.
fn go_type(schema: &Schema) -> String {
    let format = schema.format.as_deref();
    match schema.kind {
        Type::String if format == Some("byte") => "[]uint8".into(),
        // Quantities and times read themselves, as strings.
        Type::String => "string".into(),
        Type::Integer => format.unwrap_or("int64").into(),
        Type::Number => "float64".into(),
        Type::Boolean => "bool".into(),
        Type::Array => format!("[]{}", schema.item().map_or("interface {}".into(), element)),
        Type::Object if schema.definition.is_none() => format!("map[string]{}", schema.additional.as_deref().map_or("interface {}".into(), element)),
        _ => named(schema),
    }
}

fn element(schema: &Schema) -> String {
    if schema.definition.is_some() { named(schema) } else { go_type(schema) }
}

/// `v1.Container` of `io.k8s.api.core.v1.Container`.
fn named(schema: &Schema) -> String {
    let Some(definition) = schema.definition.as_deref() else { return "interface {}".into() };
    let mut parts = definition.rsplit('.');
    let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{name}")
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let canonical = Quantity::parse(&text).map_err(|why| if has_only_a_bad_suffix(&text) { "unable to parse quantity's suffix" } else { why })?.to_string();
    if value.as_str() != Some(&canonical) {
        *value = canonical.into();
    }
    Ok(())
}

/// Whether text looks like a quantity but for a suffix that is none.
fn has_only_a_bad_suffix(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number);
    let power = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let power = power.strip_prefix(['+', '-']).unwrap_or(power);
    number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() < 2 && power.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use serde_json::json;

    fn decoded(group: &str, kind: &str, mut value: Value) -> Result<Value, String> {
        let schema = builtin::for_kind(group, "v1", kind).unwrap();
        decode_types(&mut value, &schema, kind, "v1").map_err(|s| s.message)?;
        Ok(value)
    }

    #[test]
    fn wrong_types_are_told_in_gos_words() {
        for (group, kind, value, want) in [
            (
                "apps",
                "Deployment",
                json!({"spec":{"replicas":"3"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "apps",
                "Deployment",
                json!({"spec":{"replicas":1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "apps",
                "Deployment",
                json!({"spec":{"replicas":3_000_000_000i64}}),
                "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            ("", "Pod", json!({"spec":{"containers":{}}}), "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"),
            (
                "",
                "Pod",
                json!({"spec":{"containers":["x"]}}),
                "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container",
            ),
            ("", "Pod", json!({"spec":[]}), "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
            ("", "Pod", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
            ("", "Pod", json!({"metadata":{"labels":{"a":1}}}), "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"),
            (
                "",
                "Pod",
                json!({"metadata":{"labels":"a"}}),
                "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
            ),
            ("", "Pod", json!({"metadata":{"name":1}}), "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string"),
            (
                "",
                "Pod",
                json!({"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":true}}}]}}),
                "json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.containers.livenessProbe.httpGet.port of type int32",
            ),
            ("", "Secret", json!({"data":{"a":"!"}}), "illegal base64 data at input byte 0"),
            ("", "Pod", json!({"metadata":{"creationTimestamp":"x"}}), r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#),
            (
                "",
                "PersistentVolumeClaim",
                json!({"spec":{"resources":{"requests":{"storage":"lots"}}}}),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            ("", "PersistentVolumeClaim", json!({"spec":{"resources":{"requests":{"storage":"1Kii"}}}}), "unable to parse quantity's suffix"),
        ] {
            let message = decoded(group, kind, value).unwrap_err();
            assert_eq!(message, format!("{kind} in version \"v1\" cannot be handled as a {kind}: {want}"));
        }
    }

    #[test]
    fn values_take_the_form_upstream_stores() {
        for (kind, value, want) in [
            (
                "Pod",
                json!({"metadata":{"name":"a","namespace":"","labels":{},"finalizers":[],"annotations":{"a":null},"creationTimestamp":null},"spec":{"nodeName":null,"containers":[]}}),
                json!({"metadata":{"name":"a","annotations":{"a":""}},"spec":{"containers":[]}}),
            ),
            (
                "Pod",
                json!({"spec":{"securityContext":{},"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c","args":["a",null],"resources":{"limits":{"cpu":0.5,"memory":"1024Mi"},"requests":{}}}]}}),
                json!({"spec":{"securityContext":{},"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c","args":["a",""],"resources":{"limits":{"cpu":"500m","memory":"1Gi"}}}]}}),
            ),
            ("Secret", json!({"data":{"a":"aGV\nsbG8="}}), json!({"data":{"a":"aGVsbG8="}})),
            (
                "Event",
                json!({"firstTimestamp":"2020-01-01T00:00:00.5+01:00","eventTime":"2020-01-01T00:00:00.500000Z"}),
                json!({"firstTimestamp":"2019-12-31T23:00:00Z","eventTime":"2020-01-01T00:00:00.500000Z"}),
            ),
        ] {
            assert_eq!(decoded("", kind, value), Ok(want));
        }
    }

    #[test]
    fn of_a_custom_resource_only_the_metadata_is_typed() {
        let schema = Schema::from_open_api(&json!({"type":"object","properties":{"spec":{"type":"object","properties":{"n":{"type":"integer"}}}}})).unwrap();
        let mut value = json!({"metadata":{"name":"x","labels":{}},"spec":{"n":"text","l":null}});
        assert_eq!(check_types(&mut value, &schema), Ok(()));
        assert_eq!(value, json!({"metadata":{"name":"x"},"spec":{"n":"text","l":null}}));
        let why = check_types(&mut json!({"metadata":{"labels":{"a":true}}}), &schema).unwrap_err();
        assert_eq!(why, "json: cannot unmarshal bool into Go struct field ObjectMeta.labels of type string");
    }
}
