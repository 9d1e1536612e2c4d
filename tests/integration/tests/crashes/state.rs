//! State: what there is in the end, without what differs between two runs that came to the same.
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Fields that no two runs share.
const ACCIDENTAL: [&str; 6] = ["resourceVersion", "creationTimestamp", "managedFields", "generation", "observedGeneration", "uid"];

/// All objects of a telling in `namespace`, in an order of their own, without what `but` names.
pub fn normalized(objects: Vec<Value>, namespace: &str, but: &[&str]) -> Value {
    let objects = renamed(objects, namespace);
    let mut names = HashMap::new();
    for object in &objects {
        let metadata = &object["metadata"];
        if let (Some(name), Some(stem)) = (metadata["name"].as_str(), metadata["generateName"].as_str()) {
            names.insert(name.to_owned(), format!("{stem}*"));
        }
    }
    let mut all: Vec<Value> = objects.into_iter().map(|object| clean(object, &names, but)).collect();
    sort(&mut all);
    Value::Array(all)
}

/// With a telling's own name, and its objects' uids wherever a name has one in it, made alike.
fn renamed(objects: Vec<Value>, namespace: &str) -> Vec<Value> {
    let uids: Vec<String> = objects.iter().filter_map(|object| object["metadata"]["uid"].as_str()).map(str::to_owned).collect();
    let text = Value::Array(objects).to_string().replace(namespace, "NAMESPACE");
    serde_json::from_str(&uids.iter().fold(text, |text, uid| text.replace(uid, "UID"))).unwrap()
}

fn sort(all: &mut [Value]) {
    all.sort_by_cached_key(Value::to_string);
}

fn clean(value: Value, names: &HashMap<String, String>, but: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !ACCIDENTAL.contains(&name.as_str()) && !but.contains(&name.as_str()));
            // Labels and annotations may hold uids.
            let cleaned = |(name, value): (String, Value)| {
                let value = if name.ends_with("-uid") || name.ends_with(".uid") { json!("uid") } else { clean(value, names, but) };
                (name, value)
            };
            Value::Object(kept.map(cleaned).collect::<Map<_, _>>())
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(|item| clean(item, names, but)).collect();
            sort(&mut items);
            Value::Array(items)
        }
        Value::String(text) => {
            let is_time = text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z');
            let mounted = text.strip_prefix("kube-api-access-").is_some_and(|random| random.len() == 5);
            // Attachments are named by a hash of the volume's handle.
            let attached = text.strip_prefix("csi-").is_some_and(|hash| hash.len() == 64);
            json!(if is_time {
                "a time"
            } else if mounted {
                "kube-api-access-*"
            } else if attached {
                "csi-*"
            } else {
                names.get(&text).unwrap_or(&text)
            })
        }
        other => other,
    }
}
