//! The logical switch port of a pod. Pure.
use super::switches::Switch;
use crate::kubernetes::{PodIdentity, logical_port};
use crate::plan::mac_address;
use crate::policy::{PodFacts, PolicyPod};
use crate::proto::LogicalSwitchPort;
use crate::switching::INTERFACE;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::net::{IpAddr, Ipv4Addr};

/// A pod that has an address of the network.
pub fn facts(pod: &Pod) -> Option<PodFacts> {
    PodFacts::of(&PolicyPod::from(pod), "")
}

/// The addresses of a node's pods.
pub fn range_of(node: &Node) -> Option<Ipv4Net> {
    let spec = node.spec.as_ref()?;
    spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).find_map(|range| range.parse().ok())
}

/// The port of a pod whose node has this range; `None` for a pod without one.
pub fn port(switch: &Switch, pod: &Pod, range: Option<Ipv4Net>) -> Option<LogicalSwitchPort> {
    let address = facts(pod)?.addresses.into_iter().find_map(|address| if let IpAddr::V4(address) = address { Some(address) } else { None })?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let identity = PodIdentity { namespace: switch.namespace.to_string(), name: text(&pod.metadata.name), uid: text(&pod.metadata.uid) };
    let range = range.filter(|range| range.contains(&address));
    Some(LogicalSwitchPort {
        name: logical_port(Some(&identity), containers(pod).next().unwrap_or(&identity.uid)),
        logical_switch: switch.name(),
        ip_address: format!("{address}/{}", range.map_or(32, |range| range.prefix_len())),
        mac_address: mac_address(address),
        attached: true,
        interface: INTERFACE.to_owned(),
        gateway: range.map(|range| gateway(range).to_string()).unwrap_or_default(),
        ..LogicalSwitchPort::default()
    })
}

/// Whether a call that names this container is about the pod: its sandbox's id is its node's affair alone.
pub fn is_of(pod: &Pod, container: &str) -> bool {
    containers(pod).any(|own| own == container) || pod.metadata.uid.as_deref() == Some(container)
}

/// The ids of the containers that were started, without the runtime's name; the first stays the first.
fn containers(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let main = status.into_iter().flat_map(|status| status.container_statuses.iter().flatten());
    let init = status.into_iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let ids = main.chain(init).filter_map(|container| container.container_id.as_deref());
    ids.map(|id| id.split_once("://").map_or(id, |(_, id)| id)).filter(|id| !id.is_empty())
}

fn gateway(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_meta::ClusterName;
    use serde_json::{Value, json};

    fn pod(spec: &Value, status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop", "uid": "u1"}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_with_an_address_has_a_port() {
        let switch = Switch { cluster: ClusterName::parse("dev.team-a").unwrap(), namespace: "shop".into() };
        let spec = json!({"containers": [{"name": "web"}], "nodeName": "n1"});
        let told = |spec: &Value, status: &Value, range: Option<&str>| {
            port(&switch, &pod(spec, status), range.map(|range| range.parse().unwrap())).map(|port| {
                assert_eq!((port.logical_switch.as_str(), port.interface.as_str(), port.attached), ("k8s-shop@dev.team-a", "eth0", true));
                format!("{} {} {} {}", port.name, port.ip_address, port.mac_address, port.gateway)
            })
        };
        let running = json!({"phase": "Running", "podIP": "10.42.3.7", "containerStatuses": [
            {"name": "side"}, {"name": "web", "containerID": "containerd://c1"}]});
        assert_eq!(told(&spec, &running, Some("10.42.3.0/24")).unwrap(), "web-0-c1 10.42.3.7/24 0a:58:0a:2a:03:07 10.42.3.1");
        let starting = json!({"phase": "Pending", "podIP": "10.42.3.7", "containerStatuses": [{"name": "web", "containerID": ""}]});
        assert_eq!(told(&spec, &starting, None).unwrap(), "web-0-u1 10.42.3.7/32 0a:58:0a:2a:03:07 ");
        assert_eq!(told(&spec, &starting, Some("10.42.9.0/24")).unwrap(), "web-0-u1 10.42.3.7/32 0a:58:0a:2a:03:07 ", "the node has another range now");
        for status in [json!({}), json!({"phase": "Succeeded", "podIP": "10.42.3.7"})] {
            assert_eq!(told(&spec, &status, None), None, "{status}");
        }
        assert_eq!(told(&json!({"containers": [], "hostNetwork": true}), &running, None), None);
        assert!(is_of(&pod(&spec, &running), "c1") && is_of(&pod(&spec, &running), "u1") && !is_of(&pod(&spec, &running), "c2"));
    }
}
