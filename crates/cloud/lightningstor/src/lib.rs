//! LightningStor: block volumes on the disks of nodes, and the CSI driver that brings them to pods.

mod attributes;
mod driver;
mod engine;
mod error;
mod file_engine;
mod filesystem;
mod image;
pub mod kubernetes;
mod loop_device;
mod mounts;
mod plan;
mod server;
mod settings;
mod tool;
mod turns;

pub use attributes::{Allocation, Attributes};
pub use driver::{Driver, serve};
pub use engine::{Attachment, Capacity, Engine, Filesystem, FilesystemKind, NewVolume, Snapshot, Source, Volume};
pub use error::Error;
pub use file_engine::FileEngine;
pub use server::{VolumeServer, serve_volumes};
pub use settings::LightningStorSettings;

/// The driver's name, in classes, volumes and sockets.
pub const DRIVER: &str = "stor.plasmacloud.io";
/// The label of nodes that a volume lies on.
pub const TOPOLOGY_KEY: &str = "topology.stor.plasmacloud.io/node";

/// The messages of the volume service.
#[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("lightningstor.v1");
    /// What the API declares, as a FileDescriptorSet encodes it.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
