//! Volumes of pods on this node: their directories, contents, ownership and mounts.
//!
//! `VolumeManager::mount` brings every volume a pod's containers use onto the disk and says where it
//! lies; contents of ConfigMaps, Secrets, tokens and pod fields are kept current until `unmount`.
//! Layout under the root, as the kubelet's: `pods/{uid}/volumes/kubernetes.io~{plugin}/{volume}` and
//! `pods/{uid}/volume-subpaths/{volume}/{container}/{mount index}`.

mod atomic_writer;
mod claim;
mod csi;
pub mod downward;
mod empty_dir;
mod error;
mod host_path;
mod manager;
mod mount_table;
mod ownership;
mod payload;
mod pod_volumes;
mod referenced_objects;
mod sub_path;
mod tokens;

pub use csi::{OtherPlugins, VolumeUse};
pub use error::{SetUpError, VolumeError};
pub use manager::{MountedVolume, NodeFacts, VolumeManager};
pub use referenced_objects::{ReadError, ReferencedObjects};
