//! This machine's volumes: LightningStor's engine, and its CSI driver, known to the node's agent.
use anyhow::{Context, Result};
use clock::Clock;
use lightningstor::{DRIVER, Driver, Engine, FileEngine, LightningStorSettings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A driver that serves.
pub struct OwnDriver {
    pub socket: PathBuf,
    engine: Arc<dyn Engine>,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl OwnDriver {
    /// Serves the volumes below `data_dir`, or in the directories chosen for their types. It outlives the node, which unmounts through it.
    pub async fn start(data_dir: &Path, directories: &BTreeMap<String, PathBuf>, node_name: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut own = LightningStorSettings::under(&data_dir.join("lightningstor"), node_name);
        own.directories.extend(directories.clone());
        let engine: Arc<dyn Engine> = tokio::task::spawn_blocking(move || FileEngine::open(own, clock)).await?.map(Arc::new).context("opening the volumes")?;
        let agent = data_dir.join("agent");
        let (socket, registry) = (agent.join("plugins").join(DRIVER).join("csi.sock"), agent.join("plugins_registry"));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(Driver::new(engine.clone(), node_name), socket.clone(), registry, stop.clone()));
        Ok(Self { socket, engine, serving, stop })
    }

    /// Stops it; with `release` no device of it stays on the machine.
    pub async fn stop(self, release: bool) {
        self.stop.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "lightningstor panicked");
        }
        if release && let Err(error) = self.engine.release().await {
            tracing::error!(error = &error as &dyn std::error::Error, "releasing the devices of volumes failed");
        }
    }
}

async fn serve(driver: Driver, socket: PathBuf, registry: PathBuf, stop: CancellationToken) {
    if let Err(error) = lightningstor::serve(driver, &socket, Some(&registry), stop).await {
        tracing::error!(error = &error as &dyn std::error::Error, "lightningstor has ended");
    }
}
