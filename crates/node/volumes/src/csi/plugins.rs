//! Plugins: the drivers that are registered on this node now.
use csi::v1::node_client::NodeClient;
use csi::v1::node_service_capability::Type as CapabilityType;
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::{NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeGetInfoResponse};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Channel;

/// How long a volume waits for a driver that has yet to register, as after a start.
const PATIENCE: Duration = Duration::from_secs(5);

/// A driver's node service.
#[derive(Debug)]
pub struct Plugin {
    pub socket: PathBuf,
    pub node: NodeClient<Channel>,
    pub info: NodeGetInfoResponse,
    rpcs: Vec<Rpc>,
}

impl Plugin {
    /// Asks a driver what it is.
    pub async fn ask(socket: &Path) -> Result<Self, tonic::Status> {
        let mut node = NodeClient::new(csi::channel(socket));
        let info = node.node_get_info(NodeGetInfoRequest {}).await?.into_inner();
        let capabilities = node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await?.into_inner().capabilities;
        let rpcs = capabilities.into_iter().filter_map(|capability| capability.r#type.map(|CapabilityType::Rpc(rpc)| rpc.r#type()));
        Ok(Self { socket: socket.to_owned(), node, info, rpcs: rpcs.collect() })
    }

    pub fn can(&self, rpc: Rpc) -> bool {
        self.rpcs.contains(&rpc)
    }
}

type Registered = BTreeMap<String, Arc<Plugin>>;

pub struct Plugins {
    all: Mutex<watch::Sender<Registered>>,
    seen: watch::Receiver<Registered>,
}

impl Default for Plugins {
    fn default() -> Self {
        let (all, seen) = watch::channel(BTreeMap::new());
        Self { all: Mutex::new(all), seen }
    }
}

impl Plugins {
    /// The driver, waited for a moment where it is not there.
    pub async fn get(&self, driver: &str) -> Option<Arc<Plugin>> {
        let mut seen = self.seen.clone();
        let there = tokio::time::timeout(PATIENCE, seen.wait_for(|all| all.contains_key(driver))).await;
        there.ok()?.ok()?.get(driver).cloned()
    }

    /// The driver, if it is there.
    pub fn now(&self, driver: &str) -> Option<Arc<Plugin>> {
        self.seen.borrow().get(driver).cloned()
    }

    pub fn set(&self, driver: &str, plugin: Plugin) {
        self.all.lock().send_modify(|all| drop(all.insert(driver.to_owned(), Arc::new(plugin))));
    }

    pub fn remove(&self, driver: &str) {
        self.all.lock().send_modify(|all| drop(all.remove(driver)));
    }

    /// The drivers' names and what each says of this node.
    pub fn infos(&self) -> BTreeMap<String, NodeGetInfoResponse> {
        self.seen.borrow().iter().map(|(name, plugin)| (name.clone(), plugin.info.clone())).collect()
    }
}
