//! NodeInfo: a node with all that its pods take from it.
use crate::PodInfo;
use crate::amounts::Amounts;
use crate::pod_info::HostPort;
use controller_kit::pod_resources;
use k8s_openapi::api::core::v1::{Node, Taint};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub name: Arc<str>,
    pub node: Arc<Node>,
    pub allocatable: Amounts,
    pub allowed_pods: i64,
    pub requested: Amounts,
    /// CPU and memory as scores count them.
    pub scored: (i64, i64),
    pub pods: Vec<Arc<PodInfo>>,
    pub host_ports: Vec<HostPort>,
    pub has_hard_taints: bool,
    pub has_soft_taints: bool,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>) -> Self {
        let mut info = Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            node,
            allocatable: Amounts::default(),
            allowed_pods: 0,
            requested: Amounts::default(),
            scored: (0, 0),
            pods: Vec::new(),
            host_ports: Vec::new(),
            has_hard_taints: false,
            has_soft_taints: false,
        };
        info.read_node();
        info
    }

    /// The node changed; its pods stay.
    pub fn replace_node(&mut self, node: Arc<Node>) {
        self.node = node;
        self.read_node();
    }

    fn read_node(&mut self) {
        let allocatable = pod_resources::parse(self.node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        self.allowed_pods = allocatable.get("pods").map(|pods| pods.units()).unwrap_or_default();
        self.allocatable = Amounts::new(&allocatable);
        self.has_hard_taints = self.taints().iter().any(|taint| taint.effect != "PreferNoSchedule");
        self.has_soft_taints = self.taints().iter().any(|taint| taint.effect == "PreferNoSchedule");
    }

    /// Its name in the cluster it is of.
    pub fn own_name(&self) -> &str {
        controller_kit::own_nodes::owner(&self.name).map_or(&self.name, |(_, name)| name)
    }

    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }
    pub fn is_unschedulable(&self) -> bool {
        self.node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default()
    }
    pub fn labels(&self) -> &Option<BTreeMap<String, String>> {
        &self.node.metadata.labels
    }
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().as_ref()?.get(key).map(String::as_str)
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests, 1);
        self.scored.0 += pod.scored.0;
        self.scored.1 += pod.scored.1;
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    pub fn remove(&mut self, pod: &PodInfo) {
        let Some(at) = self.pods.iter().position(|other| other.key == pod.key) else { return };
        let pod = self.pods.swap_remove(at);
        self.requested.add(&pod.requests, -1);
        self.scored.0 -= pod.scored.0;
        self.scored.1 -= pod.scored.1;
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|other| other == port) {
                self.host_ports.swap_remove(at);
            }
        }
    }
}
