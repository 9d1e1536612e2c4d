//! CSI volumes: staged once on the node and published to each pod, through drivers that registered themselves.
mod attachment;
mod grow;
mod inline;
mod plugins;
mod publish;
mod record;
pub mod registration;
mod take_down;
mod usage;

pub use inline::Inline;
pub use plugins::{Plugin, Plugins};
pub use publish::Wanted;
pub use registration::OtherPlugins;
pub use usage::VolumeUse;

use crate::error::SetUpError;
use crate::manager::blocking;
use record::Record;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// The directory below the agent's that drivers register in.
pub const REGISTRY: &str = "plugins_registry";
const PLUGIN: &str = "kubernetes.io~csi";

/// The CSI volumes of this node, of all clusters.
///
/// What is staged and published stands in records on the disk before a driver is asked for it, so that
/// a later run of the agent finds everything there is.
pub struct CsiVolumes {
    root: PathBuf,
    node_name: std::sync::OnceLock<String>,
    pub plugins: Arc<Plugins>,
    turns: parking_lot::Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Told whenever a volume was staged or unstaged.
    in_use_changed: tokio::sync::Notify,
}

impl CsiVolumes {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            node_name: std::sync::OnceLock::new(),
            plugins: Arc::default(),
            turns: parking_lot::Mutex::default(),
            in_use_changed: tokio::sync::Notify::new(),
        }
    }

    /// The volumes that are or may be mounted here, by the names a node's status has for them.
    pub async fn in_use(&self) -> Vec<String> {
        let root = self.root.clone();
        let staged = blocking(move || Ok::<_, SetUpError>(record::staged(&root))).await.unwrap_or_default();
        let mut names: Vec<String> = staged.iter().map(|(_, record)| ::csi::names::unique(&record.driver, &record.volume_handle)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Resolves once what `in_use` says may have changed.
    pub async fn in_use_changed(&self) {
        self.in_use_changed.notified().await;
    }

    /// One thing at a time for each volume.
    async fn turn(&self, record: &Record) -> tokio::sync::OwnedMutexGuard<()> {
        let key = ::csi::names::unique(&record.driver, &record.volume_handle);
        let turn = {
            let mut all = self.turns.lock();
            all.retain(|_, turn| turn.strong_count() > 0);
            let turn = all.get(&key).and_then(Weak::upgrade).unwrap_or_default();
            all.insert(key, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    /// `{root}/plugins/kubernetes.io/csi/{driver}/{hash}`, as the kubelet's.
    fn staging_directory(&self, driver: &str, volume_handle: &str) -> PathBuf {
        self.root.join("plugins/kubernetes.io/csi").join(driver).join(::csi::names::staging(volume_handle))
    }
}

fn refused(call: &str, status: &tonic::Status) -> SetUpError {
    SetUpError::Refused(format!("kubernetes.io/csi: {call} rpc error: code = {:?} desc = {}", status.code(), status.message()))
}
