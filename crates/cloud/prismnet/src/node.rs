//! The node's part: its router, the kernel's parameters, translation of what leaves the cluster, and the CNI files.
use crate::address_file::replace;
use crate::isolation;
use crate::native_engine::{only_given_ipv6, write_sysctl};
use crate::netlink::{Hop, Netlink};
use crate::network_namespace::identity_at;
use crate::nft;
use crate::peer_links;
use crate::plan::host_interface;
use crate::policy;
use crate::settings::{DEFAULT_MTU, LEAST_IPV6_MTU, Ranges};
use crate::sources;
use crate::{AddressFile, AddressPool, Engine, Error, NativeEngine, NetworkConf, NodeNetwork, PodClusters};
use api_meta::IpFamily;
use ipnet::IpNet;
use serde_json::json;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The nftables table that is ours.
pub const TABLE: &str = "k8shost-prismnet";
/// containerd 1.6 knows no later version.
const CONF_VERSION: &str = "1.0.0";
const CONF_FILE: &str = "10-prismnet.conflist";
/// Worse than any route to a pod or another node.
const LAST_METRIC: u32 = 4096;

/// Makes the node a router for its pods. May be repeated at every start: pods that run are not disturbed.
///
/// It acts in the network namespace of the calling thread and blocks for some milliseconds.
pub fn setup(network: &NodeNetwork) -> Result<(), Error> {
    router(network)?;
    PodClusters::new(&network.state_dir).clear()?;
    reap(network)
}

/// The router's device, its routes and the kernel's parameters, without the rules.
pub(crate) fn router(network: &NodeNetwork) -> Result<(), Error> {
    network.check()?;
    write_sysctl("net/ipv4/ip_forward", "1")?;
    let mut netlink = Netlink::open()?;
    let mtu = mtu(network, &mut netlink)?;
    netlink.create_bridge(&network.bridge_name, mtu)?;
    let gone = || Error::NotReady { bridge: network.bridge_name.clone(), gateway: network.gateway().into() };
    let router = netlink.link(&network.bridge_name)?.ok_or_else(gone)?;
    if network.second.is_some() {
        forward_ipv6()?;
        only_given_ipv6(&network.bridge_name)?;
    }
    if router.mtu != mtu {
        netlink.set_mtu(router.index, mtu)?;
    }
    for ranges in network.ranges() {
        let gateway = IpNet::from(ranges.gateway);
        for stale in netlink.addresses(router.index, ranges.family)?.into_iter().filter(|address| *address != gateway) {
            netlink.delete_address(router.index, stale)?;
        }
        netlink.add_address(router.index, gateway)?;
    }
    netlink.set_up(router.index)?;
    for ranges in network.ranges() {
        // An address no pod has is refused at once, instead of leaving by the default route.
        netlink.add_route(ranges.pod_cidr, Hop::Unreachable, None, LAST_METRIC)?;
        if let Some(services) = ranges.service_cidr {
            // Nothing is behind this route: it only lets the node choose a source address before a Service is translated.
            netlink.add_route(services, Hop::Device(router.index), Some(ranges.gateway), LAST_METRIC)?;
        }
    }
    if let Some(virtual_clusters) = &network.virtual_clusters {
        // All of the range is this machine: who listens on every address sees by the one that was asked which cluster is meant.
        netlink.add_route(virtual_clusters.range.into(), Hop::Local, None, 0)?;
    }
    for own in &network.own_addresses {
        netlink.add_route(IpAddr::V4(*own).into(), Hop::Local, None, 0)?;
    }
    Ok(())
}

/// Takes the router, its routes and its tables away. Ports of pods that still run stay.
pub fn teardown(network: &NodeNetwork) -> Result<(), Error> {
    peer_links::remove(network)?;
    let mut netlink = Netlink::open()?;
    for ranges in network.ranges() {
        netlink.delete_route(ranges.pod_cidr, Hop::Unreachable, LAST_METRIC)?;
    }
    // The kernel drops the Service route with the link.
    netlink.delete_link(&network.bridge_name)?;
    if let Some(virtual_clusters) = &network.virtual_clusters {
        netlink.delete_route(virtual_clusters.range.into(), Hop::Local, 0)?;
    }
    for own in &network.own_addresses {
        netlink.delete_route(IpAddr::V4(*own).into(), Hop::Local, 0)?;
    }
    PodClusters::new(&network.state_dir).clear()?;
    policy::teardown(network.second.is_some())?;
    nft::run(&network.ranges().map(|ranges| without_table(ranges.family)).collect::<String>())
}

fn without_table(family: IpFamily) -> String {
    let ip = family.header();
    format!("add table {ip} {TABLE}\ndelete table {ip} {TABLE}\n")
}

/// Makes the machine forward IPv6. Devices that take routes from routers' advertisements go on with it, which a machine
/// that forwards does only when told.
fn forward_ipv6() -> Result<(), Error> {
    let directory = "/proc/sys/net/ipv6/conf";
    for entry in fs::read_dir(directory).map_err(Error::file(directory))? {
        let name = entry.map_err(Error::file(directory))?.file_name();
        let name = name.to_string_lossy();
        let read = |what: &str| fs::read_to_string(format!("{directory}/{name}/{what}")).unwrap_or_default();
        if !matches!(&*name, "all" | "default" | "lo") && read("accept_ra").trim() == "1" && read("forwarding").trim() == "0" {
            write_sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "2")?;
        }
    }
    write_sysctl("net/ipv6/conf/all/forwarding", "1")
}

/// Writes the network configuration for the runtime. `executable` is what runs when the runtime calls `prismnet`.
///
/// Returns the configuration's path.
pub fn write_conf(conf_dir: &Path, bin_dir: &Path, executable: &Path, network: &NodeNetwork) -> Result<PathBuf, Error> {
    network.check()?;
    for directory in [conf_dir, bin_dir] {
        fs::create_dir_all(directory).map_err(Error::file(directory))?;
    }
    // Runtimes up to containerd 1.6 call `loopback` for every pod besides the configured plugin.
    for name in ["prismnet", crate::loopback::TYPE] {
        link(executable, &bin_dir.join(name))?;
    }
    let mtu = mtu(network, &mut Netlink::open()?)?;
    let plugin = NetworkConf {
        cni_version: CONF_VERSION.into(),
        name: "prismnet".into(),
        kind: "prismnet".into(),
        bridge: network.bridge_name.clone(),
        pod_cidr: network.pod_cidr,
        second_pod_cidr: network.second.map(|second| second.pod_cidr),
        mtu,
        state_dir: network.state_dir.clone(),
        virtual_cluster_cidr: network.virtual_clusters.as_ref().map(|clusters| clusters.range),
        capabilities: [("bandwidth".to_owned(), true)].into(),
        runtime_config: Default::default(),
    };
    let mut plugin = serde_json::to_value(plugin).expect("a configuration always encodes");
    if let Some(fields) = plugin.as_object_mut() {
        // In a list these two stand above the plugins.
        fields.remove("cniVersion");
        fields.remove("name");
    }
    let list = json!({ "cniVersion": CONF_VERSION, "name": "prismnet", "plugins": [plugin] });
    let path = conf_dir.join(CONF_FILE);
    replace(&path, format!("{list:#}\n").as_bytes(), 0o644)?;
    Ok(path)
}

/// Ends leases whose network namespace is gone, which a runtime that died could not give back, and makes the rules anew for those that hold.
pub fn reap(network: &NodeNetwork) -> Result<(), Error> {
    // Under the lock, so that no pod comes or goes between the look at the leases and the rules for them.
    let ended = AddressFile::new(&network.state_dir).change(|pool| {
        let ended = pool.retain(is_alive);
        nft::run(&rules(network, pool))?;
        Ok(ended)
    })?;
    for (_, lease) in ended {
        tracing::info!(container = lease.container, namespace = lease.namespace, "ended the address lease of a network namespace that is gone");
        NativeEngine.detach(&host_interface(&lease.container, &lease.interface))?;
    }
    Ok(())
}

pub(crate) fn is_alive(lease: &crate::Lease) -> bool {
    identity_at(&lease.namespace) == Some(lease.identity)
}

/// The node's table of each family: what leaves the cluster bears the node's address, and virtual clusters are kept
/// apart. One transaction, without a gap.
pub(crate) fn rules(network: &NodeNetwork, pool: &AddressPool) -> String {
    let of_family = |ranges: Ranges| {
        let (ip, pods, cluster) = (ranges.family.header(), ranges.pod_cidr, ranges.cluster_cidr);
        let mut text = without_table(ranges.family)
            + &format!(
                "table {ip} {TABLE} {{\n chain postrouting {{\n  type nat hook postrouting priority srcnat; policy accept;\n  \
                 {ip} saddr {pods} {ip} daddr != {{ {cluster}, {multicast} }} oifname != \"{bridge}\" masquerade fully-random\n }}\n",
                multicast = ranges.family.multicast(),
                bridge = network.bridge_name
            );
        text.push_str(&sources::chain(ranges.family, &network.bridge_name, pool));
        match &network.virtual_clusters {
            Some(virtual_clusters) => text.push_str(&isolation::chains(&ranges, virtual_clusters, pool)),
            None => text.push_str("}\n"),
        }
        text
    };
    network.ranges().map(of_family).collect()
}

/// What pods may send at once: what the uplink takes, less what a tunnel to other nodes adds.
pub(crate) fn mtu(network: &NodeNetwork, netlink: &mut Netlink) -> Result<u32, Error> {
    if let Some(mtu) = network.mtu {
        return Ok(mtu);
    }
    let routes = netlink.routes(IpFamily::V4)?.into_iter().filter(|(destination, ..)| destination.prefix_len() == 0);
    let uplink = routes.min_by_key(|(.., metric)| *metric).and_then(|(_, hop, _)| match hop {
        Hop::Device(index) | Hop::Gateway(_, index) | Hop::Onlink(_, index) => Some(index),
        Hop::Unreachable | Hop::Local => None,
    });
    let uplink = match uplink {
        Some(uplink) => netlink.link_by_index(uplink)?.map_or(DEFAULT_MTU, |link| link.mtu),
        None => DEFAULT_MTU,
    };
    let mtu = if network.has_peers { peer_links::inner_mtu(uplink) } else { uplink };
    if network.second.is_some() && mtu < LEAST_IPV6_MTU {
        return Err(Error::Settings(format!("what the uplink takes leaves pods {mtu} bytes, less than the {LEAST_IPV6_MTU} that IPv6 needs")));
    }
    Ok(mtu)
}

/// Points `at` to `target`, without a moment in which it points nowhere.
fn link(target: &Path, at: &Path) -> Result<(), Error> {
    if fs::read_link(at).is_ok_and(|current| current == target) {
        return Ok(());
    }
    let new = at.with_extension("new");
    // Left by a process that died between the two steps, or not there at all.
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(target, &new).map_err(Error::file(&new))?;
    fs::rename(&new, at).map_err(Error::file(at))
}
