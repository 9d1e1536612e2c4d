//! Drivers: those that are registered on this node now, and the end of what others published.
use api_client::Clients;
use api_meta::ClusterName;
use dra::Plugin;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::api::{Api, DeleteParams, ListParams};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A driver that is not back this long after it went, or after the agent's start, has no devices any more.
const BACK_WITHIN: Duration = Duration::from_secs(30);

pub struct Drivers {
    clients: Arc<dyn Clients>,
    node_name: String,
    registered: Mutex<BTreeMap<String, Plugin>>,
}

impl Drivers {
    pub fn new(clients: Arc<dyn Clients>, node_name: &str) -> Arc<Self> {
        let drivers = Arc::new(Self { clients, node_name: node_name.to_owned(), registered: Mutex::default() });
        drivers.sweep_later();
        drivers
    }

    pub fn get(&self, driver: &str) -> Option<Plugin> {
        self.registered.lock().get(driver).cloned()
    }

    /// In a while, the devices of drivers that are not here are taken from the API: nobody would prepare them.
    fn sweep_later(self: &Arc<Self>) {
        let drivers = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(BACK_WITHIN).await;
                let Some(drivers) = drivers.upgrade() else { return };
                match drivers.sweep().await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "the devices of drivers that are gone can't be taken away yet"),
                }
            }
        });
    }

    async fn sweep(&self) -> Result<(), kube::Error> {
        let api: Api<ResourceSlice> = Api::all(self.clients.cluster(&ClusterName::root()));
        let own = ListParams::default().fields(&format!("spec.nodeName={}", self.node_name));
        let published = api.list(&own).await?.items;
        let drivers: BTreeSet<&String> = published.iter().map(|slice| &slice.spec.driver).collect();
        for driver in drivers.into_iter().filter(|driver| self.get(driver).is_none()) {
            tracing::info!(driver, "the devices of a driver that is gone are taken from the API");
            let own = ListParams::default().fields(&format!("spec.nodeName={},spec.driver={driver}", self.node_name));
            api.delete_collection(&DeleteParams::default(), &own).await?;
        }
        Ok(())
    }
}

/// What the volumes' registry is told to do with plugins that are not for volumes.
pub struct Registration(pub Arc<Drivers>);

impl volumes::OtherPlugins for Registration {
    fn kind(&self) -> &'static str {
        dra::PLUGIN_TYPE
    }

    fn registered(&self, name: &str, socket: &Path, versions: &[String]) -> Result<(), String> {
        let plugin = Plugin::new(socket, versions).ok_or_else(|| format!("none of the versions {versions:?} of DRA driver {name:?} is supported"))?;
        self.0.registered.lock().insert(name.to_owned(), plugin);
        Ok(())
    }

    fn gone(&self, name: &str) {
        self.0.registered.lock().remove(name);
        self.0.sweep_later();
    }
}
