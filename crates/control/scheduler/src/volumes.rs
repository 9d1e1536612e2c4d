//! Volumes: what a pod's claims say about where it can run.
use api_meta::{ClusterName, LabelSelector};
use controller_kit::node_selector::{self, NodeTerm};
use controller_kit::volume_snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use controller_kit::{ObjectKey, Objects, pod_resources, storage_class};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The outcome of looking at a pod's claims.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// What keeps the pod from running anywhere.
    pub trouble: Option<String>,
    /// The affinities of its bound volumes: each needs one of its terms.
    pub affinities: Vec<Vec<NodeTerm>>,
    /// Unbound claims that wait for the pod's node.
    pub waiting: Vec<String>,
    /// Claims that one pod alone may use.
    pub exclusive: Vec<String>,
    /// For each claim whose driver tells where it has room: the nodes where it has enough.
    pub room: Vec<Vec<LabelSelector>>,
    /// None where no driver of the pod's volumes limits how many a node may have.
    pub limits: Option<VolumeLimits>,
}

/// A volume, or the claim that is to have one, with its driver.
pub type VolumeOfDriver = (String, String);

/// How many volumes nodes may have, and which they have.
#[derive(Clone, Debug, Default)]
pub struct VolumeLimits {
    /// By node and driver.
    pub most: HashMap<(String, String), usize>,
    /// The volumes of the pod.
    pub wanted: BTreeSet<VolumeOfDriver>,
    /// The volumes of all claims there are.
    pub of_claims: HashMap<ObjectKey, VolumeOfDriver>,
}

/// What there is to be looked at.
pub struct Storage {
    pub claims: Objects<PersistentVolumeClaim>,
    pub volumes: Objects<PersistentVolume>,
    pub classes: Objects<StorageClass>,
    pub nodes: Objects<CSINode>,
    pub drivers: Objects<CSIDriver>,
    pub capacities: Objects<CSIStorageCapacity>,
    pub snapshots: Objects<VolumeSnapshot>,
    pub contents: Objects<VolumeSnapshotContent>,
}

/// The claims a pod names, with those its ephemeral volumes make.
pub fn claim_names(pod: &Pod) -> Vec<(String, bool)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let names = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some((source.claim_name.clone(), false)),
        (_, Some(_)) => Some((format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name), true)),
        _ => None,
    });
    names.collect()
}

pub fn look(pod: &Pod, key: &ObjectKey, storage: &Storage) -> Volumes {
    let Storage { claims, volumes, classes, nodes, .. } = storage;
    let mut wanted = BTreeSet::new();
    let mut found = Volumes::default();
    for (name, ephemeral) in claim_names(pod) {
        let Some(claim) = claims.get(&ObjectKey::new(&key.cluster, &key.namespace, &name)) else {
            let why = if ephemeral {
                format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
            } else {
                format!("persistentvolumeclaim {name:?} not found")
            };
            return Volumes { trouble: Some(why), ..Default::default() };
        };
        let owner = claim.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        if ephemeral && owner.map(|owner| &owner.uid) != pod.metadata.uid.as_ref() {
            let (namespace, pod) = (&key.namespace, &key.name);
            let why = format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)");
            return Volumes { trouble: Some(why), ..Default::default() };
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Volumes { trouble: Some(format!("persistentvolumeclaim {name:?} is being deleted")), ..Default::default() };
        }
        let spec = claim.spec.clone().unwrap_or_default();
        let volume_name = spec.volume_name.filter(|name| !name.is_empty());
        if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
            let why = format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}", volume_name.unwrap_or_default());
            return Volumes { trouble: Some(why), ..Default::default() };
        }
        if spec.access_modes.iter().flatten().any(|mode| mode == "ReadWriteOncePod") {
            found.exclusive.push(name.clone());
        }
        let bound = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("pv.kubernetes.io/bind-completed"));
        match volume_name.filter(|_| bound) {
            Some(volume_name) => {
                let Some(volume) = volumes.get(&ObjectKey::new(&key.cluster, "", &volume_name)) else {
                    return Volumes { trouble: Some(format!("persistentvolume {volume_name:?} not found")), ..Default::default() };
                };
                let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()).and_then(|affinity| affinity.required.as_ref());
                found.affinities.extend(affinity.map(node_selector::terms));
                wanted.extend(of_driver(&volume));
            }
            None => {
                let class = storage_class::class_of(classes, &key.cluster, &claim);
                if let Some(class) = class.filter(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")) {
                    found.affinities.extend(nodes_of(&class.provisioner, nodes));
                    found.affinities.extend(source_of(&claim, key, &class.provisioner, storage));
                    found.room.extend(room(&claim, &class, storage));
                    wanted.insert((class.provisioner.clone(), format!("{}/{}/{name}", key.cluster, key.namespace)));
                    found.waiting.push(name);
                } else {
                    return Volumes { trouble: Some("pod has unbound immediate PersistentVolumeClaims".into()), ..Default::default() };
                }
            }
        }
    }
    found.limits = limits(wanted, storage);
    found
}

fn of_driver(volume: &PersistentVolume) -> Option<VolumeOfDriver> {
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    Some((source.driver.clone(), source.volume_handle.clone()))
}

/// The nodes where the driver of a class has room for a claim; none where it does not tell.
fn room(claim: &PersistentVolumeClaim, class: &StorageClass, storage: &Storage) -> Option<Vec<LabelSelector>> {
    let root = ClusterName::root();
    let driver = storage.drivers.get(&ObjectKey::new(&root, "", &class.provisioner))?;
    if driver.spec.storage_capacity != Some(true) {
        return None;
    }
    let bytes = |quantity: Option<&Quantity>| {
        let amounts = quantity.map(|quantity| [("storage".to_owned(), quantity.clone())].into());
        pod_resources::parse(amounts.as_ref()).get("storage").copied()
    };
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let asked = bytes(requests.and_then(|requests| requests.get("storage")));
    let all = storage.capacities.list(&root, None);
    let enough = all.iter().filter(|capacity| Some(&capacity.storage_class_name) == class.metadata.name.as_ref()).filter(|capacity| {
        let has = bytes(capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref()));
        has.is_some() && has >= asked
    });
    // A capacity without a topology is to be had nowhere.
    let nodes = enough.filter_map(|capacity| controller_kit::selector(capacity.node_topology.as_ref()?).ok());
    Some(nodes.collect())
}

/// What drivers say of how many volumes nodes may have, if they limit one of these.
fn limits(wanted: BTreeSet<VolumeOfDriver>, storage: &Storage) -> Option<VolumeLimits> {
    let nodes = if wanted.is_empty() { Vec::new() } else { storage.nodes.list(&ClusterName::root(), None) };
    let of_node = |node: &Arc<CSINode>| {
        let name = node.metadata.name.clone().unwrap_or_default();
        let limited = node.spec.drivers.iter().filter_map(|driver| Some((driver.name.clone(), driver.allocatable.as_ref()?.count?)));
        let most = limited.filter_map(|(driver, count)| Some(((name.clone(), driver), usize::try_from(count).ok()?)));
        most.collect::<Vec<_>>()
    };
    let most: HashMap<_, _> = nodes.iter().flat_map(of_node).filter(|((_, driver), _)| wanted.iter().any(|(of, _)| of == driver)).collect();
    if most.is_empty() {
        return None;
    }
    let of_claim = |(key, claim): (ObjectKey, Arc<PersistentVolumeClaim>)| {
        let volume = claim.spec.as_ref()?.volume_name.as_ref().filter(|name| !name.is_empty())?;
        let volume = storage.volumes.get(&ObjectKey::new(&key.cluster, "", volume))?;
        Some((key, of_driver(&volume)?))
    };
    let of_claims = storage.claims.all().into_iter().filter_map(of_claim).collect();
    Some(VolumeLimits { most, wanted, of_claims })
}

/// The nodes a volume can be made on: those where its driver runs. `None` where it runs on none, or beside the nodes.
fn nodes_of(provisioner: &str, drivers: &Objects<CSINode>) -> Option<Vec<NodeTerm>> {
    let has = |node: &CSINode| node.spec.drivers.iter().any(|driver| driver.name == provisioner && driver.topology_keys.is_some());
    // Nodes are the host cluster's.
    let nodes = drivers.list(&ClusterName::root(), None);
    let names: Vec<String> = nodes.iter().filter(|node| has(node)).filter_map(|node| node.metadata.name.clone()).collect();
    (!names.is_empty()).then(|| vec![named(names)])
}

fn named(names: Vec<String>) -> NodeTerm {
    let fields = NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(names) };
    NodeTerm::new(&NodeSelectorTerm { match_fields: Some(vec![fields]), match_expressions: None })
}

/// The nodes where a driver can read what the volume of a claim is to begin with: a snapshot, or another claim's volume.
/// `None` where that is not known yet, or does not matter.
fn source_of(claim: &PersistentVolumeClaim, pod: &ObjectKey, driver: &str, storage: &Storage) -> Option<Vec<NodeTerm>> {
    let source = claim.spec.as_ref()?.data_source.as_ref()?;
    let (named_so, of_cluster) = (ObjectKey::new(&pod.cluster, &pod.namespace, &source.name), |name: &str| ObjectKey::new(&pod.cluster, "", name));
    match source.kind.as_str() {
        "PersistentVolumeClaim" => {
            let volume = storage.volumes.get(&of_cluster(storage.claims.get(&named_so)?.spec.as_ref()?.volume_name.as_ref()?))?;
            let spec = volume.spec.as_ref().filter(|spec| spec.csi.as_ref().is_some_and(|source| source.driver == driver))?;
            Some(node_selector::terms(spec.node_affinity.as_ref()?.required.as_ref()?))
        }
        "VolumeSnapshot" => {
            let content = storage.snapshots.get(&named_so)?.status.as_ref()?.bound_volume_snapshot_content_name.clone()?;
            let content = storage.contents.get(&of_cluster(&content)).filter(|content| content.spec.driver == driver)?;
            Some(vec![named(vec![content.node()?.to_owned()])])
        }
        _ => None,
    }
}
