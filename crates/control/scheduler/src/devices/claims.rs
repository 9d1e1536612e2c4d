//! The claims of a pod: those that have devices, and those that are to get some.
use super::asked::{self, Asked};
use super::taken::InUse;
use super::{Decided, DeviceSelectors, Pools, Taken, allocation, search};
use crate::NodeInfo;
use api_meta::ClusterName;
use controller_kit::node_selector::{self, NodeTerm};
use controller_kit::own_nodes::runs_on_own;
use controller_kit::{ObjectKey, Objects};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Pods that may use one claim.
const MOST_USERS: usize = 256;

/// What there is to be looked at.
pub struct Stores {
    pub claims: Objects<ResourceClaim>,
    pub slices: Objects<ResourceSlice>,
    pub classes: Objects<DeviceClass>,
    pub rules: Objects<DeviceTaintRule>,
    pub selectors: Arc<dyn DeviceSelectors>,
    pub taken: Mutex<Taken>,
    /// As the slices were when somebody last asked.
    pub pools: Mutex<HashMap<ClusterName, Arc<Pools>>>,
}

/// A claim that has devices, and the nodes where these can be used.
#[derive(Clone)]
pub struct Allocated {
    pub key: ObjectKey,
    pub nodes: Option<Vec<NodeTerm>>,
    /// Nobody but this pod uses it.
    pub is_only_ours: bool,
}

/// The outcome of looking at a pod's resource claims.
#[derive(Clone, Default)]
pub struct Devices {
    /// What has to come before the pod is looked at; nobody is told.
    pub not_ready: Option<String>,
    /// What keeps the pod from running anywhere.
    pub trouble: Option<String>,
    pub allocated: Vec<Allocated>,
    wanted: Vec<Asked>,
    search: Option<Arc<Ground>>,
}

/// What is searched.
struct Ground {
    pools: Arc<Pools>,
    used: InUse,
    selectors: Arc<dyn DeviceSelectors>,
    found: Mutex<Found>,
}

/// What was found so far.
struct Found {
    by_node: HashMap<Arc<str>, Result<Option<Vec<Decided>>, String>>,
    tries: usize,
}

impl Devices {
    pub fn is_empty(&self) -> bool {
        self.allocated.is_empty() && self.wanted.is_empty()
    }

    /// Devices on a node for all claims that have none yet; `None` where there are not enough. Asked again it says the same.
    ///
    /// # Errors
    /// What keeps the search from an answer.
    pub fn on(&self, node: &NodeInfo) -> Result<Option<Vec<Decided>>, String> {
        let Some(ground) = &self.search else { return Ok(Some(Vec::new())) };
        let mut so_far = ground.found.lock();
        if let Some(answer) = so_far.by_node.get(&node.name) {
            return answer.clone();
        }
        let pools = ground.pools.of(node);
        let found = search::search(&self.wanted, &pools, &ground.used, node, &*ground.selectors, &mut so_far.tries);
        let answer = found.map(|found| found.map(|picks| allocation::decided(&self.wanted, &picks, node)));
        so_far.by_node.insert(node.name.clone(), answer.clone());
        answer
    }

    /// All claims the pod will use.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.allocated.iter().map(|claim| claim.key.clone()).chain(self.wanted.iter().map(|asked| asked.key.clone())).collect()
    }

    fn not_ready(why: String) -> Self {
        Self { not_ready: Some(why), ..Self::default() }
    }
    fn trouble(why: impl Into<String>) -> Self {
        Self { trouble: Some(why.into()), ..Self::default() }
    }
}

impl Stores {
    fn pools(&self, cluster: &ClusterName) -> Arc<Pools> {
        let mut all = self.pools.lock();
        let made = all.entry(cluster.clone()).or_insert_with(|| Arc::new(Pools::new(&self.slices.list(cluster, None), &self.rules.list(cluster, None))));
        made.clone()
    }
}

/// The name of each claim of a pod; `None` for one that is yet to be made from a template. What needs no claim is left out.
pub fn claim_names(pod: &Pod) -> Vec<Option<(String, bool)>> {
    let made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
    let names = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()).filter_map(|claim| {
        if let Some(name) = &claim.resource_claim_name {
            return Some(Some((name.clone(), false)));
        }
        match made.clone().find(|made| made.name == claim.name) {
            Some(made) => made.resource_claim_name.clone().map(|name| Some((name, true))),
            None => Some(None),
        }
    });
    names.collect()
}

/// Whether a claim of the pod is yet to be made from its template.
pub fn waits_for_claims(pod: &Pod) -> bool {
    has_claims(pod) && claim_names(pod).iter().any(Option::is_none)
}

pub fn has_claims(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref()).is_some_and(|claims| !claims.is_empty())
}

pub fn look(pod: &Pod, key: &ObjectKey, stores: &Stores) -> Devices {
    let names = claim_names(pod);
    if names.is_empty() {
        return Devices::default();
    }
    if !key.cluster.is_root() && !runs_on_own(&key.cluster, pod) {
        return Devices::trouble("devices of the host's nodes can't be claimed in a virtual cluster");
    }
    let (namespace, name, uid) = (&key.namespace, &key.name, pod.metadata.uid.as_deref().unwrap_or_default());
    let mut found = Devices::default();
    for claim in names {
        let Some((claim_name, is_made)) = claim else { return Devices::not_ready(format!("pod \"{namespace}/{name}\": ResourceClaim not created yet")) };
        let claim_key = ObjectKey::new(&key.cluster, namespace, &claim_name);
        let Some(claim) = stores.claims.get(&claim_key) else { return Devices::not_ready(format!("resourceclaim {claim_name:?} not found")) };
        let owner = claim.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        if is_made && owner.is_none_or(|owner| owner.uid != uid) {
            return Devices::not_ready(format!("ResourceClaim {namespace}/{claim_name} was not created for pod {namespace}/{name} (pod is not owner)"));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Devices::not_ready(format!("resourceclaim {claim_name:?} is being deleted"));
        }
        let status = claim.status.clone().unwrap_or_default();
        let users = status.reserved_for.unwrap_or_default();
        match status.allocation {
            Some(allocation) => {
                let is_ours = users.iter().any(|user| user.uid == uid);
                if !is_ours && users.len() >= MOST_USERS {
                    return Devices::trouble("resourceclaim in use");
                }
                let nodes = allocation.node_selector.as_ref().map(node_selector::terms);
                found.allocated.push(Allocated { key: claim_key, nodes, is_only_ours: users.is_empty() || (is_ours && users.len() == 1) });
            }
            None if stores.taken.lock().is_pending(&claim_key) => return Devices::not_ready(format!("resourceclaim {claim_name:?} is being allocated")),
            None => {
                let class = |name: &str| stores.classes.get(&ObjectKey::new(&key.cluster, "", name));
                match asked::read(&claim_key, &claim, &class) {
                    Ok(asked) => found.wanted.push(asked),
                    Err(why) => return Devices::trouble(why),
                }
            }
        }
    }
    if !found.wanted.is_empty() {
        let used = stores.taken.lock().in_use(&key.cluster);
        let so_far = Mutex::new(Found { by_node: HashMap::new(), tries: search::MOST_TRIES_OF_ALL });
        found.search = Some(Arc::new(Ground { pools: stores.pools(&key.cluster), used, selectors: stores.selectors.clone(), found: so_far }));
    }
    found
}
