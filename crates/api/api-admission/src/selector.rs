//! Label selectors as objects hold them.
use api_meta::LabelSelector;
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads a `LabelSelector`; absent it selects everything.
pub(crate) fn read(selector: &Value) -> Result<LabelSelector, String> {
    let labels = labels_of(&selector["matchLabels"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let expressions: Vec<(String, String, Vec<String>)> = crate::request::items(&selector["matchExpressions"])
        .iter()
        .map(|e| (text(&e["key"]), text(&e["operator"]), crate::request::items(&e["values"]).iter().map(text).collect()))
        .collect();
    LabelSelector::from_parts(&labels, expressions.iter().map(|(key, operator, values)| (key.as_str(), operator.as_str(), values.as_slice())))
}

/// A map of strings; empty when it is something else.
pub(crate) fn labels_of(map: &Value) -> BTreeMap<String, String> {
    map.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether an object with metadata has labels that fit.
pub(crate) fn matches_object(selector: &LabelSelector, object: &Value) -> bool {
    object["metadata"].is_object() && selector.matches(&labels_of(&object["metadata"]["labels"]))
}
