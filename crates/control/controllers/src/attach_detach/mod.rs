//! Attach/detach: a VolumeAttachment for each volume of a driver that attaches, on each node where a pod uses it.
pub mod attach;
pub mod detach;

use controller_kit::{ObjectKey, Objects};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::CSIDriver;
use std::sync::Arc;

/// What both sides read.
#[derive(Clone)]
struct Caches {
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    drivers: Objects<CSIDriver>,
}

impl Caches {
    /// The volumes of drivers that attach, of the claims a pod uses.
    fn volumes_of(&self, key: &ObjectKey, pod: &Pod) -> Vec<Arc<PersistentVolume>> {
        let names = crate::volume_protection::claims_of(pod);
        let volume = |name: &String| {
            let claim = self.claims.get(&ObjectKey::new(&key.cluster, &key.namespace, name))?;
            let is_bound = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("pv.kubernetes.io/bind-completed"));
            let volume = self.volumes.get(&ObjectKey::new(&key.cluster, "", claim.spec.as_ref().filter(|_| is_bound)?.volume_name.as_deref()?))?;
            let driver = &volume.spec.as_ref()?.csi.as_ref()?.driver;
            // The nodes are the host's, and so are their drivers. One that nobody described attaches.
            let driver = self.drivers.get(&ObjectKey::new(&api_meta::ClusterName::root(), "", driver));
            driver.is_none_or(|driver| driver.spec.attach_required != Some(false)).then_some(volume)
        };
        names.iter().filter_map(volume).collect()
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}
