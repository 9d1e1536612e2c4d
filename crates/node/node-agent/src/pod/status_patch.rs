//! The patch that brings the API's status of a pod to the node's: only what differs.
use super::conditions::OWN;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// A strategic merge patch for the status subresource; `None` if nothing differs.
///
/// It holds the pod's uid, so that a new pod of the same name is never written to. Conditions are merged by
/// type, so that those of others stay as they are.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) = (serde_json::to_value(old), serde_json::to_value(new)) else { return None };
    let mut status = Map::new();
    for (key, value) in &new {
        let before = old.get(key);
        if before == Some(value) {
            continue;
        }
        match key.as_str() {
            "conditions" => {
                let changed = changed_conditions(before, value);
                if !changed.is_empty() {
                    status.insert(key.clone(), Value::Array(changed));
                }
            }
            // Merged by address: the old ones would stay.
            "podIPs" | "hostIPs" if before.and_then(Value::as_array).is_some_and(|list| !list.is_empty()) => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(value.as_array().cloned().unwrap_or_default());
                status.insert(key.clone(), Value::Array(list));
            }
            _ => {
                status.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        status.insert(key.clone(), Value::Null);
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn changed_conditions(old: Option<&Value>, new: &Value) -> Vec<Value> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (list(old), list(Some(new)));
    let mut out = Vec::new();
    for condition in new {
        let type_ = condition["type"].as_str().unwrap_or_default();
        if !OWN.contains(&type_) {
            continue;
        }
        let before = old.iter().find(|c| c["type"] == condition["type"]);
        if before == Some(&condition) {
            continue;
        }
        let mut entry = condition;
        if let (Some(Value::Object(before)), Value::Object(entry)) = (before, &mut entry) {
            for key in before.keys().filter(|key| !entry.contains_key(*key)).cloned().collect::<Vec<_>>() {
                entry.insert(key, Value::Null);
            }
        }
        out.push(entry);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_differences_are_sent() {
        let old = status(json!({"phase": "Pending", "reason": "Old", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}, {"type": "PodScheduled", "status": "True"}, {"type": "mine/gate", "status": "True"}]}));
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "conditions": [
            {"type": "mine/gate", "status": "False"}, {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]}));
        assert_eq!(
            status_patch("u", &old, &new).unwrap(),
            json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}]}})
        );
        assert_eq!(status_patch("u", &new, &new), None);
    }
}
