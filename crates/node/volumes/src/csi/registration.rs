//! Registration: drivers come and go with their sockets in one directory, as the kubelet's plugin watcher has it.
use super::{CsiVolumes, Plugin, REGISTRY};
use crate::error::SetUpError;
use api_client::Clients;
use api_meta::ClusterName;
use csi::registration::registration_client::RegistrationClient;
use csi::registration::{InfoRequest, RegistrationStatus};
use csi::v1::NodeGetInfoResponse;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use kube::api::{Api, Patch, PatchParams, PostParams};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const RETRY: Duration = Duration::from_millis(500);
const SLOWEST_RETRY: Duration = Duration::from_secs(30);
/// A driver that has not come back this long after the agent's start is gone.
const BACK_WITHIN: Duration = Duration::from_secs(10);
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";

/// Plugins of another kind that register in the same directory.
pub trait OtherPlugins: Send + Sync + 'static {
    /// What they call themselves.
    fn kind(&self) -> &'static str;

    /// # Errors
    /// Why the plugin is of no use; it is told.
    fn registered(&self, name: &str, socket: &Path, versions: &[String]) -> Result<(), String>;

    fn gone(&self, name: &str);
}

/// Follows the registry until the volumes are dropped.
pub fn start(
    volumes: &Arc<CsiVolumes>,
    clients: Arc<dyn Clients>,
    node_name: &str,
    others: Arc<dyn OtherPlugins>,
) -> Result<tokio::task::JoinHandle<()>, SetUpError> {
    // Set once, before anything can be mounted.
    volumes.node_name.get_or_init(|| node_name.to_owned());
    let registry = volumes.root.join(REGISTRY);
    std::fs::create_dir_all(&registry).map_err(SetUpError::io("creating", &registry))?;
    let failed = |errno: Errno| SetUpError::io("watching", &registry)(errno.into());
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
    inotify
        .add_watch(&registry, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MOVED_FROM)
        .map_err(failed)?;
    // SAFETY: a Watched owns its inotify instance and never gives it away or replaces it, so that its file descriptor
    // stays open and the same while it is registered.
    let events = unsafe { AsyncFd::register_with_interest(Watched(inotify), Interest::READABLE) };
    let events = events.map_err(|error| SetUpError::io("watching", &registry)(error.into_parts().1))?;
    let registrar = Registrar { volumes: Arc::downgrade(volumes), clients, node_name: node_name.to_owned(), registry, others, known: BTreeMap::new() };
    Ok(tokio::spawn(registrar.run(events)))
}

struct Watched(Inotify);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

struct Registrar {
    volumes: Weak<CsiVolumes>,
    clients: Arc<dyn Clients>,
    node_name: String,
    registry: PathBuf,
    others: Arc<dyn OtherPlugins>,
    /// Sockets with the plugins behind them. A socket that was made anew is another one, told by its inode.
    known: BTreeMap<(PathBuf, u64), Known>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    name: String,
    is_for_volumes: bool,
}

impl Registrar {
    async fn run(mut self, events: AsyncFd<Watched>) {
        let mut wait = RETRY;
        let back_by = tokio::time::Instant::now() + BACK_WITHIN;
        let mut told_of_gone = false;
        loop {
            let mut settled = match self.look().await {
                Some(settled) => settled,
                None => return,
            };
            if !told_of_gone && back_by.elapsed() > Duration::ZERO {
                let Some(volumes) = self.volumes.upgrade() else { return };
                told_of_gone = self.tell(&volumes).await;
                settled &= told_of_gone;
            }
            let pause = async { if settled { std::future::pending::<()>().await } else { tokio::time::sleep(wait).await } };
            tokio::select! {
                () = tokio::time::sleep_until(back_by), if !told_of_gone && back_by.elapsed().is_zero() => {}
                ready = events.readable() => {
                    let Ok(mut ready) = ready else { return };
                    // What happened is seen in the directory; only that something did matters here.
                    while matches!(ready.get_inner().0.read_events(), Ok(events) if !events.is_empty()) {}
                    ready.clear_ready();
                    wait = RETRY;
                }
                () = pause => wait = (wait * 2).min(SLOWEST_RETRY),
            }
        }
    }

    /// Brings what is registered in line with the sockets there are. Gives whether all went well; none once nobody needs it any more.
    async fn look(&mut self) -> Option<bool> {
        let volumes = self.volumes.upgrade()?;
        let sockets = sockets(&self.registry);
        let gone: Vec<_> = self.known.keys().filter(|known| !sockets.contains(known)).cloned().collect();
        let mut settled = true;
        for socket in gone {
            let plugin = self.known.remove(&socket).unwrap_or_default();
            // The same driver may have registered anew already, by another socket.
            if self.known.values().any(|other| *other == plugin) || sockets.iter().any(|(path, _)| *path == socket.0) {
                continue;
            }
            tracing::info!(driver = plugin.name, "a driver has gone");
            if plugin.is_for_volumes {
                volumes.plugins.remove(&plugin.name);
                settled &= self.tell(&volumes).await;
            } else {
                self.others.gone(&plugin.name);
            }
        }
        for socket in sockets {
            if self.known.contains_key(&socket) {
                continue;
            }
            match self.register(&volumes, &socket.0).await {
                Ok(Some(plugin)) => {
                    tracing::info!(driver = plugin.name, "a driver has registered");
                    self.known.insert(socket, plugin.clone());
                    if plugin.is_for_volumes {
                        let volumes = volumes.clone();
                        tokio::spawn(async move { volumes.sweep(&plugin.name).await });
                    }
                }
                // Another kind of plugin.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(socket = %socket.0.display(), error, "a plugin can't be registered yet");
                    settled = false;
                }
            }
        }
        Some(settled)
    }

    async fn register(&self, volumes: &CsiVolumes, socket: &Path) -> Result<Option<Known>, String> {
        let mut client = RegistrationClient::new(csi::channel(socket));
        let info = client.get_info(InfoRequest {}).await.map_err(|status| status.to_string())?.into_inner();
        let is_for_volumes = info.r#type == "CSIPlugin";
        let registered = if is_for_volumes {
            self.try_register(volumes, socket, &info).await
        } else if info.r#type == self.others.kind() {
            self.others.registered(&info.name, endpoint(socket, &info), &info.supported_versions)
        } else {
            return Ok(None);
        };
        let told = RegistrationStatus { plugin_registered: registered.is_ok(), error: registered.as_ref().err().cloned().unwrap_or_default() };
        client.notify_registration_status(told).await.map_err(|status| status.to_string())?;
        registered.map(|()| Some(Known { name: info.name, is_for_volumes }))
    }

    async fn try_register(&self, volumes: &CsiVolumes, socket: &Path, info: &csi::registration::PluginInfo) -> Result<(), String> {
        if !info.supported_versions.iter().any(|version| version.trim_start_matches('v').split('.').next() == Some("1")) {
            return Err(format!("none of the versions {:?} of CSI driver {:?} is supported", info.supported_versions, info.name));
        }
        let plugin = Plugin::ask(endpoint(socket, info)).await.map_err(|status| status.to_string())?;
        volumes.plugins.set(&info.name, plugin);
        if self.tell(volumes).await { Ok(()) } else { Err(format!("node {:?} could not be told of the driver", self.node_name)) }
    }

    /// Writes the drivers there are to the node's objects. Gives whether that worked.
    async fn tell(&self, volumes: &CsiVolumes) -> bool {
        let infos = volumes.plugins.infos();
        let client = self.clients.cluster(&ClusterName::root());
        let written = async {
            let node = write_node(Api::all(client.clone()), &self.node_name, &infos).await?;
            write_csi_node(Api::all(client), &node, &infos).await
        };
        match written.await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "the node's CSI drivers can't be told yet");
                false
            }
        }
    }
}

fn endpoint<'a>(socket: &'a Path, info: &'a csi::registration::PluginInfo) -> &'a Path {
    if info.endpoint.is_empty() { socket } else { Path::new(&info.endpoint) }
}

fn sockets(registry: &Path) -> BTreeSet<(PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(registry).into_iter().flatten().flatten();
    let sockets = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok().filter(|metadata| metadata.file_type().is_socket())?;
        Some((entry.path(), metadata.ino()))
    });
    sockets.collect()
}

/// Labels for the drivers' topologies, and the drivers' ids of the node.
async fn write_node(api: Api<Node>, name: &str, infos: &BTreeMap<String, NodeGetInfoResponse>) -> Result<Node, kube::Error> {
    let labels: BTreeMap<&String, &String> = infos.values().filter_map(|info| info.accessible_topology.as_ref()).flat_map(|of| &of.segments).collect();
    let ids: BTreeMap<&String, &String> = infos.iter().map(|(driver, info)| (driver, &info.node_id)).collect();
    let ids = serde_json::to_string(&ids).expect("texts encode");
    let patch = json!({"metadata": {"labels": labels, "annotations": {NODE_IDS: ids}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

async fn write_csi_node(api: Api<CSINode>, node: &Node, infos: &BTreeMap<String, NodeGetInfoResponse>) -> Result<(), kube::Error> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let driver = |(name, info): (&String, &NodeGetInfoResponse)| {
        let keys: Vec<&String> = info.accessible_topology.iter().flat_map(|of| of.segments.keys()).collect();
        let mut driver = json!({"name": name, "nodeID": info.node_id, "topologyKeys": keys});
        if info.max_volumes_per_node > 0 {
            driver["allocatable"] = json!({"count": info.max_volumes_per_node});
        }
        driver
    };
    let drivers: Vec<Value> = infos.iter().map(driver).collect();
    if api.get_opt(&name).await?.is_some() {
        api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"drivers": drivers}}))).await?;
        return Ok(());
    }
    let object = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
        "metadata": {"name": name, "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid}]},
        "spec": {"drivers": drivers},
    });
    let object: CSINode = serde_json::from_value(object).expect("it has the shape of a CSINode");
    api.create(&PostParams::default(), &object).await.map(drop)
}
