//! This machine's storage: LightningStor's engine and driver, and what makes and attaches its volumes.
use anyhow::{Context, Result};
use api_client::kube::Client;
use api_client::kube::core::Status;
use clock::{Clock, SystemClock};
use controller_kit::Kit;
use csi_controllers::{DriverSettings, snapshots};
use http::Request;
use lightningstor::{DRIVER, Driver, Engine, FileEngine, LightningStorSettings};
use serde_json::Value;
use settings::ServerSettings;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use virtual_cluster::StorageObjects;

/// Storage that runs.
pub struct Storage {
    engine: Arc<dyn Engine>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Storage {
    /// Starts it for the node of this machine. It outlives the node, which unmounts through it.
    pub async fn start(settings: &ServerSettings, kit: Kit, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut own = LightningStorSettings::under(&settings.data_dir.join("lightningstor"), &settings.node_name);
        own.directories.extend(settings.lightningstor_dirs.clone());
        let engine: Arc<dyn Engine> = tokio::task::spawn_blocking(move || FileEngine::open(own, clock)).await?.map(Arc::new).context("opening the volumes")?;
        install(&kit.clients().cluster(&api_meta::ClusterName::root())).await.context("installing the storage classes")?;
        let agent = settings.data_dir.join("agent");
        let (socket, registry) = (agent.join("plugins").join(DRIVER).join("csi.sock"), agent.join("plugins_registry"));
        let stop = CancellationToken::new();
        let driver = Driver::new(engine.clone(), &settings.node_name);
        let binding = snapshots::run(kit.clone(), stop.clone());
        let controllers = csi_controllers::run(DriverSettings { socket: socket.clone(), node_name: settings.node_name.clone() }, kit, stop.clone());
        let tasks = vec![tokio::spawn(serve(driver, socket, registry, stop.clone())), tokio::spawn(controllers), tokio::spawn(binding)];
        Ok(Self { engine, tasks, stop })
    }

    /// Stops it; with `release` no device of it stays on the machine.
    pub async fn stop(self, release: bool) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a component panicked");
            }
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

/// The snapshot class that comes with the driver, and the collection it is in.
fn snapshot_class() -> (String, Value) {
    ("/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses".into(), snapshots::class("lightningstor", DRIVER))
}

/// What virtual clusters with storage begin with.
pub fn of_virtual_clusters() -> StorageObjects {
    StorageObjects { definitions: snapshots::definitions(), objects: vec![snapshot_class()] }
}

/// How long a kind that was defined a moment ago may take until it is served.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Makes the objects that are not there; what is there is the operator's.
async fn install(client: &Client) -> Result<()> {
    api_client::install_definitions(client, &snapshots::definitions()).await?;
    let own = lightningstor::kubernetes::objects().into_iter().map(|object| {
        let plural = if object["kind"] == "CSIDriver" { "csidrivers" } else { "storageclasses" };
        (format!("/apis/storage.k8s.io/v1/{plural}"), object)
    });
    for (collection, object) in own.chain([snapshot_class()]) {
        let until = SystemClock.instant() + SERVED_WITHIN;
        loop {
            let request = Request::post(&collection).header(http::header::CONTENT_TYPE, "application/json");
            match client.request::<Value>(request.body(serde_json::to_vec(&object)?)?).await {
                Err(api_client::kube::Error::Api(status)) if is_there(&status) => break,
                Err(error) if api_client::is_not_found(&error) && SystemClock.instant() < until => tokio::time::sleep(LOOK).await,
                other => break drop(other?),
            }
        }
    }
    Ok(())
}

fn is_there(status: &Status) -> bool {
    status.reason == "AlreadyExists"
}
