//! PersistentVolume: a piece of storage in the cluster.
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource, text};

pub struct PersistentVolumes;

impl Resource for PersistentVolumes {
    const NAMES: Names = Names::with("", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", const { &[text("pv")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
}
