//! StorageClass: how volumes of a kind are made.
use api_resource::{Names, Resource, ResourceScope, text};

pub struct StorageClasses;

impl Resource for StorageClasses {
    const NAMES: Names = Names::with("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass", const { &[text("sc")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const GENERATION: bool = false;
}
