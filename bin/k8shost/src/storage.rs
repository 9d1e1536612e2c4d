//! The cluster's storage: its classes, and what makes and attaches volumes through the drivers of its machines.
use crate::own_driver::OwnDriver;
use anyhow::{Context, Result};
use api_client::kube::Client;
use api_client::kube::core::Status;
use api_meta::ClusterName;
use api_server::ApiServer;
use clock::{Clock, SystemClock};
use controller_kit::Kit;
use csi_controllers::{DriverSettings, Expected, snapshots};
use http::Request;
use k8s_openapi::api::storage::v1::CSINode;
use lightningstor::{DRIVER, TOPOLOGY_KEY};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use virtual_cluster::StorageObjects;

/// Storage that runs.
pub struct Storage {
    own: Option<OwnDriver>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Storage {
    /// Starts it, with this machine's own driver if it has one, and follows the machines that join.
    pub async fn start(own: Option<OwnDriver>, node_name: &str, kit: Kit, server: Arc<ApiServer>) -> Result<Self> {
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let common = Common { kit: kit.clone(), stop: stop.clone(), begun: OnceCell::new() };
        if let Some(own) = &own {
            common.begin().await?;
            let settings = DriverSettings { channel: csi::channel(&own.socket), node_name: node_name.to_owned(), expected: None };
            tasks.push(tokio::spawn(csi_controllers::run(settings, kit, stop.clone())));
        }
        let own_node = own.is_some().then(|| node_name.to_owned());
        tasks.push(tokio::spawn(follow_machines(common, own_node, server)));
        Ok(Self { own, tasks, stop })
    }

    /// Stops it; with `release` no device of it stays on this machine.
    pub async fn stop(self, release: bool) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a component panicked");
            }
        }
        if let Some(own) = self.own {
            own.stop(release).await;
        }
    }
}

/// What there is once, however many drivers. A cluster without any pays nothing for it.
struct Common {
    kit: Kit,
    stop: CancellationToken,
    begun: OnceCell<()>,
}

impl Common {
    async fn begin(&self) -> Result<()> {
        let begin = async {
            install(&self.kit.clients().cluster(&ClusterName::root())).await.context("installing the storage classes")?;
            // It ends with the token, which whoever stops this cancels.
            drop(tokio::spawn(snapshots::run(self.kit.clone(), self.stop.clone())));
            anyhow::Ok(())
        };
        self.begun.get_or_try_init(|| begin).await.map(drop)
    }
}

/// Cares for the volumes of each machine whose agent has registered the driver, for as long as it is so.
async fn follow_machines(common: Common, own_node: Option<String>, server: Arc<ApiServer>) {
    let nodes = common.kit.objects::<CSINode>();
    let mut running: BTreeMap<String, (CancellationToken, JoinHandle<()>)> = BTreeMap::new();
    let follow = async {
        let mut changes = nodes.subscribe();
        nodes.synced().await;
        loop {
            let has_driver = |node: &&Arc<CSINode>| node.spec.drivers.iter().any(|driver| driver.name == DRIVER);
            let listed = nodes.list(&ClusterName::root(), None);
            let names = listed.iter().filter(has_driver).filter_map(|node| node.metadata.name.clone());
            let there: BTreeSet<String> = names.filter(|name| own_node.as_ref() != Some(name)).collect();
            running.retain(|name, (stop, _)| {
                let stays = there.contains(name);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            let mut settled = true;
            for name in there.into_iter().filter(|name| !running.contains_key(name)).collect::<Vec<_>>() {
                if let Err(error) = common.begin().await {
                    tracing::warn!("storage can't begin yet: {error:#}");
                    settled = false;
                    break;
                }
                let stop = common.stop.child_token();
                let controllers = csi_controllers::run(of_machine(&name, server.clone()), common.kit.clone(), stop.clone());
                running.insert(name, (stop, tokio::spawn(controllers)));
            }
            tokio::select! {
                // Lagging only means that there was much news.
                _ = changes.recv() => {}
                () = tokio::time::sleep(BEGIN_AGAIN), if !settled => {}
            }
        }
    };
    // Told to stop: the controllers have been told too.
    let _ = common.stop.run_until_cancelled(follow).await;
    for (_, (_, controllers)) in running {
        if let Err(error) = controllers.await {
            tracing::error!(%error, "a component panicked");
        }
    }
}

const BEGIN_AGAIN: Duration = Duration::from_secs(2);

/// The driver of a machine that joined, which speaks for that machine alone.
fn of_machine(node_name: &str, server: Arc<ApiServer>) -> DriverSettings {
    let node = node_name.to_owned();
    let channel = csi::channel_over(move || {
        let (server, node) = (server.clone(), node.clone());
        async move { server.connect_to_driver(&node, DRIVER).await }
    });
    let topology = BTreeMap::from([(TOPOLOGY_KEY.to_owned(), node_name.to_owned())]);
    let expected = Expected { name: DRIVER.into(), node_id: node_name.to_owned(), topology };
    DriverSettings { channel, node_name: node_name.to_owned(), expected: Some(expected) }
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
