//! Laws of decoding, pruning and defaulting, for objects of every built-in kind and of a custom one.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
use api_schema::{Schema, SchemaRef, Type, apply_defaults, builtin, check_types, decode, prune};
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};

fn below(random: &mut TestRng, bound: usize) -> usize {
    random.next_u32() as usize % bound.max(1)
}

/// A value of a schema's types.
fn value(random: &mut TestRng, schema: &Schema, depth: usize) -> Value {
    let pick = |random: &mut TestRng, texts: &[&str]| Value::from(texts[below(random, texts.len())]);
    match schema.kind {
        Type::Any => json!({"any": [below(random, 9), {"thing": null}]}),
        Type::Boolean => (below(random, 2) == 0).into(),
        Type::Integer | Type::Number => below(random, 70_000).into(),
        Type::IntOrString if below(random, 2) == 0 => below(random, 100).into(),
        Type::IntOrString => pick(random, &["http", "25%", ""]),
        Type::String => match schema.format.as_deref() {
            Some("date-time") => "2026-01-02T03:04:05Z".into(),
            Some("micro-time") => "2026-01-02T03:04:05.000006Z".into(),
            Some("byte") => pick(random, &["", "AQID"]),
            Some("quantity") => pick(random, &["0", "100m", "1Gi"]),
            _ => pick(random, &["", "a", "größe", "\"\\\n\u{0}"]),
        },
        Type::Array => {
            let length = if depth == 0 { 0 } else { below(random, 3) };
            (0..length).map(|_| value(random, schema.item().unwrap_or(Schema::anything()), depth - 1)).collect()
        }
        Type::Object => {
            let mut fields = Map::new();
            for (name, field) in &schema.properties {
                if depth > 0 && below(random, 3) == 0 {
                    fields.insert(name.to_string(), value(random, field, depth - 1));
                }
            }
            if let (Some(additional), true) = (&schema.additional, depth > 0) {
                fields.extend((0..below(random, 3)).map(|number| (format!("key-{number}"), value(random, additional, depth - 1))));
            }
            Value::Object(fields)
        }
    }
}

fn custom() -> SchemaRef {
    let schema = Schema::of_custom_resource(&json!({"type": "object", "properties": {"spec": {"type": "object", "default": {"size": 3}, "properties": {
        "size": {"type": "integer", "default": 1}, "color": {"type": "string", "default": "blue"},
        "parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}}}},
        "more": {"type": "object", "additionalProperties": {"type": "object", "properties": {"on": {"type": "boolean", "default": true}}}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "string", "default": "x"}}},
    }}}}));
    SchemaRef::new(schema.unwrap())
}

/// A schema and an object of it.
fn any_object() -> impl Strategy<Value = (SchemaRef, Value)> {
    let mut schemas: Vec<SchemaRef> = builtin::kinds().map(|(group, version, kind)| builtin::for_kind(group, version, kind).unwrap()).collect();
    schemas.retain(|schema| schema.kind == Type::Object);
    // Half of the objects are custom ones, which alone have defaults in their schemas.
    schemas.extend(std::iter::repeat_n(custom(), schemas.len()));
    prop::sample::select(schemas).prop_perturb(|schema, mut random| {
        let object = value(&mut random, &schema, 5);
        (schema, object)
    })
}

/// Adds fields that no schema knows, everywhere.
fn litter(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(litter);
            fields.insert("noSchemaKnowsThis".into(), json!([1]));
        }
        Value::Array(items) => items.iter_mut().for_each(litter),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn what_is_encoded_decodes_to_itself((schema, object) in any_object()) {
        let decoded = decode(object.to_string().as_bytes(), &schema).unwrap();
        prop_assert_eq!(decoded.value, object);
        prop_assert_eq!(decoded.strict, Vec::<String>::new());
    }

    #[test]
    fn pruning_is_done_at_once_and_by_decoding((schema, object) in any_object()) {
        let mut pruned = object.clone();
        prop_assert_eq!(prune(&mut pruned, &schema), Vec::<String>::new());
        prop_assert_eq!(&pruned, &object);
        let mut littered = object;
        litter(&mut littered);
        let decoded = decode(littered.to_string().as_bytes(), &schema).unwrap();
        prune(&mut littered, &schema);
        prop_assert_eq!(&decoded.value, &littered);
        let once = littered.clone();
        prop_assert_eq!(prune(&mut littered, &schema), Vec::<String>::new());
        prop_assert_eq!(littered, once);
    }

    #[test]
    fn defaulting_once_is_enough((schema, object) in any_object()) {
        let mut defaulted = object.clone();
        apply_defaults(&mut defaulted, &schema);
        let once = defaulted.clone();
        apply_defaults(&mut defaulted, &schema);
        prop_assert_eq!(&defaulted, &once);
        // Defaults are of the schema, so nothing of them is pruned.
        prop_assert_eq!(prune(&mut defaulted, &schema), Vec::<String>::new());
        prop_assert_eq!(defaulted, once);
    }

    #[test]
    fn types_that_fit_are_left_alone((schema, object) in any_object()) {
        let mut checked = object.clone();
        prop_assert_eq!(check_types(&mut checked, &schema), Ok(()));
        let once = checked.clone();
        prop_assert_eq!(check_types(&mut checked, &schema), Ok(()));
        prop_assert_eq!(checked, once);
    }
}

// kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions: field pruning and defaulting.
#[test]
fn cron_tabs_are_pruned_and_defaulted_as_documented() {
    let schema = Schema::of_custom_resource(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$", "default": "5 0 * * *"},
        "image": {"type": "string"}, "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1}}}}}))
    .unwrap();
    let mut object = decode(
        br#"{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"m"},"spec":{"image":"my-awesome-cron-image","someRandomField":42}}"#,
        &schema,
    )
    .unwrap();
    assert_eq!(object.strict, ["unknown field \"spec.someRandomField\""]);
    apply_defaults(&mut object.value, &schema);
    assert_eq!(object.value["spec"], json!({"cronSpec": "5 0 * * *", "image": "my-awesome-cron-image", "replicas": 1}));
}
