//! Tenants: the virtual clusters this server serves besides the host cluster, and what is particular to each.
mod hosting;
mod limits;
mod names;
mod nodes;
mod pace;
mod pause;
mod record;
mod restore;
mod settle;
mod snapshot;

pub use hosting::ClusterError;
pub(crate) use limits::{TenantLimits, TenantPermit};
pub use names::NamedCertificates;
pub use nodes::NodeMirrors;
pub(crate) use record::TenantRecord;
pub use snapshot::Snapshots;

use api_admission::Way;
use api_meta::{ClusterName, ClusterSettings, GroupResource, PodSecurityLevel};
use ipnet::{IpNet, Ipv4Net};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The part of a packet's mark that says in which cluster's name it travels, as the nodes' networks have it.
const MARK_SHIFT: u32 = 16;

/// What a request of a virtual cluster needs to know of it.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Which address of the reserved range means this cluster.
    pub number: u32,
    pub settings: Arc<ClusterSettings>,
    pub service_cidr: IpNet,
    pub limits: Arc<TenantLimits>,
    /// Cancelled when the cluster is taken away: its watches end.
    pub gone: CancellationToken,
}

/// The clusters served, by name and by the address their own pods reach them at.
///
/// INVARIANT: a number belongs to one cluster until that is gone with all it held.
pub struct Tenants {
    known: RwLock<Known>,
    /// The range of their addresses; `None`: they have none.
    addresses: Option<Ipv4Net>,
    /// Whether this machine runs pods, so that its network tells by marks what is a cluster's own.
    pods_here: bool,
    /// The server's own address.
    server: IpAddr,
    /// TLS names that mean the server itself.
    own_names: HashSet<String>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<ClusterName, Arc<Tenant>>,
    /// `None`: of a cluster that is being taken away.
    by_number: HashMap<u32, Option<ClusterName>>,
    /// Clusters with machines of their own, also some that are gone.
    with_own_nodes: HashSet<ClusterName>,
    tls_names: names::Names,
    /// Numbers up to this one have been given out at some time.
    newest: u32,
}

impl Tenants {
    pub fn new(addresses: Option<Ipv4Net>, server: IpAddr) -> Self {
        Self { known: RwLock::default(), addresses, pods_here: true, server, own_names: HashSet::new() }
    }

    /// Clusters' addresses mean them on machines that joined alone, which lead their pods' connections here.
    #[must_use]
    pub fn without_pods_here(mut self) -> Self {
        self.pods_here = false;
        self
    }

    /// These TLS names mean the server itself, whatever clusters ask for.
    #[must_use]
    pub fn with_own_names(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.own_names = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        self
    }

    /// The cluster that a TLS name means.
    pub(crate) fn meant_by(&self, name: &str) -> Option<ClusterName> {
        self.known.read().tls_names.find(name).cloned()
    }

    /// The cluster that a TLS name means, with all its names.
    pub(crate) fn named(&self, name: &str) -> Option<(ClusterName, Vec<String>)> {
        let known = self.known.read();
        let cluster = known.tls_names.find(name)?.clone();
        let names = known.tls_names.of(&cluster).to_vec();
        Some((cluster, names))
    }

    /// The TLS names that mean a cluster.
    pub(crate) fn names_of(&self, cluster: &ClusterName) -> Vec<String> {
        self.known.read().tls_names.of(cluster).to_vec()
    }

    pub(crate) fn get(&self, cluster: &ClusterName) -> Option<Arc<Tenant>> {
        self.known.read().by_name.get(cluster).cloned()
    }

    /// How the server connects to where the cluster's objects lead it. Whose pods may do anything on the nodes gets everywhere.
    pub(crate) fn way(&self, cluster: &ClusterName) -> Way {
        match self.get(cluster) {
            Some(tenant) if tenant.settings.pod_security != PodSecurityLevel::Privileged => {
                Way::Tenant { mark: self.mark(tenant.number << MARK_SHIFT), server: self.server }
            }
            Some(_) => Way::Host,
            None if cluster.is_root() => Way::Host,
            // Taken away meanwhile.
            None => Way::Tenant { mark: self.mark(u32::MAX << MARK_SHIFT), server: self.server },
        }
    }

    /// A mark, where packets bear any.
    fn mark(&self, mark: u32) -> Option<u32> {
        (self.pods_here && self.addresses.is_some()).then_some(mark)
    }

    /// Whether the pods of a cluster, by its name, run on the host's nodes. That counts from before its first object is
    /// written until after its last one is gone.
    pub(crate) fn runs_on_host(&self, cluster: &str) -> bool {
        ClusterName::parse(cluster).is_ok_and(|name| !self.known.read().with_own_nodes.contains(&name))
    }

    /// Tells where the pods of a cluster run that is about to be made.
    pub(crate) fn will_run(&self, cluster: &ClusterName, own_nodes: bool) {
        let with_own_nodes = &mut self.known.write().with_own_nodes;
        if own_nodes {
            with_own_nodes.insert(cluster.clone());
        } else {
            with_own_nodes.remove(cluster);
        }
    }

    /// The clusters hosted in a namespace of the host cluster.
    pub(crate) fn hosted_in(&self, namespace: &str) -> Vec<ClusterName> {
        let known = self.known.read();
        known.by_name.keys().filter(|cluster| cluster.host_object().is_some_and(|(of, _)| of == namespace)).cloned().collect()
    }

    /// The address that means the cluster with this number.
    pub(crate) fn address(&self, number: u32) -> Option<Ipv4Addr> {
        let range = self.addresses?;
        let address = u32::from(range.network()).checked_add(number)?;
        (address < u32::from(range.broadcast())).then(|| address.into())
    }

    /// Whether an address means a virtual cluster, and if so which; `Some(None)` if there is none with it.
    pub(crate) fn at(&self, address: IpAddr) -> Option<Option<ClusterName>> {
        let address = match address {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => address.to_ipv4_mapped()?,
        };
        let range = self.addresses.filter(|range| range.contains(&address) && IpAddr::V4(address) != self.server)?;
        let number = u32::from(address) - u32::from(range.network());
        Some(self.known.read().by_number.get(&number).cloned().flatten())
    }

    /// Serves the cluster as its record says; what its clients hold of it goes on.
    pub(crate) fn insert(&self, cluster: ClusterName, record: &TenantRecord) -> Arc<Tenant> {
        let mut known = self.known.write();
        let before = known.by_name.get(&cluster);
        let tenant = Arc::new(Tenant {
            number: record.number,
            settings: Arc::new(record.settings.clone()),
            service_cidr: record.service_cidr,
            limits: before.map_or_else(TenantLimits::new, |before| before.limits.clone()),
            gone: before.map(|before| before.gone.clone()).unwrap_or_default(),
        });
        known.newest = known.newest.max(record.number);
        known.by_number.insert(record.number, Some(cluster.clone()));
        if record.settings.own_nodes {
            known.with_own_nodes.insert(cluster.clone());
        }
        if known.tls_names.of(&cluster) != record.settings.tls_names {
            known.tls_names.set(&cluster, &record.settings.tls_names, &self.own_names);
        }
        known.by_name.insert(cluster, tenant.clone());
        tenant
    }

    /// Serves the cluster no more. Its number is not free yet ([`Tenants::release`]).
    pub(crate) fn remove(&self, cluster: &ClusterName) {
        let mut known = self.known.write();
        known.tls_names.remove(cluster);
        if let Some(tenant) = known.by_name.remove(cluster) {
            known.by_number.insert(tenant.number, None);
            tenant.gone.cancel();
        }
    }

    /// Keeps a number from being given out: its cluster is not served any more, and not gone yet.
    pub(crate) fn reserve(&self, number: u32) {
        let mut known = self.known.write();
        known.newest = known.newest.max(number);
        known.by_number.insert(number, None);
    }

    /// A number whose cluster is gone, or was never made.
    pub(crate) fn release(&self, number: u32) {
        self.known.write().by_number.remove(&number);
    }

    /// A number nobody has: preferably one that nobody had since the server started, so that late packets find nobody.
    pub(crate) fn free_number(&self) -> Option<u32> {
        let mut known = self.known.write();
        let last = self.addresses.map_or(u32::MAX, |range| u32::from(range.broadcast()) - u32::from(range.network()) - 1);
        let number = if known.newest < last { known.newest + 1 } else { (1..=last).find(|number| !known.by_number.contains_key(number))? };
        known.newest = known.newest.max(number);
        known.by_number.entry(number).or_insert(None);
        Some(number)
    }
}

impl Tenants {
    /// Whether the cluster sees the host's objects of this resource, and may not change them.
    pub(crate) fn mirrors(&self, cluster: &ClusterName, resource: &GroupResource) -> bool {
        match (&*resource.group, &*resource.resource) {
            ("", "nodes") => self.get(cluster).is_some_and(|tenant| !tenant.settings.own_nodes),
            ("storage.k8s.io", "storageclasses") => self.get(cluster).is_some_and(|tenant| tenant.settings.storage_classes.is_some()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> TenantRecord {
        TenantRecord {
            number,
            settings: ClusterSettings::default(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            client_ca: api_meta::KeyPair { certificate_pem: String::new(), key_pem: String::new() },
            removed: false,
            held: false,
            restored: None,
            unsettled: false,
        }
    }

    #[test]
    fn an_address_means_one_cluster_or_none_but_never_the_host() {
        let tenants = Tenants::new(Some("100.64.0.0/30".parse().unwrap()), "192.0.2.1".parse().unwrap());
        let name = |name: &str| ClusterName::hosted("team", name).unwrap();
        for (cluster, number, address) in [("a", 1, "100.64.0.1"), ("b", 2, "100.64.0.2")] {
            assert_eq!(tenants.free_number(), Some(number));
            tenants.insert(name(cluster), &record(number));
            assert_eq!(tenants.address(number), Some(address.parse().unwrap()));
            assert_eq!(tenants.at(address.parse().unwrap()), Some(Some(name(cluster))));
        }
        assert_eq!((tenants.free_number(), tenants.address(3)), (None, None), "the range is full");
        tenants.remove(&name("a"));
        assert_eq!(tenants.free_number(), None, "not before all of the cluster is gone");
        tenants.release(1);
        assert_eq!(tenants.at("100.64.0.1".parse().unwrap()), Some(None));
        assert_eq!(tenants.at("::ffff:100.64.0.2".parse().unwrap()), Some(Some(name("b"))));
        assert_eq!(tenants.free_number(), Some(1));
        tenants.release(1);
        tenants.reserve(1);
        assert_eq!(tenants.free_number(), None, "nor after a restart in the middle of that");
        assert_eq!(tenants.at("100.64.0.1".parse().unwrap()), Some(None));
        assert_eq!(tenants.at("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn a_server_without_pods_has_addresses_and_no_marks() {
        let tenants = Tenants::new(Some("100.64.0.0/30".parse().unwrap()), "192.0.2.1".parse().unwrap());
        let name = ClusterName::hosted("team", "a").unwrap();
        tenants.insert(name.clone(), &record(1));
        assert!(matches!(tenants.way(&name), Way::Tenant { mark: Some(0x1_0000), .. }));
        let tenants = tenants.without_pods_here();
        assert!(matches!(tenants.way(&name), Way::Tenant { mark: None, .. }));
        assert_eq!(tenants.at("100.64.0.1".parse().unwrap()), Some(Some(name)));
    }
}
