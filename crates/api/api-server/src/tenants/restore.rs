//! Restoring: what a cluster holds is replaced by what a snapshot holds, in one transaction; as a cluster of its own, or in place.
//!
//! Who a cluster is stays its own: name, number, authority, addresses. What tells of the world outside the store stays as
//! it is: nodes, volumes, what is attached. Pods begin anew: their controllers make them again, and those that have none
//! are created like new ones ([`settle`](super::settle)).
use super::TenantRecord;
use super::hosting::{ClusterError, refused};
use super::pause::{is_mirror, is_over};
use super::settle;
use super::snapshot::{Held, Snapshot};
use crate::server::ApiServer;
use crate::{allocate, bootstrap};
use api_meta::{ClusterName, ClusterSettings, GroupResource, object};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use store::{Key, Op, Precondition, RangeRequest, Scope, StoreError, Txn};

/// How often other clusters may take a node port in the moment it was found free.
const ATTEMPTS: usize = 5;
/// What the binder and the scheduler have written on a claim.
const BOUND: [&str; 5] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];

type Objects = BTreeMap<Key, Value>;

/// What a cluster will hold.
#[derive(Debug, Default, PartialEq)]
struct Content {
    objects: Objects,
    /// To be created once the rest is there.
    waiting: Vec<Value>,
}

/// What a snapshot is restored to.
struct Target<'a> {
    cluster: &'a ClusterName,
    settings: &'a ClusterSettings,
    /// What it starts with when it is new.
    first: Objects,
    /// What it holds; `None` when it is made from the snapshot.
    now: Option<Objects>,
}

/// Objects that tell of machines and volumes.
fn is_of_the_world(key: &Key) -> bool {
    matches!(
        (key.group(), key.resource(), key.namespace()),
        ("", "nodes" | "persistentvolumes", _)
            | ("storage.k8s.io", "csinodes" | "volumeattachments" | "csistoragecapacities", _)
            | ("snapshot.storage.k8s.io", "volumesnapshots" | "volumesnapshotcontents", _)
            | ("certificates.k8s.io", "certificatesigningrequests", _)
            | ("coordination.k8s.io", "leases", "kube-node-lease")
    )
}

/// Objects that say where the cluster's own API and DNS are.
fn leads(key: &Key) -> bool {
    matches!((key.group(), key.resource()), ("", "services" | "endpoints") | ("discovery.k8s.io", "endpointslices"))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether controllers derive the object from pods, whose addresses mean others by now.
fn is_derived(key: &Key, object: &Value, selecting: &HashSet<(String, String)>) -> bool {
    match (key.group(), key.resource()) {
        ("discovery.k8s.io", "endpointslices") => {
            let by = text(object, "/metadata/labels/endpointslice.kubernetes.io~1managed-by");
            matches!(by, "endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io")
        }
        ("", "endpoints") => selecting.contains(&(key.namespace().to_owned(), key.name().to_owned())),
        _ => false,
    }
}

/// Replaces every text that is one of these uids, wherever it stands: in owners, references, labels and selectors.
fn rename(value: &mut Value, uids: &HashMap<String, String>) {
    match value {
        Value::String(text) if text.len() == 36 => {
            if let Some(new) = uids.get(text) {
                text.clone_from(new);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, uids)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, uids)),
        _ => {}
    }
}

/// What the cluster will hold, by what the snapshot held.
fn content(snapshot: Vec<Held>, target: &Target<'_>) -> Content {
    let mut snapshot: Objects = snapshot.into_iter().map(|held| (Key::new(target.cluster, &held.resource, &held.namespace, &held.name), held.object)).collect();
    if target.now.is_none() {
        // Two clusters never have objects of one uid: nodes tell pods and volumes apart by it.
        let uids =
            snapshot.values().filter_map(|object| object.pointer("/metadata/uid")?.as_str()).map(|uid| (uid.to_owned(), uuid::Uuid::new_v4().to_string()));
        let uids: HashMap<String, String> = uids.collect();
        snapshot.values_mut().for_each(|object| rename(object, &uids));
    }
    let selecting = snapshot.iter().filter(|(key, service)| (key.group(), key.resource()) == ("", "services") && service["spec"]["selector"].is_object());
    let selecting: HashSet<_> = selecting.map(|(key, _)| (key.namespace().to_owned(), key.name().to_owned())).collect();
    let mut content = Content { objects: target.first.clone(), waiting: Vec::new() };
    let mut claims = Vec::new();
    for (key, mut object) in snapshot {
        match (key.group(), key.resource()) {
            _ if leads(&key) && target.first.contains_key(&key) => continue,
            // A volume that a driver made is no part of the snapshot; what only names a place is.
            ("", "persistentvolumes") if object["spec"].get("csi").is_some_and(|csi| !csi.is_null()) => continue,
            ("", "persistentvolumes") => {}
            _ if is_of_the_world(&key) || is_derived(&key, &object, &selecting) => continue,
            ("", "pods") if is_over(&object) && object["metadata"]["deletionTimestamp"].is_null() => {}
            ("", "pods") => {
                content.waiting.extend(new_pod(object));
                continue;
            }
            ("", "persistentvolumeclaims") => {
                claims.push((key, object));
                continue;
            }
            ("", "services") | ("networking.k8s.io", "ingresses") => {
                // Addresses are given again, to who asks again.
                if let Some(status) = object["status"].as_object_mut() {
                    status.insert("loadBalancer".into(), Value::Object(Map::new()));
                }
            }
            ("", "secrets") if target.now.is_none() && object["type"] == "kubernetes.io/service-account-token" => {
                // It is signed for the other cluster.
                if let Some(data) = object["data"].as_object_mut() {
                    data.remove("token");
                }
            }
            _ => {}
        }
        content.objects.insert(key, object);
    }
    for (key, object) in target.now.iter().flatten() {
        if is_of_the_world(key) || (leads(key) && target.first.contains_key(key)) {
            content.objects.insert(key.clone(), object.clone());
        }
    }
    for (key, mut claim) in claims {
        mark(&mut claim, target.settings);
        let volume = Key::new(target.cluster, &GroupResource::new("", "persistentvolumes"), "", text(&claim, "/spec/volumeName"));
        let is_bound = content.objects.get(&volume).is_some_and(|volume| volume.pointer("/spec/claimRef/uid") == claim.pointer("/metadata/uid"));
        if is_bound {
            content.objects.insert(key, claim);
        } else {
            content.waiting.extend(new_claim(claim));
        }
    }
    content
}

/// The object as its owner would create it; `None` when it is going.
fn new_object(mut object: Value) -> Option<Value> {
    let metadata = object["metadata"].as_object_mut()?;
    if metadata.contains_key("deletionTimestamp") {
        return None;
    }
    metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations" | "ownerReferences"));
    object.as_object_mut()?.remove("status");
    Some(object)
}

/// A pod that somebody created by hand, as new; `None` when its controller makes it again, or a node has it of its own.
fn new_pod(pod: Value) -> Option<Value> {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    if owners.into_iter().flatten().any(|owner| owner["controller"] == true) || is_mirror(&pod) {
        return None;
    }
    let mut pod = new_object(pod)?;
    let spec = pod["spec"].as_object_mut()?;
    spec.retain(|field, _| !matches!(field.as_str(), "nodeName" | "ephemeralContainers"));
    if let Some(gates) = spec.get_mut("schedulingGates").and_then(Value::as_array_mut) {
        gates.retain(|gate| gate["name"] != ClusterSettings::PAUSED_GATE);
    }
    Some(pod)
}

/// A claim whose volume is not there, as new: it gets another one.
fn new_claim(claim: Value) -> Option<Value> {
    let mut claim = new_object(claim)?;
    claim["spec"].as_object_mut()?.remove("volumeName");
    if let Some(annotations) = claim["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| !BOUND.contains(&key.as_str()));
    }
    Some(claim)
}

/// Says on a claim which of the host's classes may serve it: those of this cluster, not of the one it was taken from.
fn mark(claim: &mut Value, settings: &ClusterSettings) {
    let Some(annotations) = claim["metadata"].as_object_mut().map(|metadata| metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()))) else {
        return;
    };
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.remove(ClusterSettings::HOST_CLASSES);
        if let Some(classes) = settings.host_classes() {
            annotations.insert(ClusterSettings::HOST_CLASSES.into(), classes.into());
        }
    }
}

/// The objects of writes.
fn objects_of(ops: &[Op]) -> Objects {
    let object = |op: &Op| match op {
        Op::Put { key, value } => Some((key.clone(), serde_json::from_slice(value).ok()?)),
        Op::Delete { .. } => None,
    };
    ops.iter().filter_map(object).collect()
}

impl ApiServer {
    /// Makes the cluster hold what the snapshot holds, whole or not at all, and says so in its record, which must be as `precondition` has it.
    pub(super) async fn restore(
        self: &Arc<Self>,
        cluster: &ClusterName,
        snapshot: &Snapshot,
        record: &TenantRecord,
        precondition: Precondition,
    ) -> Result<(), ClusterError> {
        let header = &snapshot.header;
        if (header.service_cidr, header.cluster_dns) != (record.service_cidr, record.cluster_dns) {
            return Err(refused(format!(
                "the snapshot's Services have addresses of {} with DNS at {}, and the cluster's of {} with DNS at {}",
                header.service_cidr, header.cluster_dns, record.service_cidr, record.cluster_dns
            )));
        }
        let record_key = TenantRecord::key(cluster);
        let new = matches!(precondition, Precondition::Absent(_));
        for attempt in 1.. {
            let first: Vec<Op> = self.first_writes(cluster, record)?;
            let held = match new {
                true => None,
                false => {
                    let scope = Scope::Cluster(cluster.clone());
                    let found = self.tenancy.records.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await?;
                    let parsed = found.records.iter().filter(|record| record.key != record_key);
                    Some(parsed.map(|record| Ok((record.key.clone(), serde_json::from_slice(&record.value)?))).collect::<Result<Objects, ClusterError>>()?)
                }
            };
            let target = Target { cluster, settings: &record.settings, first: objects_of(&first), now: held };
            let mut content = content(snapshot.objects.clone(), &target);
            let mut txn = Txn { preconditions: vec![precondition.clone()], ops: Vec::new() };
            self.restore_node_ports(cluster, &mut content.objects, target.now.as_ref(), &mut txn).await?;
            for key in target.now.iter().flat_map(BTreeMap::keys).filter(|key| !content.objects.contains_key(*key)) {
                txn.ops.push(Op::Delete { key: key.clone() });
            }
            for (key, object) in &content.objects {
                // What is the same is not written, so that nobody hears of it.
                if target.now.as_ref().and_then(|now| now.get(key)).is_none_or(|now| !is_same(now, object)) {
                    let object = object.as_object().ok_or_else(|| refused("the snapshot holds something that is no object"))?;
                    txn.ops.push(Op::Put { key: key.clone(), value: object::encode(object) });
                }
            }
            let waiting = content.waiting.iter().filter_map(|object| settle::waiting(cluster, object));
            txn.ops.extend(waiting.map(|(key, value)| Op::Put { key, value }));
            txn.ops.push(Op::Put { key: record_key.clone(), value: record.encode() });
            match self.tenancy.records.txn(txn).await {
                Err(StoreError::PreconditionFailed { key, .. }) if key != record_key && attempt < ATTEMPTS => {}
                done => return Ok(done.map(drop)?),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Gives the Services of a content node ports: those they have had if nobody else has them by now, else others.
    async fn restore_node_ports(&self, cluster: &ClusterName, objects: &mut Objects, now: Option<&Objects>, txn: &mut Txn) -> Result<(), ClusterError> {
        let is_service = |key: &Key| (key.group(), key.resource()) == ("", "services");
        let had = now.into_iter().flatten().filter(|(key, _)| is_service(key)).flat_map(|(_, service)| allocate::node_ports(service));
        let had: BTreeSet<u64> = had.collect();
        let mut taken = BTreeSet::new();
        for (_, service) in objects.iter_mut().filter(|(key, _)| is_service(key)) {
            let claims = self.reclaim_ports(cluster, service, &had, now.is_some(), &mut taken).await.map_err(|status| refused(status.message))?;
            txn.preconditions.extend(claims.preconditions);
            txn.ops.extend(claims.ops);
        }
        txn.ops.extend(had.difference(&taken).map(|port| allocate::port_release(*port)));
        Ok(())
    }

    /// What the cluster starts with.
    pub(super) fn first_writes(&self, cluster: &ClusterName, record: &TenantRecord) -> Result<Vec<Op>, ClusterError> {
        let start = self.start_of(record)?;
        bootstrap::first_writes(self, cluster, bootstrap::virtual_objects(self, &start)).map_err(|status| refused(status.message))
    }
}

/// Whether two stored objects differ in nothing but their revision.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => object::encode(a) == object::encode(b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn held(resource: &str, namespace: &str, name: &str, rest: Value) -> Held {
        let (group, resource) = resource.split_once('/').unwrap();
        let mut object = json!({"kind": "K", "metadata": {"name": name, "namespace": namespace, "uid": uid(name)}});
        for (field, value) in rest.as_object().unwrap() {
            match (field.as_str(), value) {
                ("metadata", Value::Object(more)) => object["metadata"].as_object_mut().unwrap().extend(more.clone()),
                _ => object[field] = value.clone(),
            }
        }
        Held { resource: GroupResource::new(group, resource), namespace: namespace.into(), name: name.into(), object }
    }

    /// 36 characters, as uids have.
    fn uid(name: &str) -> String {
        format!("{name:0>36}")
    }

    fn restored(snapshot: Vec<Held>, now: Option<Vec<Held>>) -> (BTreeMap<String, Value>, Vec<Value>) {
        let cluster = ClusterName::hosted("team", "new").unwrap();
        let at = |held: Held| (Key::new(&cluster, &held.resource, &held.namespace, &held.name), held.object);
        let first = [held("/endpoints", "default", "kubernetes", json!({"of": "first"}))].into_iter().map(at).collect();
        let settings = ClusterSettings { storage_classes: Some([("tier".to_owned(), "a".to_owned())].into()), ..ClusterSettings::default() };
        let target = Target { cluster: &cluster, settings: &settings, first, now: now.map(|now| now.into_iter().map(at).collect()) };
        let content = content(snapshot, &target);
        let short = |key: Key| format!("{}/{}", key.resource(), key.name());
        (content.objects.into_iter().map(|(key, object)| (short(key), object)).collect(), content.waiting)
    }

    fn names(objects: &BTreeMap<String, Value>) -> Vec<&str> {
        objects.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_clone_has_uids_of_its_own_that_still_refer_to_each_other() {
        let set = held("apps/replicasets", "a", "set", json!({}));
        let map = held("/configmaps", "a", "map", json!({"metadata": {"ownerReferences": [{"uid": uid("set")}], "labels": {"controller-uid": uid("set")}}}));
        let (objects, _) = restored(vec![set.clone(), map.clone()], None);
        let (new, owned) = (&objects["replicasets/set"]["metadata"]["uid"], &objects["configmaps/map"]["metadata"]);
        assert_ne!(*new, json!(uid("set")));
        assert_eq!((&owned["ownerReferences"][0]["uid"], &owned["labels"]["controller-uid"]), (new, new));
        let (objects, _) = restored(vec![set, map], Some(vec![]));
        assert_eq!(objects["replicasets/set"]["metadata"]["uid"], uid("set"), "in place everything is who it was");
    }

    #[test]
    fn pods_begin_anew_and_ends_are_remembered() {
        let owner = json!([{"uid": uid("o"), "controller": true}]);
        let snapshot = vec![
            held("/pods", "a", "bare", json!({"spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}})),
            held("/pods", "a", "owned", json!({"metadata": {"ownerReferences": owner}, "status": {"phase": "Running"}})),
            held("/pods", "a", "done", json!({"metadata": {"ownerReferences": owner}, "status": {"phase": "Succeeded"}})),
            held("/pods", "a", "going", json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}})),
        ];
        let (objects, waiting) = restored(snapshot, Some(vec![]));
        assert_eq!(names(&objects), ["endpoints/kubernetes", "pods/done"]);
        assert_eq!(waiting, [json!({"kind": "K", "metadata": {"name": "bare", "namespace": "a"}, "spec": {"containers": []}})]);
    }

    #[test]
    fn where_pods_were_is_forgotten_and_where_the_api_is_stays_the_clusters_own() {
        let by = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}});
        let snapshot = || {
            vec![
                held("/endpoints", "default", "kubernetes", json!({"of": "snapshot"})),
                held("/services", "a", "web", json!({"spec": {"selector": {"a": "b"}}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}})),
                held("/endpoints", "a", "web", json!({})),
                held("/endpoints", "a", "by-hand", json!({})),
                held("discovery.k8s.io/endpointslices", "a", "web-1", by.clone()),
            ]
        };
        let (objects, _) = restored(snapshot(), None);
        assert_eq!(names(&objects), ["endpoints/by-hand", "endpoints/kubernetes", "services/web"]);
        assert_eq!((&objects["endpoints/kubernetes"]["of"], &objects["services/web"]["status"]), (&json!("first"), &json!({"loadBalancer": {}})));
        let (objects, _) = restored(snapshot(), Some(vec![held("/endpoints", "default", "kubernetes", json!({"of": "now"}))]));
        assert_eq!(objects["endpoints/kubernetes"]["of"], "now");
    }

    #[test]
    fn volumes_are_the_worlds_and_a_claim_without_its_volume_asks_for_another() {
        let volume =
            |name: &str, claim: &str| held("/persistentvolumes", "", name, json!({"spec": {"csi": {"volumeHandle": name}, "claimRef": {"uid": uid(claim)}}}));
        let claim = |name: &str, volume: &str| {
            held(
                "/persistentvolumeclaims",
                "a",
                name,
                json!({
                    "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes", "k8shost.io/host-storage-classes": "tier=gold", "own": "x"}},
                    "spec": {"volumeName": volume}, "status": {"phase": "Bound"},
                }),
            )
        };
        let of_driver = || held("snapshot.storage.k8s.io/volumesnapshotcontents", "", "content", json!({"spec": {"source": {"snapshotHandle": "h"}}}));
        let snapshot = || vec![of_driver(), volume("v1", "kept"), volume("v2", "lost"), claim("kept", "v1"), claim("lost", "v2")];
        let now = vec![volume("v1", "kept"), volume("v3", "later"), held("/nodes", "", "n", json!({}))];
        let (objects, waiting) = restored(snapshot(), Some(now));
        assert_eq!(names(&objects), ["endpoints/kubernetes", "nodes/n", "persistentvolumeclaims/kept", "persistentvolumes/v1", "persistentvolumes/v3"]);
        let again = json!({"kind": "K", "metadata": {"name": "lost", "namespace": "a", "annotations": {"k8shost.io/host-storage-classes": "tier=a", "own": "x"}}, "spec": {}});
        assert_eq!(waiting, [again]);
        let (objects, waiting) = restored(snapshot(), None);
        assert_eq!((names(&objects), waiting.len()), (vec!["endpoints/kubernetes"], 2), "a clone shares no volume with anybody");
    }
}
