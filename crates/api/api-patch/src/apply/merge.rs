//! Merging an applied configuration into the live object.
use super::element::{Shape, item, shape};
use api_schema::Schema;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// The live value with the configuration laid over it: fields and items merge, leaves are the configuration's.
pub(crate) fn merge(live: &Value, applied: &Value, schema: Option<&Schema>) -> Value {
    match (shape(live, schema), shape(applied, schema)) {
        (Shape::Fields(live), Shape::Fields(applied)) => Value::Object(merge_fields(live, applied, schema)),
        (Shape::Items(live), Shape::Items(items)) => merge_items(live, items, schema).map_or_else(|| applied.clone(), Value::Array),
        _ => applied.clone(),
    }
}

fn merge_fields(live: &Map<String, Value>, applied: &Map<String, Value>, schema: Option<&Schema>) -> Map<String, Value> {
    let mut merged = Map::new();
    for (name, value) in live {
        let value = match applied.get(name) {
            Some(over) => merge(value, over, schema.and_then(|s| s.field(name))),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    for (name, value) in applied.iter().filter(|(name, _)| !live.contains_key(*name)) {
        merged.insert(name.clone(), value.clone());
    }
    merged
}

/// Merges associative lists. The configuration's order wins; items only the live list has keep their
/// place among their neighbours (structured-merge-diff's order). `None` if items have no keys.
fn merge_items(live: &[Value], applied: &[Value], schema: Option<&Schema>) -> Option<Vec<Value>> {
    let child = schema.and_then(Schema::item);
    let keys = |items: &[Value]| items.iter().map(|i| item(i, schema).ok()).collect::<Option<Vec<String>>>();
    let (live_keys, applied_keys) = (keys(live)?, keys(applied)?);
    let mut live_by_key: HashMap<&str, &Value> = HashMap::new();
    for (key, value) in live_keys.iter().zip(live) {
        live_by_key.entry(key).or_insert(value);
    }
    let in_applied: HashSet<&str> = applied_keys.iter().map(String::as_str).collect();
    let mut shared = applied_keys.iter().filter(|k| live_by_key.contains_key(k.as_str())).map(String::as_str);
    let mut next_shared = shared.next();
    let mut done: HashSet<&str> = HashSet::new();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let over = |key: &str, applied: &Value| live_by_key.get(key).map_or_else(|| applied.clone(), |live| merge(live, applied, child));

    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < applied.len() {
        if l < live.len() && r < applied.len() {
            let key = live_keys[l].as_str();
            if key == applied_keys[r] {
                done.insert(key);
                merged.push(over(key, &applied[r]));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if in_applied.contains(key) && next_shared.is_some_and(|n| n != key) {
                // Shared, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if l < live.len() {
            let key = live_keys[l].as_str();
            if !in_applied.contains(key) {
                merged.push(live[l].clone());
                l += 1;
                continue;
            }
            if done.contains(key) {
                l += 1;
            }
        }
        if r < applied.len() {
            let key = applied_keys[r].as_str();
            done.insert(key);
            merged.push(over(key, &applied[r]));
            r += 1;
            if next_shared == Some(key) {
                next_shared = shared.next();
            }
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_schema::builtin;
    use serde_json::json;

    #[test]
    fn the_configurations_order_wins() {
        let schema = builtin::for_kind("", "v1", "Pod").unwrap();
        let pod = |names: &str| json!({"spec":{"containers":names.chars().map(|c| json!({"name":c.to_string()})).collect::<Vec<_>>()}});
        for (live, applied, want) in
            [("abc", "ca", "bca"), ("ab", "xb", "axb"), ("abc", "b", "abc"), ("", "ab", "ab"), ("sab", "ba", "sba"), ("a", "bca", "bca")]
        {
            assert_eq!(merge(&pod(live), &pod(applied), Some(&schema)), pod(want), "{live} + {applied}");
        }
    }

    #[test]
    fn atomic_values_are_taken_whole() {
        let schema = builtin::for_kind("", "v1", "Pod").unwrap();
        let live = json!({"metadata":{"labels":{"a":"1"}},"spec":{"nodeSelector":{"a":"1"},"tolerations":[{"key":"a"}],"nodeName":"n"}});
        let applied = json!({"metadata":{"labels":{"b":"2"}},"spec":{"nodeSelector":{"b":"2"},"tolerations":[]}});
        let want = json!({"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"nodeSelector":{"b":"2"},"tolerations":[],"nodeName":"n"}});
        assert_eq!(merge(&live, &applied, Some(&schema)), want);
    }
}
