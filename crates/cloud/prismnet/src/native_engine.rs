//! NativeEngine: ports of the kernel's own devices. A port is a veth pair whose node end is routed, not bridged.
//!
//! Every packet a pod sends meets the node's IP layer, so Service translation and policies hold between two pods of
//! one node too, without br_netfilter; and strict reverse path filtering on the node end lets no pod lie about its source.
use crate::bandwidth;
use crate::netlink::{Hop, LOOPBACK, Link, Netlink, VethPair};
use crate::{Engine, Error, NetworkNamespace, PortPlan};
use ipnet::Ipv4Net;
use std::fs;
use std::net::Ipv4Addr;

#[derive(Clone, Copy, Debug, Default)]
pub struct NativeEngine;

impl Engine for NativeEngine {
    fn attach(&self, port: &PortPlan, namespace: &NetworkNamespace) -> Result<[u8; 6], Error> {
        let attached = match self.check(port, namespace) {
            Ok(hardware_address) => Ok(hardware_address),
            Err(_) => {
                // What an interrupted call left is not trusted.
                self.detach(&port.host_interface)?;
                make(&mut Netlink::open()?, port, namespace)
            }
        };
        let attached = attached.and_then(|hardware_address| {
            bandwidth::limit(&port.host_interface, port.mtu, port.bandwidth)?;
            Ok(hardware_address)
        });
        if attached.is_err() {
            // The first error tells why; one of cleaning up would hide it, and the next call cleans up again.
            let _ = self.detach(&port.host_interface);
        }
        attached
    }

    fn detach(&self, host_interface: &str) -> Result<(), Error> {
        Netlink::open()?.delete_link(host_interface)?;
        bandwidth::unlimit(host_interface)
    }

    fn check(&self, port: &PortPlan, namespace: &NetworkNamespace) -> Result<[u8; 6], Error> {
        let wrong = |reason: String| Error::Port { port: port.host_interface.clone(), reason };
        let mut node = Netlink::open()?;
        let host = node.link(&port.host_interface)?.ok_or_else(|| wrong("its node end is gone".into()))?;
        let mut pod = open_in(namespace)?;
        let inner = pod.link(&port.interface)?.ok_or_else(|| wrong(format!("there is no \"{}\" in the network namespace", port.interface)))?;
        if host.peer != Some(inner.index) {
            return Err(wrong(format!("\"{}\" is another device's end", port.interface)));
        }
        if !host.up || !inner.up {
            return Err(wrong("it is down".into()));
        }
        if inner.hardware_address != port.hardware_address {
            return Err(wrong("its hardware address was changed".into()));
        }
        if !pod.addresses(inner.index)?.contains(&port.prefix()) {
            return Err(wrong(format!("address {} is missing", port.address)));
        }
        if !pod.routes()?.contains(&(Ipv4Net::default(), Hop::Gateway(port.gateway, inner.index), 0)) {
            return Err(wrong(format!("the default route through {} is missing", port.gateway)));
        }
        if !node.routes()?.contains(&(port.prefix(), Hop::Device(host.index), 0)) {
            return Err(wrong(format!("the node has no route to {}", port.address)));
        }
        Ok(host.hardware_address)
    }

    fn ready(&self, router: &str, gateway: Ipv4Addr) -> Result<(), Error> {
        let mut node = Netlink::open()?;
        let addresses = match node.link(router)? {
            Some(link) => node.addresses(link.index)?,
            None => Vec::new(),
        };
        if addresses.contains(&Ipv4Net::from(gateway)) { Ok(()) } else { Err(Error::NotReady { bridge: router.into(), gateway }) }
    }
}

fn make(node: &mut Netlink, port: &PortPlan, namespace: &NetworkNamespace) -> Result<[u8; 6], Error> {
    let pair = VethPair {
        name: &port.host_interface,
        alias: &port.alias(),
        mtu: port.mtu,
        peer_name: &port.interface,
        peer_hardware_address: port.hardware_address,
        peer_namespace: namespace,
    };
    node.create_veth(&pair)?;
    let host = existing(node, &port.host_interface)?;
    // A pod that sends with another's source address is not heard.
    write_sysctl(&format!("net/ipv4/conf/{}/rp_filter", port.host_interface), "1")?;
    if port.cluster != 0 {
        // Over its link-local addresses a pod would reach the node past the rules that keep clusters apart.
        switch_off_ipv6(&port.host_interface)?;
    }
    node.set_up(host.index)?;

    let mut pod = open_in(namespace)?;
    pod.set_up(LOOPBACK)?;
    let inner = existing(&mut pod, &port.interface)?;
    pod.add_address(inner.index, port.prefix())?;
    pod.set_up(inner.index)?;
    pod.add_route(Ipv4Net::from(port.gateway), Hop::Device(inner.index), Some(port.address), 0)?;
    pod.add_route(Ipv4Net::default(), Hop::Gateway(port.gateway, inner.index), None, 0)?;

    // Last, so that nothing reaches a pod that can't answer. The node speaks to its pods as their gateway.
    let source = node.link(&port.router)?.map(|_| port.gateway);
    node.add_route(port.prefix(), Hop::Device(host.index), source, 0)?;
    Ok(host.hardware_address)
}

/// A kernel without IPv6 has nothing to switch off.
pub(crate) fn switch_off_ipv6(interface: &str) -> Result<(), Error> {
    let name = format!("net/ipv6/conf/{interface}/disable_ipv6");
    if fs::exists(format!("/proc/sys/{name}")).unwrap_or(true) { write_sysctl(&name, "1") } else { Ok(()) }
}

fn existing(netlink: &mut Netlink, name: &str) -> Result<Link, Error> {
    netlink.link(name)?.ok_or_else(|| Error::Port { port: name.into(), reason: "it vanished while it was made".into() })
}

fn open_in(namespace: &NetworkNamespace) -> Result<Netlink, Error> {
    namespace.enter(Netlink::open)?
}

/// Sets a kernel parameter of the calling thread's network namespace, if it is not set so already.
pub(crate) fn write_sysctl(name: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/{name}");
    // /proc/sys may be read-only, as in containers; then what is already right must do.
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(Error::file(&path))
}
