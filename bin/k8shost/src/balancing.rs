//! Balancing: FiberLB as the server's settings ask for it.
use crate::node::KUBELET_PORT;
use anyhow::{Context, Result, bail};
use controller_kit::Kit;
use fiberlb::{AddressPool, ControllerSettings};
use ipnet::IpNet;
use serde_json::Value;
use settings::ServerSettings;
use std::collections::BTreeMap;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub struct Balancing {
    settings: ControllerSettings,
}

impl Balancing {
    /// `None` where it is disabled, and where there is neither a pool nor a node whose address could be given.
    pub fn of(settings: &ServerSettings) -> Result<Option<Self>> {
        let pool = AddressPool::parse(&settings.external_ip_pool).context("external-ip-pool")?;
        for (name, network) in [
            ("cluster-cidr", settings.cluster_cidr),
            ("service-cidr", settings.service_cidr),
            ("virtual-cluster-cidr", IpNet::V4(settings.virtual_cluster_cidr)),
        ] {
            if let Some(range) = pool.networks().into_iter().map(IpNet::V4).find(|range| range.contains(&network) || network.contains(range)) {
                bail!("external-ip-pool: {range} overlaps {name} {network}");
            }
        }
        if settings.is_disabled("fiberlb") || settings.disable_agent && pool.is_empty() {
            return Ok(None);
        }
        let mut reserved_ports = BTreeMap::new();
        let mut reserve = |port: u16, by: &str| ["TCP", "UDP"].map(|protocol| reserved_ports.insert(format!("{protocol}/{port}"), by.to_owned()));
        reserve(settings.https_listen_port, "the API server");
        reserve(KUBELET_PORT, "the node agent");
        (settings.service_node_port_range.first..=settings.service_node_port_range.last).for_each(|port| {
            reserve(port, "the range of node ports");
        });
        Ok(Some(Self { settings: ControllerSettings { pool, reserved_ports } }))
    }

    pub fn pool(&self) -> &AddressPool {
        &self.settings.pool
    }

    /// Starts the controllers.
    pub fn run(self, kit: &Kit, shutdown: &CancellationToken) -> JoinHandle<()> {
        tokio::spawn(fiberlb::kubernetes::run(self.settings, kit.clone(), shutdown.clone()))
    }
}

/// What all clusters see of it.
pub fn shared_objects(balancing: Option<&Balancing>) -> Vec<Value> {
    balancing.map(|_| fiberlb::kubernetes::ingress_class()).into_iter().collect()
}
