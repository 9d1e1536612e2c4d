//! Strategic merge patch: a merge that knows lists by their keys and obeys directives in the patch.
//!
//! Semantics: upstream's strategicpatch (sig-api-machinery/strategic-merge-patch.md).
use crate::strategic_list::{merge_lists, order_items};
use api_meta::Status;
use api_schema::Schema;
use serde_json::{Map, Value};

pub(crate) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Merges `patch` into `document` by the patch strategies of `schema`. Where the schema says nothing,
/// objects merge and lists are replaced.
///
/// Error: 400, with upstream's words, if a directive is not understood or an element lacks its merge key.
pub fn strategic_merge(document: Value, patch: Value, schema: &Schema) -> Result<Value, Status> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(Status::bad_request("Invalid JSON document"));
    };
    merge_maps(document, patch, Some(schema)).map(Value::Object).map_err(Status::bad_request)
}

pub(crate) fn merge_maps(mut original: Map<String, Value>, mut patch: Map<String, Value>, schema: Option<&Schema>) -> Result<Map<String, Value>, String> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from_list(&mut original, field, &value)?;
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let field = schema.and_then(|s| s.field(&key));
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(original)), Value::Object(patch)) if !field.is_some_and(|f| f.patch.replace) => {
                Some(Value::Object(merge_maps(original, patch, field)?))
            }
            (Some(Value::Array(original)), Value::Array(patch)) if field.is_some_and(|f| f.patch.merge) => {
                Some(Value::Array(merge_lists(original, patch, field)?))
            }
            (_, value) => without_directives(value),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

/// `$retainKeys`: of the original, only these keys stay.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), String> {
    const BAD: &str = "invalid patch format of retainKeys";
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or(BAD)?;
    let retained = |key: &str| keys.iter().any(|k| k == key);
    let all_retained = patch.iter().all(|(key, value)| value.is_null() || key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER) || retained(key));
    if !all_retained {
        return Err(BAD.into());
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

/// `$setElementOrder/LIST`: merges the list and puts it in this order.
fn merge_ordered_lists(original: &mut Map<String, Value>, patch: &mut Map<String, Value>, schema: Option<&Schema>) -> Result<(), String> {
    const BAD: &str = "invalid patch format of setElementOrder list";
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(BAD.into()) };
        let key = &directive[ELEMENT_ORDER.len()..];
        let field = schema.and_then(|s| s.field(key));
        let merge_key = field.and_then(|f| f.patch.merge_key.as_deref());
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(BAD),
        };
        // A null in the patch removes the list; there is nothing to order then.
        if patch.get(key).is_some_and(Value::is_null) {
            continue;
        }
        let (before, changes) = (list(original.remove(key))?, list(patch.remove(key))?);
        if let Some(changes) = &changes {
            check_order(changes, &order, merge_key)?;
        }
        let server_order = before.clone().unwrap_or_default();
        let merged = match (before, changes) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(changes)) => without_directives_in(changes),
            (Some(before), Some(changes)) if field.is_some_and(|f| f.patch.merge) => merge_lists(before, changes, field)?,
            (Some(_), Some(changes)) => without_directives_in(changes),
        };
        original.insert(key.to_owned(), Value::Array(order_items(merged, &order, &server_order, merge_key)));
    }
    Ok(())
}

/// The list in a patch must have the order its own directive asks for.
fn check_order(changes: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), String> {
    let same = |a: &Value, b: &Value| merge_key.map_or(a == b, |key| a.get(key) == b.get(key) && a.get(key).is_some());
    let mut rest = order.iter();
    let kept = changes.iter().filter(|c| c.get(DIRECTIVE).is_none());
    for change in kept {
        if !rest.any(|o| same(o, change)) {
            return Err(format!("The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n", Value::from(changes), Value::from(order)));
        }
    }
    Ok(())
}

/// `$deleteFromPrimitiveList/LIST`: these values go.
fn delete_from_list(original: &mut Map<String, Value>, field: &str, values: &Value) -> Result<(), String> {
    let values = values.as_array().ok_or("invalid patch format of primitive list")?;
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// A value that is new to the object: nulls and directives are not part of it. `None` if it was to be deleted.
pub(crate) fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) => {
            if object.get(DIRECTIVE).is_some_and(|d| d == "delete") {
                return None;
            }
            let plain = object.into_iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
            Some(Value::Object(plain.filter_map(|(key, value)| Some((key, without_directives(value)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(without_directives_in(items))),
        other => Some(other),
    }
}

fn without_directives_in(items: Vec<Value>) -> Vec<Value> {
    let is_bare = |item: &Value| item.as_object().is_some_and(|o| o.len() == 1 && o.contains_key(DIRECTIVE));
    items.into_iter().filter(|item| !is_bare(item)).filter_map(without_directives).collect()
}

fn is_directive(key: &str) -> bool {
    key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER)
}

pub(crate) fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> String {
    let directive = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    format!("unknown patch type: {directive} in map: {}", Value::Object(patch.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_schema::builtin;
    use serde_json::json;

    fn merged(kind: (&str, &str), document: Value, patch: Value) -> Result<Value, String> {
        let schema = builtin::for_kind(kind.0, "v1", kind.1).unwrap();
        strategic_merge(document, patch, &schema).map_err(|s| s.message)
    }

    #[test]
    fn pods_merge_as_upstream_merges_them() {
        for (what, document, patch, want) in [
            (
                "containers merge by name; new ones come first",
                json!({"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1"}]}}),
                json!({"spec":{"containers":[{"name":"b","image":"2"},{"name":"c","image":"3"}]}}),
                json!({"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"},{"name":"c","image":"3"}]}}),
            ),
            (
                "a new element alone goes before those the patch does not name",
                json!({"spec":{"containers":[{"name":"a"}]}}),
                json!({"spec":{"containers":[{"name":"n","env":null}]}}),
                json!({"spec":{"containers":[{"name":"n"},{"name":"a"}]}}),
            ),
            (
                "an element is deleted by its key",
                json!({"spec":{"containers":[{"name":"a"},{"name":"b"}]}}),
                json!({"spec":{"containers":[{"name":"a","$patch":"delete"}]}}),
                json!({"spec":{"containers":[{"name":"b"}]}}),
            ),
            (
                "a list is replaced on demand",
                json!({"spec":{"containers":[{"name":"a"},{"name":"b"}]}}),
                json!({"spec":{"containers":[{"name":"c"},{"$patch":"replace"}]}}),
                json!({"spec":{"containers":[{"name":"c"}]}}),
            ),
            (
                "a map is replaced on demand",
                json!({"spec":{"nodeSelector":{"a":"1"},"securityContext":{"runAsUser":1}}}),
                json!({"spec":{"securityContext":{"$patch":"replace","fsGroup":2}}}),
                json!({"spec":{"nodeSelector":{"a":"1"},"securityContext":{"fsGroup":2}}}),
            ),
            (
                "volumes keep only the keys told to retain",
                json!({"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}),
                json!({"spec":{"volumes":[{"name":"v","hostPath":{"path":"/x"},"$retainKeys":["name","hostPath"]}]}}),
                json!({"spec":{"volumes":[{"name":"v","hostPath":{"path":"/x"}}]}}),
            ),
            (
                "primitives with a merge strategy are added and deleted",
                json!({"metadata":{"finalizers":["a","b"]}}),
                json!({"metadata":{"finalizers":["c"],"$deleteFromPrimitiveList/finalizers":["a"]}}),
                json!({"metadata":{"finalizers":["c","b"]}}),
            ),
            (
                "the order asked for is given",
                json!({"spec":{"containers":[{"name":"a"},{"name":"b"},{"name":"s"}]}}),
                json!({"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"n"},{"name":"a"}],"containers":[{"name":"n","image":"i"}]}}),
                json!({"spec":{"containers":[{"name":"b"},{"name":"n","image":"i"},{"name":"a"},{"name":"s"}]}}),
            ),
            (
                "an order without a list moves what is there",
                json!({"spec":{"containers":[{"name":"a"},{"name":"b"}]}}),
                json!({"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}]}}),
                json!({"spec":{"containers":[{"name":"b"},{"name":"a"}]}}),
            ),
            (
                "atomic lists are replaced, nulls remove",
                json!({"spec":{"tolerations":[{"key":"a"}],"nodeName":"n","hostname":"h"}}),
                json!({"spec":{"tolerations":[{"key":"b"}],"nodeName":null}}),
                json!({"spec":{"tolerations":[{"key":"b"}],"hostname":"h"}}),
            ),
            (
                "labels merge without a schema of their own",
                json!({"metadata":{"labels":{"a":"1","b":"2"}}}),
                json!({"metadata":{"labels":{"a":null,"c":"3"},"annotations":{"x":"y","z":null}}}),
                json!({"metadata":{"labels":{"b":"2","c":"3"},"annotations":{"x":"y"}}}),
            ),
            (
                "ports merge by container port",
                json!({"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"protocol":"TCP"}]}]}}),
                json!({"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"name":"http"}]}]}}),
                json!({"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"protocol":"TCP","name":"http"}]}]}}),
            ),
        ] {
            assert_eq!(merged(("", "Pod"), document, patch), Ok(want), "{what}");
        }
    }

    #[test]
    fn strategies_of_fields_hold() {
        let document = json!({"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}});
        let patch = json!({"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}});
        assert_eq!(merged(("apps", "Deployment"), document, patch), Ok(json!({"spec":{"strategy":{"type":"Recreate"}}})));
        let document = json!({"spec":{"selector":{"matchLabels":{"a":"b"}}}});
        let patch = json!({"spec":{"selector":{"matchLabels":{"c":"d"}}}});
        assert_eq!(merged(("policy", "PodDisruptionBudget"), document, patch.clone()), Ok(patch));
    }

    #[test]
    fn bad_patches_are_told() {
        let document = json!({"spec":{"containers":[{"name":"a"}]}});
        for (patch, want) in [
            (json!({"spec":{"containers":[{"image":"x"}]}}), r#"map: {"image":"x"} does not contain declared merge key: name"#),
            (json!({"spec":{"$patch":"what"}}), r#"unknown patch type: what in map: {"$patch":"what"}"#),
            (json!({"spec":{"containers":[{"name":"a","$patch":"merge"}]}}), "merging lists cannot yet be specified in the patch"),
            (json!({"spec":{"$retainKeys":"x"}}), "invalid patch format of retainKeys"),
            (json!({"spec":{"$retainKeys":["a"],"b":1}}), "invalid patch format of retainKeys"),
            (json!({"spec":{"$setElementOrder/containers":1}}), "invalid patch format of setElementOrder list"),
        ] {
            assert_eq!(merged(("", "Pod"), document.clone(), patch), Err(want.to_owned()));
        }
        let crossed = json!({"spec":{"$setElementOrder/containers":[{"name":"a"},{"name":"b"}],"containers":[{"name":"b"},{"name":"a"}]}});
        assert!(merged(("", "Pod"), document, crossed).unwrap_err().starts_with("The order in patch list:"));
    }
}
