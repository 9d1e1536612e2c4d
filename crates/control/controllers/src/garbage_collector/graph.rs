//! Graph: who owns whom, over all kinds and clusters, as the watches tell it.
use crate::discovery::ServedResource;
use api_meta::ClusterName;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// What the collector reads of an object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: Box<str>,
    pub namespace: Box<str>,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub deletion_timestamp: Option<Box<str>>,
    pub finalizers: Vec<Box<str>>,
    pub owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    pub api_version: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub block_owner_deletion: bool,
}

impl Metadata {
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|other| **other == *finalizer)
    }
    /// Being deleted in the foreground: it waits for what it owns.
    pub fn waits_for_dependents(&self) -> bool {
        self.is_deleting() && self.has_finalizer(FOREGROUND)
    }
    /// Being deleted, with what it owns to be left alone.
    pub fn leaves_orphans(&self) -> bool {
        self.is_deleting() && self.has_finalizer(ORPHAN)
    }
}

/// An object's place.
#[derive(Clone, Debug)]
pub struct Node {
    pub cluster: ClusterName,
    pub resource: Arc<ServedResource>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub owners: Box<[Owner]>,
    pub waits_for_dependents: bool,
}

/// Which objects must be looked at because of a change. Uids, each with its cluster.
#[derive(Debug, Default, PartialEq)]
pub struct Wake {
    pub attempt: Vec<Box<str>>,
    pub orphan: Vec<Box<str>>,
}

/// INVARIANT: `dependents` mirrors the owners of all nodes, also for owners that are not in the graph.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Box<str>, Node>,
    dependents: HashMap<Box<str>, HashSet<Box<str>>>,
}

impl Graph {
    pub fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn dependents(&self, uid: &str) -> Vec<(Box<str>, Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone()))).collect()
    }

    /// Dependents that keep an owner from going until they are gone.
    pub fn blocking(&self, uid: &str) -> Vec<Box<str>> {
        let blocks = |node: &Node| node.owners.iter().any(|owner| *owner.uid == *uid && owner.block_owner_deletion);
        self.dependents(uid).into_iter().filter(|(_, node)| blocks(node)).map(|(uid, _)| uid).collect()
    }

    /// Objects with an owner that is not in the graph.
    pub fn with_absent_owners(&self) -> Vec<Box<str>> {
        let absent = |node: &Node| node.owners.iter().any(|owner| !self.nodes.contains_key(&owner.uid));
        self.nodes.iter().filter(|(_, node)| absent(node)).map(|(uid, _)| uid.clone()).collect()
    }

    pub fn apply(&mut self, cluster: &ClusterName, resource: &Arc<ServedResource>, metadata: Metadata) -> Wake {
        let mut wake = Wake::default();
        let uid = metadata.uid.clone();
        let (was_waiting, old_owners) = match self.nodes.get(&uid) {
            Some(node) => (node.waits_for_dependents, node.owners.clone()),
            None => (false, Box::default()),
        };
        let waits = metadata.waits_for_dependents();
        if metadata.leaves_orphans() {
            wake.orphan.push(uid.clone());
        }
        if waits && !was_waiting {
            wake.attempt.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
            wake.attempt.push(uid.clone());
        }
        for owner in old_owners.iter().filter(|old| metadata.owner_references.iter().all(|new| new.uid != old.uid)) {
            self.unlink(&owner.uid, &uid, &mut wake);
        }
        for owner in &metadata.owner_references {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            match self.nodes.get(&owner.uid) {
                // The owner is unknown, or already going: this object's time may have come.
                None => wake.attempt.push(uid.clone()),
                Some(owner) if owner.waits_for_dependents => wake.attempt.push(uid.clone()),
                Some(_) => {}
            }
            let unblocked = old_owners.iter().any(|old| old.uid == owner.uid && old.block_owner_deletion) && !owner.block_owner_deletion;
            if unblocked && self.nodes.get(&owner.uid).is_some_and(|owner| owner.waits_for_dependents) {
                wake.attempt.push(owner.uid.clone());
            }
        }
        let node = Node {
            cluster: cluster.clone(),
            resource: resource.clone(),
            waits_for_dependents: waits,
            namespace: metadata.namespace,
            name: metadata.name,
            owners: metadata.owner_references.into(),
        };
        self.nodes.insert(uid, node);
        wake
    }

    pub fn remove(&mut self, uid: &str) -> Wake {
        let mut wake = Wake::default();
        let Some(node) = self.nodes.remove(uid) else { return wake };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid, &mut wake);
        }
        wake.attempt.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        wake
    }

    /// The uids a resource has in the graph.
    pub fn uids_of(&self, resource: &ServedResource) -> HashSet<Box<str>> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.resource.group == resource.group && node.resource.plural == resource.plural)
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str, wake: &mut Wake) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
        // One fewer to wait for.
        if self.nodes.get(owner).is_some_and(|owner| owner.waits_for_dependents) {
            wake.attempt.push(owner.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resource() -> Arc<ServedResource> {
        Arc::new(ServedResource { group: String::new(), version: "v1".into(), plural: "things".into(), kind: "Thing".into(), namespaced: true, verbs: vec![] })
    }

    fn apply(graph: &mut Graph, uid: &str, owners: &[&str], with: Value) -> Wake {
        let owners: Vec<Value> = owners.iter().map(|uid| json!({"uid": uid, "blockOwnerDeletion": true})).collect();
        let mut value = json!({"uid": uid, "name": uid, "ownerReferences": owners});
        value.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        graph.apply(&ClusterName::root(), &resource(), serde_json::from_value(value).unwrap())
    }

    fn names(uids: &[Box<str>]) -> Vec<&str> {
        let mut names: Vec<&str> = uids.iter().map(|uid| &**uid).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes_or_was_never_there() {
        let mut graph = Graph::default();
        assert_eq!(names(&apply(&mut graph, "child", &["owner"], json!({})).attempt), ["child"]);
        assert_eq!(names(&graph.with_absent_owners()), ["child"]);
        assert_eq!(apply(&mut graph, "owner", &[], json!({})), Wake::default());
        assert!(graph.with_absent_owners().is_empty());
        assert_eq!(names(&graph.remove("owner").attempt), ["child"]);
        assert!(graph.remove("child").attempt.is_empty() && graph.dependents.is_empty());
    }

    #[test]
    fn foreground_deletion_wakes_both_ways_and_orphaning_is_noticed() {
        let mut graph = Graph::default();
        apply(&mut graph, "owner", &[], json!({}));
        apply(&mut graph, "child", &["owner"], json!({}));
        let going = |finalizer: &str| json!({"deletionTimestamp": "now", "finalizers": [finalizer]});
        assert_eq!(names(&apply(&mut graph, "owner", &[], going(FOREGROUND)).attempt), ["child", "owner"]);
        assert_eq!(names(&graph.blocking("owner")), ["child"]);
        assert_eq!(names(&graph.remove("child").attempt), ["owner"]);
        assert_eq!(names(&apply(&mut graph, "other", &[], going(ORPHAN)).orphan), ["other"]);
    }
}
