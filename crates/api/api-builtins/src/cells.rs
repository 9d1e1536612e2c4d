//! Cells of Tables that several kinds share, worded as upstream's printers word them.
use crate::fields::Read;
use api_resource::{Column, Row, age};
use serde_json::Value;

pub const NONE: &str = "<none>";
pub const UNSET: &str = "<unset>";

/// The time since creation as text, for kinds that order their columns themselves.
pub const AGE: Column = Column::AGE;

/// For kinds upstream has no printer for: when it was created, not how long ago.
pub const CREATED_AT: Column = Column { kind: "date", ..Column::with("Created At", |row| row.object["metadata"]["creationTimestamp"].clone()) };

/// Names and images of the containers of `spec.template`, and the LabelSelector of `spec.selector`.
pub const CONTAINERS: Column = Column::with("Containers", |row| container_names(&row.object["spec"]["template"])).wide();
pub const IMAGES: Column = Column::with("Images", |row| container_images(&row.object["spec"]["template"])).wide();
pub const SELECTOR: Column = Column::with("Selector", |row| label_selector(&row.object["spec"]["selector"]).into()).wide();

/// A text, or what stands for an absent one.
pub fn text_or(value: &Value, absent: &str) -> Value {
    match value.text() {
        "" => absent.into(),
        text => text.into(),
    }
}

/// A number, 0 when absent.
pub fn number(value: &Value) -> Value {
    value.int().unwrap_or_default().into()
}

/// The age of an RFC 3339 time, `<unknown>` when absent.
pub fn since(value: &Value, row: &Row) -> String {
    age(value.as_str(), row.now)
}

/// An int-or-string as text.
pub fn int_or_string(value: &Value, absent: &str) -> Value {
    match value {
        Value::Number(number) => number.to_string().into(),
        other => text_or(other, absent),
    }
}

pub fn container_names(template: &Value) -> Value {
    join(template["spec"]["containers"].list().iter().map(|container| container["name"].text()))
}

pub fn container_images(template: &Value) -> Value {
    join(template["spec"]["containers"].list().iter().map(|container| container["image"].text()))
}

fn join<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    texts.collect::<Vec<_>>().join(",").into()
}

/// `a=b,c=d` in key order; `<none>` without labels.
pub fn labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels.entries().map(|(key, value)| format!("{key}={}", value.text())).collect();
    if pairs.is_empty() { NONE.into() } else { pairs.join(",") }
}

/// A LabelSelector in the query grammar; `<none>` when it has no requirements.
pub fn label_selector(selector: &Value) -> String {
    let mut requirements: Vec<(&str, String)> =
        selector["matchLabels"].entries().map(|(key, value)| (key.as_str(), format!("{key}={}", value.text()))).collect();
    for expression in selector["matchExpressions"].list() {
        let key = expression["key"].text();
        let mut values: Vec<&str> = expression["values"].texts().collect();
        values.sort_unstable();
        let values = values.join(",");
        requirements.push((
            key,
            match expression["operator"].text() {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "Exists" => key.to_owned(),
                "DoesNotExist" => format!("!{key}"),
                _ => return "<error>".into(),
            },
        ));
    }
    requirements.sort_by_key(|(key, _)| *key);
    let texts: Vec<String> = requirements.into_iter().map(|(_, text)| text).collect();
    if texts.is_empty() { NONE.into() } else { texts.join(",") }
}

/// The first three of a list, and how many more there are.
pub fn first_three(texts: &[String], absent: &str) -> String {
    match texts.len() {
        0 => absent.into(),
        1..=3 => texts.join(","),
        count => format!("{} + {} more...", texts[..3].join(","), count - 3),
    }
}

/// Addresses of a load balancer, each once and sorted.
pub fn load_balancer(status: &Value) -> String {
    let mut addresses: Vec<&str> = status["loadBalancer"]["ingress"]
        .list()
        .iter()
        .map(|ingress| if ingress["ip"].text().is_empty() { ingress["hostname"].text() } else { ingress["ip"].text() })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

/// The condition of this type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].list().iter().find(|condition| condition["type"] == kind)
}

/// Whether the condition of this type is `True`.
pub fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// `RWO,ROX` for access modes.
pub fn access_modes(modes: &Value) -> String {
    let has = |mode: &str| modes.texts().any(|other| other == mode);
    let all = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    all.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

/// The storage class of a claim or volume: the field, or the annotation that came before it.
pub fn storage_class(object: &Value) -> Value {
    match &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"] {
        Value::String(class) => class.as_str().into(),
        _ => object["spec"]["storageClassName"].text().into(),
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
