//! Writes: the difference between what is wanted and what is there, and doing it.
use crate::names::{MANAGED_BY, MANAGER};
use crate::wanted::Sort;
use api_meta::ClusterName;
use controller_kit::{Deletion, Error, Kind, ObjectKey, Objects, Preconditions, same};
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create(Value),
    Replace(Value),
    Delete(Value),
}

/// What leads from `found` to `wanted`. Objects found that these controllers made and nobody wants go.
pub fn difference(wanted: &[(Sort, Value)], found: &[(Sort, Value)]) -> Vec<(Sort, Write)> {
    let mut writes = Vec::new();
    for (sort, right) in wanted {
        let name = &right["metadata"]["name"];
        match found.iter().find(|(other, object)| other == sort && object["metadata"]["name"] == *name) {
            None => writes.push((*sort, Write::Create(right.clone()))),
            Some((_, object)) if !same(&right["roleRef"], &object["roleRef"]) => {
                // What a binding gives can't be changed, so another takes its place.
                writes.push((*sort, Write::Delete(object.clone())));
                writes.push((*sort, Write::Create(right.clone())));
            }
            Some((_, object)) => writes.extend(mended(right, object).map(|object| (*sort, Write::Replace(object)))),
        }
    }
    for (sort, object) in found {
        let ours = object["metadata"]["labels"][MANAGED_BY] == MANAGER;
        let is_wanted = wanted.iter().any(|(other, right)| other == sort && right["metadata"]["name"] == object["metadata"]["name"]);
        if ours && !is_wanted {
            writes.push((*sort, Write::Delete(object.clone())));
        }
    }
    writes
}

/// What was found, with what is wanted; `None` when it says so already. A Cluster's settings are its owner's once it is there.
fn mended(wanted: &Value, found: &Value) -> Option<Value> {
    let fields: &[&str] = if wanted["kind"] == "Cluster" { &[] } else { &["spec", "rules", "subjects"] };
    let labelled = found["metadata"]["labels"][MANAGED_BY] == MANAGER;
    if labelled && fields.iter().all(|field| same(&wanted[field], &found[field])) {
        return None;
    }
    let mut mended = found.clone();
    for field in fields.iter().filter(|field| !wanted[**field].is_null()) {
        mended[field] = wanted[field].clone();
    }
    mended["metadata"]["labels"][MANAGED_BY] = MANAGER.into();
    Some(mended)
}

/// The patch of a namespace's metadata that gives it what is wanted; `None` when it has it.
pub fn metadata_patch(wanted: &Value, found: &Value) -> Option<Value> {
    let mut patch = json!({});
    for part in ["labels", "annotations"] {
        for (key, value) in wanted[part].as_object().into_iter().flatten() {
            if found[part][key] != *value {
                patch[part][key] = value.clone();
            }
        }
    }
    (patch != json!({})).then_some(patch)
}

pub async fn write<K: Kind>(objects: &Objects<K>, cluster: &ClusterName, action: Write) -> Result<(), Error> {
    let done = match action {
        Write::Create(object) => objects.create(cluster, &serde_json::from_value(object)?).await.map(drop),
        Write::Replace(object) => objects.replace(cluster, &serde_json::from_value(object)?).await.map(drop),
        Write::Delete(object) => {
            let object: K = serde_json::from_value(object)?;
            let deletion = Deletion { preconditions: Preconditions::uid_of(object.metadata()), ..Deletion::default() };
            objects.delete(&ObjectKey::of(cluster, object.metadata()), &deletion).await
        }
    };
    match done {
        Err(error) if error.is_namespace_terminating() => Ok(()),
        done => done,
    }
}

/// A namespace's objects of one sort.
pub fn collect<K: Kind>(objects: &Objects<K>, cluster: &ClusterName, namespace: Option<&str>, sort: Sort, into: &mut Vec<(Sort, Value)>) {
    let all = objects.list(cluster, namespace);
    into.extend(all.iter().filter_map(|object| Some((sort, serde_json::to_value(&**object).ok()?))));
}
