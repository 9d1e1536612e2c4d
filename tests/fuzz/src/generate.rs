//! Values made from a schema: what fits its types, with words that mean something where names tell which.
use crate::Random;
use api_schema::{Schema, Type};
use serde_json::{Map, Value, json};

/// How deep a made value goes.
const DEPTH: usize = 5;

/// Words that some field of that name or another takes.
const WORDS: &[&str] = &[
    "a",
    "web",
    "default",
    "x.example.com",
    "example.com/x",
    "TCP",
    "UDP",
    "Always",
    "Never",
    "Exists",
    "In",
    "Equal",
    "NoSchedule",
    "True",
    "ClusterIP",
    "/a/b",
    "10.0.0.1",
    "10.0.0.0/8",
    "::1",
    "http",
    "25%",
    "1Gi",
    "v1",
    "Pod",
    "*",
    "",
    "a b",
    "None",
    "kubernetes.io/x",
];

/// What fields are called, and what then fits.
const MEANINGS: &[(&str, &[&str])] = &[
    ("name", &["a", "b-2", "web"]),
    ("namespace", &["default"]),
    ("operator", &["In", "NotIn", "Exists", "DoesNotExist", "Equal", "Gt", "Lt"]),
    ("protocol", &["TCP", "UDP", "SCTP"]),
    ("effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    ("key", &["a", "example.com/k"]),
    ("image", &["i", "a.b/c:1", "x@sha256:0000000000000000000000000000000000000000000000000000000000000000"]),
    ("mountPath", &["/m", "/m/n"]),
    ("path", &["p", "/p"]),
    ("host", &["a.b", "*.c.d"]),
    ("ip", &["10.0.0.1", "fd00::1"]),
    ("cidr", &["10.0.0.0/8"]),
    ("apiGroup", &["", "apps", "a.b"]),
    ("apiVersion", &["v1", "apps/v1"]),
    ("kind", &["Pod", "ConfigMap", "Role"]),
    ("imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("restartPolicy", &["Always", "OnFailure", "Never"]),
    ("dnsPolicy", &["ClusterFirst", "Default", "None", "ClusterFirstWithHostNet"]),
    ("status", &["True", "False", "Unknown"]),
    ("expression", &["true", "1 + 1 == 2", "object.a"]),
    ("type", &["a", "Localhost", "RuntimeDefault", "RollingUpdate", "Recreate", "ClusterIP", "Resource", "Directory", ""]),
    ("fieldPath", &["metadata.name", "status.podIP", "metadata.labels['a']"]),
    ("resource", &["limits.cpu", "requests.memory", "pods"]),
    ("finalizers", &["example.com/f"]),
    ("uid", &["00000000-0000-0000-0000-000000000001"]),
];

/// A value that fits the types of a schema; `field` is what it is called.
pub fn value(random: &mut Random, schema: &Schema, field: &str) -> Value {
    of_depth(random, schema, field, DEPTH)
}

/// Adds fields that the schema knows and the object lacks, here and there.
pub fn enrich(random: &mut Random, object: &mut Value, schema: &Schema, times: usize) {
    for _ in 0..times {
        enrich_once(random, object, schema, 0);
    }
}

fn enrich_once(random: &mut Random, object: &mut Value, schema: &Schema, depth: usize) {
    match object {
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            if let Some(item) = schema.item() {
                enrich_once(random, &mut items[at], item, depth + 1);
            }
        }
        Value::Object(fields) => {
            let inner: Vec<String> = fields.iter().filter(|(_, value)| value.is_object() || value.is_array()).map(|(key, _)| key.clone()).collect();
            if !inner.is_empty() && random.percent(if depth == 0 { 95 } else { 70 }) {
                let key = random.pick(&inner).clone();
                if let (Some(value), Some(schema)) = (fields.get_mut(&key), schema.field(&key)) {
                    enrich_once(random, value, schema, depth + 1);
                }
                return;
            }
            let missing: Vec<&str> = schema.properties.keys().map(|key| &**key).filter(|key| !fields.contains_key(*key) && *key != "status").collect();
            if !missing.is_empty() {
                let key = *random.pick(&missing);
                if let Some(schema) = schema.field(key) {
                    fields.insert(key.to_owned(), of_depth(random, schema, key, 3));
                }
            }
        }
        _ => {}
    }
}

fn of_depth(random: &mut Random, schema: &Schema, field: &str, depth: usize) -> Value {
    let constraints = schema.constraints.as_deref();
    if let Some(constraints) = constraints.filter(|constraints| !constraints.enumeration.is_empty()) {
        return random.pick(&constraints.enumeration).clone();
    }
    match schema.kind {
        Type::Boolean => random.percent(50).into(),
        Type::Integer | Type::Number => {
            let (low, high) = constraints.map_or((None, None), |constraints| (constraints.minimum, constraints.maximum));
            match (low, high) {
                (None, None) => (*random.pick(&[0, 1, 2, 5, 30, 80, 420, 8080, 30_080])).into(),
                (low, high) => (low.unwrap_or(0.0).max(high.map_or(f64::MIN, |high| high - 3.0)) as i64 + random.below(3) as i64).into(),
            }
        }
        Type::IntOrString => random.pick(&[json!(80), json!("http"), json!("25%"), json!(0)]).clone(),
        Type::String => text(random, schema.format.as_deref().unwrap_or_default(), field).into(),
        Type::Array => {
            let length = if depth == 0 { 0 } else { random.below(3) };
            let item = schema.item().unwrap_or(Schema::anything());
            (0..length).map(|_| of_depth(random, item, field, depth - 1)).collect()
        }
        Type::Object => {
            let mut fields = Map::new();
            for (key, schema) in &schema.properties {
                if depth > 0 && random.percent(25) {
                    fields.insert(key.to_string(), of_depth(random, schema, key, depth - 1));
                }
            }
            for key in &schema.required {
                if !fields.contains_key(&**key) {
                    let field = schema.field(key).unwrap_or(Schema::anything());
                    fields.insert(key.to_string(), of_depth(random, field, key, depth.saturating_sub(1)));
                }
            }
            if let Some(additional) = &schema.additional {
                for _ in 0..random.below(3) {
                    let key = *random.pick(&["a", "b", "cpu", "memory", "example.com/x"]);
                    fields.insert(key.to_owned(), of_depth(random, additional, key, depth.saturating_sub(1)));
                }
            }
            Value::Object(fields)
        }
        Type::Any => random.pick(&[json!({"a": 1}), json!([1, "b"]), json!("text"), json!(3), json!({"a": {"b": [null]}})]).clone(),
    }
}

fn text(random: &mut Random, format: &str, field: &str) -> String {
    let words: &[&str] = match format {
        "date-time" => &["2026-01-01T00:00:00Z", "1999-12-31T23:59:59+01:00"],
        "micro-time" => &["2026-01-01T00:00:00.000001Z"],
        "byte" => &["", "AQID", "eA=="],
        "quantity" => &["0", "1", "100m", "1Gi", "1.5", "2e3"],
        _ => MEANINGS.iter().find(|(name, _)| *name == field).map_or(WORDS, |(_, words)| words),
    };
    (*random.pick(words)).to_owned()
}
