//! Lists in a strategic merge: merging by key or value, and the order that comes of it.
use crate::strategic::{DIRECTIVE, merge_maps, unknown_directive, without_directives};
use api_schema::Schema;
use serde_json::Value;

/// Merges two lists of a field with the strategy `merge`; `field` is the list's own node.
pub(crate) fn merge_lists(original: Vec<Value>, patch: Vec<Value>, field: Option<&Schema>) -> Result<Vec<Value>, String> {
    let are_maps = patch.first().or(original.first()).is_some_and(Value::is_object);
    if original.iter().chain(&patch).any(|item| item.is_object() != are_maps) {
        return Err("merging lists of different types is not supported".into());
    }
    let Some(merge_key) = field.and_then(|f| f.patch.merge_key.as_deref()).filter(|_| are_maps) else {
        if are_maps {
            return Err("cannot merge lists without merge key".into());
        }
        let mut merged = original.clone();
        for value in &patch {
            if !merged.contains(value) {
                merged.push(value.clone());
            }
        }
        return Ok(order_items(merged, &patch, &original, None));
    };
    let (original, patch) = apply_directives(original, patch, merge_key)?;
    let order: Vec<Value> = patch.iter().map(|item| key_only(item, merge_key)).collect();
    let server_order: Vec<Value> = original.iter().map(|item| key_only(item, merge_key)).collect();
    let mut merged = original;
    for item in patch {
        let Value::Object(item) = item else { continue };
        let key = item.get(merge_key).ok_or_else(|| no_key(&item.clone().into(), merge_key))?;
        match merged.iter_mut().find(|m| m.get(merge_key) == Some(key)) {
            Some(found) => {
                let Value::Object(before) = found.take() else { continue };
                *found = Value::Object(merge_maps(before, item, field.and_then(Schema::item))?);
            }
            None => merged.extend(without_directives(item.into())),
        }
    }
    Ok(order_items(merged, &order, &server_order, Some(merge_key)))
}

/// Takes out the elements that are directives, and obeys them.
fn apply_directives(mut original: Vec<Value>, patch: Vec<Value>, merge_key: &str) -> Result<(Vec<Value>, Vec<Value>), String> {
    let (mut plain, mut replace) = (Vec::new(), false);
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let key = item.get(merge_key).ok_or_else(|| no_key(&item, merge_key))?;
                original.retain(|o| o.get(merge_key) != Some(key));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err("merging lists cannot yet be specified in the patch".into()),
            _ => return Err(unknown_directive(directive, item.as_object().unwrap_or(&Default::default()))),
        }
    }
    if replace {
        return Ok((plain.into_iter().filter_map(without_directives).collect(), Vec::new()));
    }
    Ok((original, plain))
}

fn key_only(item: &Value, merge_key: &str) -> Value {
    Value::Object(item.get(merge_key).map(|v| (merge_key.to_owned(), v.clone())).into_iter().collect())
}

fn no_key(item: &Value, merge_key: &str) -> String {
    format!("map: {item} does not contain declared merge key: {merge_key}")
}

/// Puts items into the order of `wanted`, with those it does not name where the server had them:
/// each before the first wanted one that followed it there.
pub(crate) fn order_items(items: Vec<Value>, wanted: &[Value], server: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    let position = |list: &[Value], item: &Value| {
        list.iter().position(|other| merge_key.map_or(other == item, |key| item.get(key).is_some() && other.get(key) == item.get(key)))
    };
    let (mut named, mut server_only): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| position(wanted, item).is_some());
    named.sort_by_key(|item| position(wanted, item));
    server_only.sort_by_key(|item| position(server, item));

    let mut ordered = Vec::with_capacity(named.len() + server_only.len());
    let mut left = server_only.into_iter().peekable();
    for item in named {
        let place = position(server, &item);
        while let Some(other) = left.next_if(|other| matches!((position(server, other), place), (Some(l), Some(r)) if l < r)) {
            ordered.push(other);
        }
        ordered.push(item);
    }
    ordered.extend(left);
    ordered
}
