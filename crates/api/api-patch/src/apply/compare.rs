//! What changed between two forms of an object, as sets of fields.
use super::element::{Shape, field, is_embedded, item, shape};
use super::fields::{Fields, SELF, leaf};
use api_schema::Schema;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The fields that were added or modified, and those that were removed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    pub changed: Fields,
    pub removed: Fields,
}

/// A node: `None` if nothing at or below it is in the set.
type Node = Option<Fields>;

/// Compares two objects; an absent old one is empty.
pub(crate) fn compare(old: Option<&Value>, new: &Value, schema: &Schema) -> Comparison {
    let empty = Value::Object(Map::new());
    let (changed, removed) = nodes(old.unwrap_or(&empty), new, Some(schema));
    let root = |node: Node| {
        let mut node = node.unwrap_or_default();
        node.remove(SELF);
        node
    };
    Comparison { changed: root(changed), removed: root(removed) }
}

fn nodes(old: &Value, new: &Value, schema: Option<&Schema>) -> (Node, Node) {
    match (shape(old, schema), shape(new, schema)) {
        (Shape::Fields(old), Shape::Fields(new)) => field_nodes(old, new, schema),
        (Shape::Items(old), Shape::Items(new)) => item_nodes(old, new, schema),
        _ if old == new => (None, None),
        _ => (Some(Map::new()), None),
    }
}

fn field_nodes(old: &Map<String, Value>, new: &Map<String, Value>, schema: Option<&Schema>) -> (Node, Node) {
    let mut pair = Pair::default();
    for (name, value) in new {
        let child = schema.and_then(|s| s.field(name));
        match old.get(name) {
            Some(before) => pair.add(|| field(name), nodes(before, value, child)),
            None => pair.add(|| field(name), (Some(all(value, child)), None)),
        }
    }
    for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        pair.add(|| field(name), (None, Some(all(value, schema.and_then(|s| s.field(name))))));
    }
    pair.nodes()
}

fn item_nodes(old: &[Value], new: &[Value], schema: Option<&Schema>) -> (Node, Node) {
    let child = schema.and_then(Schema::item);
    let keyed = |items: &[Value]| items.iter().map(|i| item(i, schema).ok()).collect::<Option<Vec<_>>>();
    let (Some(old_keys), Some(new_keys)) = (keyed(old), keyed(new)) else {
        // Items that cannot be told apart are owned together.
        return if old == new { (None, None) } else { (Some(Map::new()), None) };
    };
    let before: HashMap<&str, &Value> = old_keys.iter().map(String::as_str).zip(old).collect();
    let after: HashMap<&str, &Value> = new_keys.iter().map(String::as_str).zip(new).collect();
    let mut pair = Pair::default();
    for (key, value) in new_keys.iter().zip(new) {
        match before.get(key.as_str()) {
            Some(before) => pair.add(|| key.clone(), nodes(before, value, child)),
            None => pair.add(|| key.clone(), (Some(all(value, child)), None)),
        }
    }
    for (key, value) in old_keys.iter().zip(old).filter(|(key, _)| !after.contains_key(key.as_str())) {
        pair.add(|| key.clone(), (None, Some(all(value, child))));
    }
    pair.nodes()
}

#[derive(Default)]
struct Pair {
    changed: Fields,
    removed: Fields,
}

impl Pair {
    fn add(&mut self, key: impl Fn() -> String, (changed, removed): (Node, Node)) {
        if let Some(node) = changed {
            self.changed.insert(key(), Value::Object(node));
        }
        if let Some(node) = removed {
            self.removed.insert(key(), Value::Object(node));
        }
    }
    fn nodes(self) -> (Node, Node) {
        (Some(self.changed).filter(|n| !n.is_empty()), Some(self.removed).filter(|n| !n.is_empty()))
    }
}

/// Everything at and below a value that is in one form only.
fn all(value: &Value, schema: Option<&Schema>) -> Fields {
    let mut node = Map::new();
    match shape(value, schema) {
        Shape::Leaf => {}
        Shape::Fields(object) => {
            for (name, value) in object {
                node.insert(field(name), Value::Object(all(value, schema.and_then(|s| s.field(name)))));
            }
            if !node.is_empty() && !is_embedded(schema) {
                node.insert(SELF.into(), leaf());
            }
        }
        Shape::Items(items) => {
            let child = schema.and_then(Schema::item);
            for value in items {
                let Ok(key) = item(value, schema) else { return Map::new() };
                node.insert(key, Value::Object(all(value, child)));
            }
            if !node.is_empty() {
                node.insert(SELF.into(), leaf());
            }
        }
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_schema::builtin;
    use serde_json::json;

    #[test]
    fn containers_of_what_is_new_are_owned_too() {
        let schema = builtin::for_kind("apps", "v1", "Deployment").unwrap();
        let new = json!({"metadata":{"labels":{"a":"b"},"finalizers":["x"]},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},
            "strategy":{"rollingUpdate":{"maxSurge":1}},
            "template":{"spec":{"containers":[{"name":"c","args":["1"],"ports":[{"containerPort":80}],"resources":{}}]}}}});
        let want = json!({
            "f:metadata":{"f:labels":{".":{},"f:a":{}},"f:finalizers":{".":{},"v:\"x\"":{}}},
            "f:spec":{"f:replicas":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}}},
                "f:template":{"f:spec":{"f:containers":{".":{},"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:args":{},"f:resources":{},
                    "f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}},
        });
        assert_eq!(Value::Object(compare(None, &new, &schema).changed), want);
    }

    #[test]
    fn only_what_differs_is_told() {
        let schema = builtin::for_kind("", "v1", "Pod").unwrap();
        let old = json!({"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"containers":[{"name":"a","image":"1"},{"name":"b"}],"tolerations":[{"key":"x"}],"nodeSelector":{"a":"b"}}});
        let new = json!({"metadata":{"labels":{"a":"1","c":"3"}},"spec":{"containers":[{"name":"c"},{"name":"a","image":"2"}],"tolerations":[{"key":"y"}],"nodeSelector":{"a":"b","c":"d"}}});
        let comparison = compare(Some(&old), &new, &schema);
        assert_eq!(
            Value::Object(comparison.changed),
            json!({"f:metadata":{"f:labels":{"f:c":{}}},"f:spec":{"f:tolerations":{},"f:nodeSelector":{},
                "f:containers":{"k:{\"name\":\"a\"}":{"f:image":{}},"k:{\"name\":\"c\"}":{".":{},"f:name":{}}}}})
        );
        assert_eq!(
            Value::Object(comparison.removed),
            json!({"f:metadata":{"f:labels":{"f:b":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"b\"}":{".":{},"f:name":{}}}}})
        );
        assert_eq!(compare(Some(&new), &new, &schema), Comparison::default());
    }
}
