//! Driver: a CSI driver on this node, as controllers speak to it.
use controller_kit::Error;
use csi::v1::controller_client::ControllerClient;
use csi::v1::identity_client::IdentityClient;
use csi::v1::node_client::NodeClient;
use csi::v1::plugin_capability::{Type as PluginType, service};
use csi::v1::{
    ControllerGetCapabilitiesRequest, GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeGetInfoRequest, Topology, controller_service_capability,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;

pub use csi::v1::controller_service_capability::rpc::Type as Rpc;

/// Between two attempts to reach a driver that is not there yet.
const RETRY: Duration = Duration::from_millis(200);
const SLOWEST_RETRY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct DriverSettings {
    /// The way to the driver, on this machine or another.
    pub channel: Channel,
    /// The driver's node, as Kubernetes knows it.
    pub node_name: String,
    /// What the driver must say of itself; none where it is taken at its word.
    pub expected: Option<Expected>,
}

/// What a driver on a machine that joined must be, so that it can't pass for one of another machine.
#[derive(Clone, Debug)]
pub struct Expected {
    pub name: String,
    pub node_id: String,
    pub topology: BTreeMap<String, String>,
}

#[derive(Debug)]
pub struct Facts {
    pub name: String,
    pub node_name: String,
    /// The node's id, as the driver knows it.
    pub node_id: String,
    /// Where volumes made here can be reached from; none if from everywhere.
    pub topology: Option<Topology>,
    rpcs: Vec<Rpc>,
}

impl Expected {
    fn check(&self, name: &str, node_id: &str, topology: Option<&Topology>) -> Result<(), String> {
        let segments = topology.map(|topology| &topology.segments);
        if name == self.name && node_id == self.node_id && segments == Some(&self.topology) {
            return Ok(());
        }
        Err(format!("it says it is driver {name:?} of node {node_id:?}, with topology {segments:?}"))
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    pub facts: Arc<Facts>,
    pub controller: ControllerClient<Channel>,
}

impl Driver {
    /// Waits for the driver and asks it what it is.
    pub async fn connect(settings: DriverSettings) -> Self {
        let channel = settings.channel.clone();
        let mut wait = RETRY;
        loop {
            match Facts::ask(channel.clone(), &settings).await {
                Ok(facts) => return Self { facts: Arc::new(facts), controller: ControllerClient::new(channel) },
                Err(error) => {
                    tracing::debug!(node = settings.node_name, %error, "the driver does not answer yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(SLOWEST_RETRY);
                }
            }
        }
    }
}

impl Facts {
    async fn ask(channel: Channel, settings: &DriverSettings) -> Result<Self, Status> {
        let name = IdentityClient::new(channel.clone()).get_plugin_info(GetPluginInfoRequest {}).await?.into_inner().name;
        let plugin = IdentityClient::new(channel.clone()).get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await?.into_inner();
        let constrained = plugin
            .capabilities
            .iter()
            .any(|capability| matches!(&capability.r#type, Some(PluginType::Service(of)) if of.r#type() == service::Type::VolumeAccessibilityConstraints));
        let node = NodeClient::new(channel.clone()).node_get_info(NodeGetInfoRequest {}).await?.into_inner();
        let controller = ControllerClient::new(channel).controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await?.into_inner();
        let rpcs =
            controller.capabilities.into_iter().filter_map(|capability| capability.r#type.map(|controller_service_capability::Type::Rpc(rpc)| rpc.r#type()));
        let topology = node.accessible_topology.filter(|_| constrained);
        if let Some(expected) = &settings.expected {
            expected.check(&name, &node.node_id, topology.as_ref()).map_err(Status::permission_denied)?;
        }
        Ok(Self { name, node_name: settings.node_name.clone(), node_id: node.node_id, topology, rpcs: rpcs.collect() })
    }

    #[cfg(test)]
    pub fn of_test(rpcs: &[Rpc]) -> Self {
        let topology = Some(Topology { segments: BTreeMap::from([("zone".to_owned(), "n1".to_owned())]) });
        Self { name: "d.example".into(), node_name: "n1".into(), node_id: "id-1".into(), topology, rpcs: rpcs.to_vec() }
    }

    pub fn can(&self, rpc: Rpc) -> bool {
        self.rpcs.contains(&rpc)
    }

    /// The labels by which volumes' node affinities take this node.
    pub fn segments(&self) -> BTreeMap<String, String> {
        self.topology.clone().unwrap_or_default().segments
    }
}

/// A driver's refusal, in the words upstream's sidecars have for it.
pub fn message(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// Whether what was asked for is surely not under way any more.
pub fn is_final(status: &Status) -> bool {
    use tonic::Code;
    !matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::ResourceExhausted | Code::Aborted)
}

/// Whether asking again, for the same, would be in vain.
pub fn is_infeasible(status: &Status) -> bool {
    use tonic::Code;
    matches!(status.code(), Code::InvalidArgument | Code::OutOfRange | Code::NotFound)
}

pub fn refused(status: &Status) -> Error {
    Error::NotYet(message(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_speaks_for_its_own_machine_alone() {
        let of = |node: &str| BTreeMap::from([("topology/node".to_owned(), node.to_owned())]);
        let expected = Expected { name: "d.example".into(), node_id: "n1".into(), topology: of("n1") };
        let check = |name: &str, node_id: &str, topology: Option<&str>| {
            expected.check(name, node_id, topology.map(|node| Topology { segments: of(node) }).as_ref()).is_ok()
        };
        assert!(check("d.example", "n1", Some("n1")));
        for (name, node_id, topology) in
            [("d.example", "n1", Some("n2")), ("d.example", "n1", None), ("d.example", "n2", Some("n1")), ("other.example", "n1", Some("n1"))]
        {
            assert!(!check(name, node_id, topology), "{name} {node_id} {topology:?}");
        }
    }
}
