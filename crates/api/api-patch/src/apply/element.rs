//! Path elements: how a field, a list item or a set value is named within FieldsV1, and printed in a conflict.
use api_schema::{ListType, MapType, Schema, Type};
use serde_json::{Map, Value};

/// How a value is owned: whole, by its fields, or by its items.
pub(crate) enum Shape<'a> {
    Leaf,
    Fields(&'a Map<String, Value>),
    /// An associative list: its items with their path elements.
    Items(&'a [Value]),
}

/// Lists without a schema are atomic, objects without one are not.
pub(crate) fn shape<'a>(value: &'a Value, schema: Option<&Schema>) -> Shape<'a> {
    match value {
        Value::Object(object) if schema.is_none_or(|s| s.map_type == MapType::Granular) => Shape::Fields(object),
        Value::Array(items) if schema.is_some_and(|s| s.list_type != ListType::Atomic) => Shape::Items(items),
        _ => Shape::Leaf,
    }
}

pub(crate) fn field(name: &str) -> String {
    let mut element = String::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

/// Whether the field is one its schema names (not a key of a map).
pub(crate) fn is_declared(schema: Option<&Schema>, name: &str) -> bool {
    schema.is_some_and(|s| s.properties.contains_key(name))
}

/// The path element of an item of an associative list; `list` is the list's node.
///
/// Error: why the item cannot be told from others.
pub(crate) fn item(item: &Value, list: Option<&Schema>) -> Result<String, String> {
    let Some(ListType::Map(keys)) = list.map(|l| &l.list_type) else {
        return match item {
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            Value::Array(_) | Value::Object(_) => Err("associative list without keys has an element that's not a scalar".into()),
            scalar => Ok(format!("v:{scalar}")),
        };
    };
    let Value::Object(object) = item else {
        let what = if item.is_null() { "a null" } else { "non-map" };
        return Err(format!("associative list with keys may not have {what} element{}", if item.is_null() { "" } else { "s" }));
    };
    let items = list.and_then(Schema::item);
    let mut sorted: Vec<&str> = keys.iter().map(|k| &**k).collect();
    sorted.sort_unstable();
    let mut element = String::from("k:{");
    for (index, key) in sorted.into_iter().enumerate() {
        let default = || items.and_then(|i| i.field(key)).and_then(|f| f.default.as_ref());
        let Some(value) = object.get(key).filter(|v| !v.is_null()).or_else(default) else {
            return Err(format!("associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"));
        };
        if index > 0 {
            element.push(',');
        }
        use std::fmt::Write;
        write!(element, "{}:{value}", Value::from(key)).expect("a String takes all text");
    }
    element.push('}');
    Ok(element)
}

/// Whether Go keeps the struct within its parent, not behind a pointer: then it exists even in an
/// empty object, and nobody comes to own its coming to be. Schemas do not say; the names do.
pub(crate) fn is_embedded(schema: Option<&Schema>) -> bool {
    let definition = schema.filter(|s| s.kind == Type::Object).and_then(|s| s.definition.as_deref());
    definition.is_some_and(|d| ["ObjectMeta", "Spec", "Status", "Strategy"].iter().any(|end| d.ends_with(end)))
}

/// `.spec.containers[name="a"].image`, as conflicts name a field.
pub(crate) fn print_path(elements: &[&str]) -> String {
    let mut text = String::new();
    for element in elements {
        match element.split_at_checked(2) {
            Some(("f:", name)) => text.extend([".", name]),
            Some(("v:", value)) => text.extend(["[=", value, "]"]),
            Some(("i:", index)) => text.extend(["[", index, "]"]),
            Some(("k:", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                text.extend(["[", &keys.join(","), "]"]);
            }
            _ => text.push_str(element),
        }
    }
    text
}
