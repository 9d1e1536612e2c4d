//! Settings of LightningStor on one node.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The volume types there are.
pub const VOLUME_TYPES: [&str; 2] = ["ssd", "hdd"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LightningStorSettings {
    /// This node's name, as Kubernetes knows it.
    pub node_id: String,
    /// Where volumes of a type lie: a directory of their own for each, on whatever disk the operator chose.
    pub directories: BTreeMap<String, PathBuf>,
}

impl LightningStorSettings {
    /// A directory a type below `directory`.
    pub fn under(directory: &Path, node_id: &str) -> Self {
        let directories = VOLUME_TYPES.iter().map(|kind| ((*kind).to_owned(), directory.join(kind))).collect();
        Self { node_id: node_id.to_owned(), directories }
    }
}
