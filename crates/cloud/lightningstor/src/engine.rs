//! Engine: what keeps volumes and gives them out as block devices; one that keeps several copies can take the file engine's place.
use crate::{Attributes, Error};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a volume begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// By the snapshot's id.
    Snapshot(String),
    /// By the volume's id.
    Volume(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Creating again under a name gives the volume that has it.
    pub name: String,
    /// The least size, in bytes.
    pub size_bytes: u64,
    /// The largest size; none where 0.
    pub limit_bytes: u64,
    pub volume_type: String,
    /// Copies of the data.
    pub replication: u32,
    pub org_id: String,
    pub project_id: String,
    pub source: Option<Source>,
    pub attributes: Attributes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesystemKind {
    Ext4,
    Xfs,
}

/// The file system of a volume and how much of the volume it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    pub kind: FilesystemKind,
    pub size_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedTo {
    pub node: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub size_bytes: u64,
    pub volume_type: String,
    pub replication: u32,
    pub org_id: String,
    pub project_id: String,
    pub source: Option<Source>,
    #[serde(default)]
    pub attributes: Attributes,
    /// None before it is formatted, and of a raw device.
    pub filesystem: Option<Filesystem>,
    pub attached: Option<AttachedTo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: String,
    pub name: String,
    pub volume_id: String,
    pub volume_type: String,
    pub size_bytes: u64,
    pub filesystem: Option<Filesystem>,
    /// Seconds since 1970.
    pub created_at: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub volume_id: String,
    pub node: String,
    pub device: PathBuf,
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub total: u64,
    pub available: u64,
    /// The sizes of all volumes together.
    pub promised: u64,
}

/// Every call may be repeated, also one that was cut off in the middle: what is done already is not done twice.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    async fn create(&self, new: NewVolume) -> Result<Volume, Error>;

    /// A volume that does not exist is no error; one that is attached is.
    async fn delete(&self, id: &str) -> Result<(), Error>;

    async fn get(&self, id: &str) -> Result<Volume, Error>;

    /// All volumes, by id.
    async fn list(&self) -> Vec<Volume>;

    /// What the volume takes on the disk, in bytes.
    async fn allocated(&self, id: &str) -> Result<u64, Error>;

    /// Makes it a block device of the node.
    async fn attach(&self, id: &str, node: &str, read_only: bool) -> Result<Attachment, Error>;

    /// Takes the device away, from any node where `node` is empty.
    async fn detach(&self, id: &str, node: &str) -> Result<(), Error>;

    /// The device of a volume attached to this node, also after the machine was started again.
    async fn device(&self, id: &str) -> Result<PathBuf, Error>;

    /// Makes it at least this large. It never shrinks.
    async fn expand(&self, id: &str, size_bytes: u64) -> Result<Volume, Error>;

    /// Gives it other attributes, in use or not.
    async fn modify(&self, id: &str, attributes: Attributes) -> Result<Volume, Error>;

    /// Remembers what is on the device.
    async fn set_filesystem(&self, id: &str, filesystem: Filesystem) -> Result<(), Error>;

    async fn create_snapshot(&self, name: &str, volume_id: &str) -> Result<Snapshot, Error>;

    async fn delete_snapshot(&self, id: &str) -> Result<(), Error>;

    /// All snapshots, by id.
    async fn snapshots(&self) -> Vec<Snapshot>;

    async fn capacity(&self, volume_type: &str) -> Result<Capacity, Error>;

    /// Lets go of every device that nobody uses, so that nothing stays on the machine; volumes stay attached to their nodes.
    async fn release(&self) -> Result<(), Error>;
}
