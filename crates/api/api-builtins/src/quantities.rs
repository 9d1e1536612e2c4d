//! Quantities inside objects: their canonical form, and which resource names mean what.
use crate::fields::{Fill, Read};
use api_meta::Quantity;
use serde_json::Value;

/// Rewrites the quantity under a key as upstream writes it back: `0.5` as `500m`, `1024Mi` as `1Gi`.
/// What is no quantity is left for validation to name.
pub fn canonical(object: &mut Value, key: &str) {
    if let Some(value) = object.child(key) {
        canonical_value(value);
    }
}

/// The same for every value of the map under a key.
pub fn canonical_map(object: &mut Value, key: &str) {
    if let Some(Value::Object(map)) = object.get_mut(key) {
        map.values_mut().for_each(canonical_value);
    }
}

/// The same for `limits` and `requests`.
pub fn canonical_resources(resources: &mut Value) {
    canonical_map(resources, "limits");
    canonical_map(resources, "requests");
}

fn canonical_value(value: &mut Value) {
    let parsed = match &*value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => return,
    };
    if let Ok(quantity) = parsed {
        let text = quantity.to_string();
        if value.as_str() != Some(&text) {
            *value = text.into();
        }
    }
}

/// The quantity a decoded value holds.
pub fn read(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

/// A resource that a pod as a whole may request: cpu, memory and huge pages.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_pages(name)
}

pub fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A resource of upstream's own: without a prefix, or with one under kubernetes.io.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of a device plugin or the like, which is counted in whole units and can't be overcommitted.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && api_meta::names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Quantities of the map under this key, in key order.
pub fn map(value: &Value) -> impl Iterator<Item = (&String, Quantity)> {
    value.entries().filter_map(|(name, amount)| Some((name, read(amount)?)))
}
