//! Volumes: what a pod's claims say about where it can run.
use api_meta::ClusterName;
use controller_kit::node_selector::{self, NodeTerm};
use controller_kit::{ObjectKey, Objects, storage_class};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};

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

pub fn look(
    pod: &Pod,
    key: &ObjectKey,
    claims: &Objects<PersistentVolumeClaim>,
    volumes: &Objects<PersistentVolume>,
    classes: &Objects<StorageClass>,
    drivers: &Objects<CSINode>,
) -> Volumes {
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
            }
            None => {
                let class = storage_class::class_of(classes, &key.cluster, &claim);
                if let Some(class) = class.filter(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")) {
                    found.waiting.push(name);
                    found.affinities.extend(nodes_of(&class.provisioner, drivers));
                } else {
                    return Volumes { trouble: Some("pod has unbound immediate PersistentVolumeClaims".into()), ..Default::default() };
                }
            }
        }
    }
    found
}

/// The nodes a volume can be made on: those where its driver runs. `None` where it runs on none, or beside the nodes.
fn nodes_of(provisioner: &str, drivers: &Objects<CSINode>) -> Option<Vec<NodeTerm>> {
    let has = |node: &CSINode| node.spec.drivers.iter().any(|driver| driver.name == provisioner && driver.topology_keys.is_some());
    // Nodes are the host cluster's.
    let nodes = drivers.list(&ClusterName::root(), None);
    let names: Vec<String> = nodes.iter().filter(|node| has(node)).filter_map(|node| node.metadata.name.clone()).collect();
    let fields = NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(names.clone()) };
    (!names.is_empty()).then(|| vec![NodeTerm::new(&NodeSelectorTerm { match_fields: Some(vec![fields]), match_expressions: None })])
}
