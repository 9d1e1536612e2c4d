//! What changed between two forms of an object, as sets of fields.
use super::element::{Shape, field, is_embedded, item, shape};
use super::fields::{Fields, SELF, leaf};
use api_schema::Schema;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

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
    let (before, after) = (by_key(&old_keys, old), by_key(&new_keys, new));
    let mut pair = Pair::default();
    for (key, now) in &after {
        let key = || (*key).to_owned();
        match (before.get(key().as_str()).map(Vec::as_slice), now.as_slice()) {
            (None, [only]) => pair.add(key, (Some(all(only, child)), None)),
            (Some([before]), [only]) => pair.add(key, nodes(before, only, child)),
            // What has been there repeatedly no longer is.
            (Some(_), [only]) => pair.add(key, (Some(all(only, child)), Some(Map::new()))),
            (Some([before]), _) => pair.add(key, (Some(Map::new()), Some(all(before, child)))),
            (Some(before), now) if before == now => {}
            _ => pair.add(key, (Some(Map::new()), None)),
        }
    }
    for (key, before) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
        let removed = if let [only] = before.as_slice() { all(only, child) } else { Map::new() };
        pair.add(|| (*key).to_owned(), (None, Some(removed)));
    }
    pair.nodes()
}

/// The items of each key: keys should be of one item each, but only apply insists on it. Items of one key are owned together.
fn by_key<'a>(keys: &'a [String], items: &'a [Value]) -> BTreeMap<&'a str, Vec<&'a Value>> {
    let mut grouped = BTreeMap::<_, Vec<_>>::new();
    for (key, value) in keys.iter().zip(items) {
        grouped.entry(key.as_str()).or_default().push(value);
    }
    grouped
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
                let below = if node.contains_key(&key) { Map::new() } else { all(value, child) };
                node.insert(key, Value::Object(below));
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
    fn items_of_one_key_are_owned_together() {
        let schema = builtin::for_kind("", "v1", "Service").unwrap();
        let of = |ports: Value| json!({"spec":{"ports":ports}});
        let (one, two) = (of(json!([{"port":1,"name":"a"}])), of(json!([{"port":1,"name":"a"},{"port":1,"name":"b"}])));
        let key = "k:{\"port\":1,\"protocol\":\"TCP\"}";
        let set = |below: Value| json!({"f:spec":{"f:ports":{key:below}}});
        let of_one = json!({".":{},"f:port":{},"f:name":{}});
        assert_eq!(compare(Some(&two), &two, &schema), Comparison::default());
        let more = compare(Some(&one), &two, &schema);
        assert_eq!((Value::Object(more.changed), Value::Object(more.removed)), (set(json!({})), set(of_one.clone())));
        let less = compare(Some(&two), &one, &schema);
        assert_eq!((Value::Object(less.changed), Value::Object(less.removed)), (set(of_one), set(json!({}))));
        assert_eq!(Value::Object(compare(None, &two, &schema).changed)["f:spec"]["f:ports"], json!({".":{},key:{}}));
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
