//! The node's part: its router, the kernel's parameters, translation of what leaves the cluster, and the CNI files.
use crate::address_file::replace;
use crate::isolation;
use crate::native_engine::write_sysctl;
use crate::netlink::{Hop, Netlink};
use crate::network_namespace::identity_at;
use crate::nft;
use crate::peer_links;
use crate::plan::host_interface;
use crate::policy;
use crate::settings::DEFAULT_MTU;
use crate::sources;
use crate::{AddressFile, AddressPool, Engine, Error, NativeEngine, NetworkConf, NodeNetwork, PodClusters};
use ipnet::Ipv4Net;
use serde_json::json;
use std::fs;
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
    let router = netlink.link(&network.bridge_name)?.ok_or_else(|| Error::NotReady { bridge: network.bridge_name.clone(), gateway: network.gateway() })?;
    if router.mtu != mtu {
        netlink.set_mtu(router.index, mtu)?;
    }
    let gateway = Ipv4Net::from(network.gateway());
    for stale in netlink.addresses(router.index)?.into_iter().filter(|address| *address != gateway) {
        netlink.delete_address(router.index, stale)?;
    }
    netlink.add_address(router.index, gateway)?;
    netlink.set_up(router.index)?;
    // An address no pod has is refused at once, instead of leaving by the default route.
    netlink.add_route(network.pod_cidr, Hop::Unreachable, None, LAST_METRIC)?;
    if let Some(services) = network.service_cidr {
        // Nothing is behind this route: it only lets the node choose a source address before a Service is translated.
        netlink.add_route(services, Hop::Device(router.index), Some(network.gateway()), LAST_METRIC)?;
    }
    if let Some(virtual_clusters) = &network.virtual_clusters {
        // All of the range is this machine: who listens on every address sees by the one that was asked which cluster is meant.
        netlink.add_route(virtual_clusters.range, Hop::Local, None, 0)?;
    }
    for own in &network.own_addresses {
        netlink.add_route(Ipv4Net::from(*own), Hop::Local, None, 0)?;
    }
    Ok(())
}

/// Takes the router, its routes and its tables away. Ports of pods that still run stay.
pub fn teardown(network: &NodeNetwork) -> Result<(), Error> {
    peer_links::remove(network)?;
    let mut netlink = Netlink::open()?;
    netlink.delete_route(network.pod_cidr, Hop::Unreachable, LAST_METRIC)?;
    // The kernel drops the Service route with the link.
    netlink.delete_link(&network.bridge_name)?;
    if let Some(virtual_clusters) = &network.virtual_clusters {
        netlink.delete_route(virtual_clusters.range, Hop::Local, 0)?;
    }
    for own in &network.own_addresses {
        netlink.delete_route(Ipv4Net::from(*own), Hop::Local, 0)?;
    }
    PodClusters::new(&network.state_dir).clear()?;
    policy::teardown()?;
    nft::run(&format!("add table ip {TABLE}\ndelete table ip {TABLE}\n"))
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

/// The node's table: what leaves the cluster bears the node's address, and virtual clusters are kept apart. One
/// transaction, without a gap.
pub(crate) fn rules(network: &NodeNetwork, pool: &AddressPool) -> String {
    let (pods, cluster) = (network.pod_cidr, network.cluster_cidr);
    let mut text = format!(
        "add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n chain postrouting {{\n  type nat hook postrouting priority srcnat; policy accept;\n  \
         ip saddr {pods} ip daddr != {{ {cluster}, 224.0.0.0/4 }} oifname != \"{bridge}\" masquerade fully-random\n }}\n",
        bridge = network.bridge_name
    );
    text.push_str(&sources::chain(&network.bridge_name, pool));
    match &network.virtual_clusters {
        Some(virtual_clusters) => text.push_str(&isolation::chains(network, virtual_clusters, pool)),
        None => text.push_str("}\n"),
    }
    text
}

/// What pods may send at once: what the uplink takes, less what a tunnel to other nodes adds.
pub(crate) fn mtu(network: &NodeNetwork, netlink: &mut Netlink) -> Result<u32, Error> {
    if let Some(mtu) = network.mtu {
        return Ok(mtu);
    }
    let routes = netlink.routes()?.into_iter().filter(|(destination, ..)| destination.prefix_len() == 0);
    let uplink = routes.min_by_key(|(.., metric)| *metric).and_then(|(_, hop, _)| match hop {
        Hop::Device(index) | Hop::Gateway(_, index) | Hop::Onlink(_, index) => Some(index),
        Hop::Unreachable | Hop::Local => None,
    });
    let uplink = match uplink {
        Some(uplink) => netlink.link_by_index(uplink)?.map_or(DEFAULT_MTU, |link| link.mtu),
        None => DEFAULT_MTU,
    };
    Ok(if network.has_peers { peer_links::inner_mtu(uplink) } else { uplink })
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
