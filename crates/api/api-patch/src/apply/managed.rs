//! `metadata.managedFields`: who owns which fields, through which operation, since when.
use super::fields::{Fields, union};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Beyond this many updaters of an object, upstream folds the oldest together.
const MOST_UPDATERS: usize = 10;
const FOLDED: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339, whole seconds, UTC: sorts as text.
    pub time: Option<String>,
    pub fields: Fields,
}

impl Entry {
    /// Whether both speak of the same owner. What one applies is one's own in every version.
    pub fn is_same_owner(&self, other: &Entry) -> bool {
        let versions = self.operation == Operation::Apply || self.api_version == other.api_version;
        self.operation == other.operation && self.manager == other.manager && self.subresource == other.subresource && versions
    }
}

/// A moment as `managedFields` has it.
pub(crate) fn stamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads the entries; what is no list of entries counts as none, as upstream has it.
pub(crate) fn decode(value: Value) -> Vec<Entry> {
    let Value::Array(items) = value else { return Vec::new() };
    items.into_iter().map(entry).collect::<Option<_>>().unwrap_or_default()
}

fn entry(value: Value) -> Option<Entry> {
    let Value::Object(mut object) = value else { return None };
    let mut text = |key: &str| match object.remove(key) {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text),
        Some(_) => None,
    };
    let operation = match text("operation")?.as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    let (manager, api_version, subresource, time) = (text("manager")?, text("apiVersion")?, text("subresource")?, text("time")?);
    if text("fieldsType")? != "FieldsV1" || api_version.is_empty() {
        return None;
    }
    let fields = match object.remove("fieldsV1") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(fields)) => fields,
        Some(_) => return None,
    };
    Some(Entry { manager, operation, api_version, subresource, time: Some(time).filter(|t| !t.is_empty()), fields })
}

/// Writes the entries in upstream's order: appliers first, then by time and name. `None` if there are none.
pub(crate) fn encode(mut entries: Vec<Entry>) -> Option<Value> {
    entries.retain(|e| !e.fields.is_empty());
    fold(&mut entries);
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
    let encoded: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            let mut value = json!({ "manager": entry.manager, "apiVersion": entry.api_version, "fieldsType": "FieldsV1" });
            value["operation"] = if entry.operation == Operation::Apply { "Apply" } else { "Update" }.into();
            value["fieldsV1"] = Value::Object(entry.fields);
            if let Some(time) = entry.time {
                value["time"] = time.into();
            }
            if !entry.subresource.is_empty() {
                value["subresource"] = entry.subresource.into();
            }
            value
        })
        .collect();
    Some(encoded).filter(|e| !e.is_empty()).map(Value::Array)
}

fn order(entry: &Entry) -> (Operation, &Option<String>, &str, &str, &str) {
    (entry.operation, &entry.time, &entry.manager, &entry.api_version, &entry.subresource)
}

/// Folds the oldest updaters of each version into one entry until few enough are left.
fn fold(entries: &mut Vec<Entry>) {
    let mut updaters = entries.iter().filter(|e| e.operation == Operation::Update).count();
    if updaters <= MOST_UPDATERS {
        return;
    }
    entries.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    // By version: where the first updater of it is, which becomes the folded entry once a second comes.
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let mut at = 0;
    while at < entries.len() && updaters > MOST_UPDATERS {
        if entries[at].operation == Operation::Update {
            if let Some(&bucket) = first.get(&entries[at].api_version) {
                let folded = entries.remove(at);
                let bucket = &mut entries[bucket];
                bucket.manager = FOLDED.into();
                bucket.subresource.clear();
                bucket.time = folded.time;
                union(&mut bucket.fields, &folded.fields);
                updaters -= 1;
                continue;
            }
            first.insert(entries[at].api_version.clone(), at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(manager: &str, time: u32) -> Entry {
        let fields = json!({ format!("f:{manager}"): {} }).as_object().unwrap().clone();
        let time = Some(format!("2020-01-01T00:00:{time:02}Z"));
        Entry { manager: manager.into(), operation: Operation::Update, api_version: "v1".into(), subresource: String::new(), time, fields }
    }

    #[test]
    fn the_oldest_updaters_are_folded() {
        let entries: Vec<Entry> = (0..12).map(|i| update(&format!("m{i:02}"), i)).collect();
        let encoded = encode(entries).unwrap();
        let entries = encoded.as_array().unwrap();
        assert_eq!(entries.len(), 10);
        assert_eq!(entries[0]["manager"], "ancient-changes");
        assert_eq!(entries[0]["fieldsV1"], json!({"f:m00":{},"f:m01":{},"f:m02":{}}));
        assert_eq!(entries[0]["time"], "2020-01-01T00:00:02Z");
    }

    #[test]
    fn entries_survive_the_round_trip_and_bad_ones_count_as_none() {
        let mut entries = vec![update("b", 1), update("a", 1)];
        entries.push(Entry { operation: Operation::Apply, subresource: "status".into(), ..update("z", 9) });
        let encoded = encode(entries).unwrap();
        assert_eq!(encoded[0]["operation"], "Apply");
        assert_eq!(encoded[1]["manager"], "a");
        assert_eq!(encode(decode(encoded.clone())), Some(encoded));
        assert_eq!(decode(json!([{"manager":"a","operation":"What"}])), []);
        assert_eq!(decode(json!([{}])), []);
        assert_eq!(encode(Vec::new()), None);
    }
}
