//! NativeEngine: ports of the kernel's own devices. A port is a veth pair whose node end is routed, not bridged.
//!
//! Every packet a pod sends meets the node's IP layer, so Service translation and policies hold between two pods of
//! one node too, without br_netfilter; and strict reverse path filtering on the node end lets no pod lie about its source.
use crate::bandwidth;
use crate::netlink::{Hop, LOOPBACK, Link, Neighbours, Netlink, VethPair};
use crate::{Engine, Error, NetworkNamespace, PortPlan};
use api_meta::IpFamily;
use ipnet::IpNet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
        if port.host_hardware_address().is_some_and(|address| address != host.hardware_address) {
            return Err(wrong("the hardware address of its node end was changed".into()));
        }
        for (address, gateway) in port.addresses() {
            let family = IpFamily::of(gateway);
            let has = |routes: Vec<(IpNet, Hop, u32)>, destination, hop| routes.iter().any(|(to, by, _)| (*to, *by) == (destination, hop));
            if !pod.addresses(inner.index, family)?.contains(&address) {
                return Err(wrong(format!("address {} is missing", address.addr())));
            }
            if !has(pod.routes(family)?, anywhere(family), Hop::Gateway(gateway, inner.index)) {
                return Err(wrong(format!("the default route through {gateway} is missing")));
            }
            if family == IpFamily::V6 && !pod.neighbours(inner.index, Neighbours::Resolved(family))?.contains(&(gateway, host.hardware_address)) {
                return Err(wrong(format!("the neighbour {gateway} is missing")));
            }
            if !has(node.routes(family)?, address, Hop::Device(host.index)) {
                return Err(wrong(format!("the node has no route to {}", address.addr())));
            }
        }
        Ok(host.hardware_address)
    }

    fn ready(&self, router: &str, gateways: &[IpAddr]) -> Result<(), Error> {
        let mut node = Netlink::open()?;
        let link = node.link(router)?;
        for gateway in gateways {
            let addresses = match &link {
                Some(link) => node.addresses(link.index, IpFamily::of(*gateway))?,
                None => Vec::new(),
            };
            if !addresses.contains(&IpNet::from(*gateway)) {
                return Err(Error::NotReady { bridge: router.into(), gateway: *gateway });
            }
        }
        Ok(())
    }
}

fn make(node: &mut Netlink, port: &PortPlan, namespace: &NetworkNamespace) -> Result<[u8; 6], Error> {
    let pair = VethPair {
        name: &port.host_interface,
        alias: &port.alias(),
        hardware_address: port.host_hardware_address(),
        mtu: port.mtu,
        peer_name: &port.interface,
        peer_hardware_address: port.hardware_address,
        peer_namespace: namespace,
    };
    node.create_veth(&pair)?;
    let host = existing(node, &port.host_interface)?;
    // A pod that sends with another's source address is not heard.
    write_sysctl(&format!("net/ipv4/conf/{}/rp_filter", port.host_interface), "1")?;
    if port.second.is_some() {
        only_given_ipv6(&port.host_interface)?;
        namespace.enter(|| -> Result<(), Error> {
            only_given_ipv6(&port.interface)?;
            // Where namespaces begin without IPv6 the pod's own loopback has none either.
            write_sysctl("net/ipv6/conf/lo/disable_ipv6", "0")
        })??;
    } else if port.cluster != 0 {
        // Over its link-local addresses a pod would reach the node past the rules that keep clusters apart.
        switch_off_ipv6(&port.host_interface)?;
    }
    node.set_up(host.index)?;

    let mut pod = open_in(namespace)?;
    pod.set_up(LOOPBACK)?;
    let inner = existing(&mut pod, &port.interface)?;
    for (address, _) in port.addresses() {
        pod.add_address(inner.index, address)?;
    }
    pod.set_up(inner.index)?;
    let router = node.link(&port.router)?;
    for (address, gateway) in port.addresses() {
        let family = IpFamily::of(gateway);
        if family == IpFamily::V6 {
            // Nobody asks who has an address: both ends know, so nothing a pod could say of others is heard.
            let neighbours = Neighbours::Resolved(family);
            pod.add_neighbour(inner.index, neighbours, gateway, host.hardware_address)?;
            node.add_neighbour(host.index, neighbours, address.addr(), port.hardware_address)?;
        }
        pod.add_route(gateway.into(), Hop::Device(inner.index), Some(address.addr()), 0)?;
        pod.add_route(anywhere(family), Hop::Gateway(gateway, inner.index), None, 0)?;
        // Last, so that nothing reaches a pod that can't answer. The node speaks to its pods as their gateway.
        node.add_route(address, Hop::Device(host.index), router.as_ref().map(|_| gateway), 0)?;
    }
    Ok(host.hardware_address)
}

/// The destination of a family's default route.
fn anywhere(family: IpFamily) -> IpNet {
    let address: IpAddr = match family {
        IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new_assert(address, 0)
}

/// A device that is not up yet has IPv6, but only what it is given: no address that it makes itself, and nothing that a
/// neighbour tells it of routers, addresses or ways.
pub(crate) fn only_given_ipv6(interface: &str) -> Result<(), Error> {
    for (name, value) in [("addr_gen_mode", "1"), ("accept_dad", "0"), ("accept_ra", "0"), ("accept_redirects", "0"), ("disable_ipv6", "0")] {
        write_sysctl(&format!("net/ipv6/conf/{interface}/{name}"), value)?;
    }
    Ok(())
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
