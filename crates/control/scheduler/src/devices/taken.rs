//! Taken: the devices that claims have, from the decision on.
use super::{DeviceId, capacity};
use api_meta::{ClusterName, Quantity};
use controller_kit::ObjectKey;
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult, ResourceClaim};
use std::collections::{BTreeMap, HashMap, HashSet};

/// By claim, of all clusters.
#[derive(Default)]
pub struct Taken(HashMap<ObjectKey, OfClaim>);

struct OfClaim {
    uid: String,
    results: Vec<DeviceRequestAllocationResult>,
    /// Decided here, and not seen in the API yet.
    is_pending: bool,
}

/// The devices of one cluster that nobody else can have, or of which a part is taken.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    whole: HashSet<DeviceId>,
    parts: HashMap<DeviceId, BTreeMap<String, Quantity>>,
}

impl Taken {
    /// What the API shows of a claim now.
    pub fn claim_changed(&mut self, key: &ObjectKey, claim: Option<&ResourceClaim>) {
        let uid = claim.and_then(|claim| claim.metadata.uid.clone()).unwrap_or_default();
        match claim.and_then(|claim| claim.status.as_ref()?.allocation.as_ref()) {
            Some(allocation) => {
                self.0.insert(key.clone(), OfClaim { uid, results: results(allocation), is_pending: false });
            }
            None if self.0.get(key).is_some_and(|known| known.is_pending && known.uid == uid) => {}
            None => drop(self.0.remove(key)),
        }
    }

    /// From now on the claim counts as having them.
    pub fn decide(&mut self, key: &ObjectKey, uid: &str, allocation: &AllocationResult) {
        self.0.insert(key.clone(), OfClaim { uid: uid.to_owned(), results: results(allocation), is_pending: true });
    }

    /// What was decided could not be written.
    pub fn undo(&mut self, key: &ObjectKey) {
        if self.is_pending(key) {
            self.0.remove(key);
        }
    }

    /// Whether devices were decided on that the API does not show yet.
    pub fn is_pending(&self, key: &ObjectKey) -> bool {
        self.0.get(key).is_some_and(|known| known.is_pending)
    }

    pub fn in_use(&self, cluster: &ClusterName) -> InUse {
        let mut used = InUse::default();
        for result in self.0.iter().filter(|(key, _)| key.cluster == *cluster).flat_map(|(_, of)| &of.results) {
            // Who administers a device takes it from nobody.
            if result.admin_access == Some(true) {
                continue;
            }
            let id = DeviceId::new(&result.driver, &result.pool, &result.device);
            match (&result.share_id, &result.consumed_capacity) {
                (None, _) => drop(used.whole.insert(id)),
                (Some(_), consumed) => {
                    let consumed = consumed.iter().flatten().filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(&amount.0).ok()?)));
                    capacity::add(used.parts.entry(id).or_default(), &consumed.collect());
                }
            }
        }
        used
    }
}

impl InUse {
    pub fn has(&self, device: &DeviceId) -> bool {
        self.whole.contains(device) || self.parts.contains_key(device)
    }
    pub fn is_whole(&self, device: &DeviceId) -> bool {
        self.whole.contains(device)
    }
    /// What is taken of a shared device.
    pub fn parts(&self, device: &DeviceId) -> BTreeMap<String, Quantity> {
        self.parts.get(device).cloned().unwrap_or_default()
    }
}

fn results(allocation: &AllocationResult) -> Vec<DeviceRequestAllocationResult> {
    allocation.devices.as_ref().and_then(|devices| devices.results.clone()).unwrap_or_default()
}
