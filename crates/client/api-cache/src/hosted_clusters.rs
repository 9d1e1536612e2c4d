//! HostedClusters: the virtual clusters of a server, by name and by the number and address that mean each on a node.
use crate::cache::{Cache, Change, Listening};
use crate::source::{Selection, Source};
use api_meta::ClusterName;
use ipnet::Ipv4Net;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::RwLock;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::broadcast;

/// How many changes a subscriber may lag before it is told to look at everything again.
const BACKLOG: usize = 1024;

/// What is read of a Cluster object of the host cluster. Only the host cluster's controllers write its status.
#[derive(Clone, Debug, Deserialize)]
struct HostedCluster {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Option<HostedStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostedStatus {
    #[serde(default)]
    address: Option<String>,
    #[serde(rename = "clusterDNS", default)]
    cluster_dns: Option<String>,
}

impl k8s_openapi::Resource for HostedCluster {
    const API_VERSION: &'static str = "k3k.io/v1beta1";
    const GROUP: &'static str = "k3k.io";
    const KIND: &'static str = "Cluster";
    const VERSION: &'static str = "v1beta1";
    const URL_PATH_SEGMENT: &'static str = "clusters";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for HostedCluster {
    type Ty = ObjectMeta;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What one cluster's object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    number: Option<u16>,
    cluster_dns: Option<IpAddr>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<ClusterName, Facts>,
    /// INVARIANT: those in `by_name` that claim a number, in order; it is the first one's.
    by_number: HashMap<u16, Vec<ClusterName>>,
}

/// The virtual clusters that have a number, kept current. The host cluster, `root`, is number 0.
///
/// A cluster's address is the range's first plus its number.
pub struct HostedClusters {
    cache: Arc<Cache<HostedCluster>>,
    range: Ipv4Net,
    known: Arc<RwLock<Known>>,
    changes: broadcast::Sender<ClusterName>,
    _listening: Listening,
}

impl HostedClusters {
    /// Starts following; `synced` waits for the first full list.
    pub fn start(source: &dyn Source, range: Ipv4Net) -> Arc<Self> {
        let range = range.trunc();
        let selection = Selection { cluster: Some(ClusterName::root()), ..Selection::of::<HostedCluster>("clusters") };
        let cache = Cache::start(source, selection, &[]);
        let (known, changes) = (Arc::new(RwLock::new(Known::default())), broadcast::channel(BACKLOG).0);
        let listening = {
            let (known, changes) = (known.clone(), changes.clone());
            cache.listen(move |change: &Change<HostedCluster>| {
                let Ok(cluster) = ClusterName::hosted(&change.key.namespace, &change.key.name) else { return };
                for changed in known.write().take(cluster, change.new.as_deref().map(|object| facts(object, range))) {
                    // Nobody may listen.
                    let _ = changes.send(changed);
                }
            })
        };
        Arc::new(Self { cache, range, known, changes, _listening: listening })
    }

    pub async fn synced(&self) {
        self.cache.synced().await;
    }

    /// The cluster's number; `None` while it has none.
    pub fn number_of(&self, cluster: &ClusterName) -> Option<u16> {
        if cluster.is_root() {
            return Some(0);
        }
        let known = self.known.read();
        let number = known.by_name.get(cluster)?.number?;
        (known.holder(number) == Some(cluster)).then_some(number)
    }

    /// The cluster that an address means; `None` for addresses of none.
    pub fn cluster_at(&self, address: Ipv4Addr) -> Option<ClusterName> {
        self.known.read().holder(number_at(self.range, address)?).cloned()
    }

    /// Where the cluster's pods ask for names, as its status says.
    pub fn cluster_dns_of(&self, cluster: &ClusterName) -> Option<IpAddr> {
        self.known.read().by_name.get(cluster)?.cluster_dns
    }

    /// The names of clusters whose number came, went or changed. On `RecvError::Lagged`, all may have.
    pub fn subscribe(&self) -> broadcast::Receiver<ClusterName> {
        self.changes.subscribe()
    }
}

impl Known {
    fn holder(&self, number: u16) -> Option<&ClusterName> {
        self.by_number.get(&number)?.first()
    }

    /// Takes in what a cluster's object says now, and tells which clusters' numbers that changed.
    fn take(&mut self, cluster: ClusterName, facts: Option<Facts>) -> Vec<ClusterName> {
        let before = match facts {
            Some(facts) => self.by_name.insert(cluster.clone(), facts),
            None => self.by_name.remove(&cluster),
        };
        let (had, has) = (before.and_then(|facts| facts.number), facts.and_then(|facts| facts.number));
        if had == has {
            return Vec::new();
        }
        let mut changed = vec![cluster.clone()];
        for (number, claimed) in [(had, false), (has, true)].into_iter().filter_map(|(number, claimed)| Some((number?, claimed))) {
            let claimants = self.by_number.entry(number).or_default();
            changed.extend(claimants.first().cloned());
            match (claimants.binary_search(&cluster), claimed) {
                (Ok(at), false) => drop(claimants.remove(at)),
                (Err(at), true) => claimants.insert(at, cluster.clone()),
                _ => {}
            }
            changed.extend(claimants.first().cloned());
            if claimants.is_empty() {
                self.by_number.remove(&number);
            }
        }
        changed.sort();
        changed.dedup();
        changed
    }
}

fn facts(object: &HostedCluster, range: Ipv4Net) -> Facts {
    let status = object.status.as_ref();
    let address = status.and_then(|status| status.address.as_ref()?.parse().ok());
    let cluster_dns = status.and_then(|status| status.cluster_dns.as_ref()?.parse().ok());
    Facts { number: address.and_then(|address| number_at(range, address)), cluster_dns }
}

/// The number an address of the range stands for; the network's own (0, the host cluster) and the broadcast address stand for none.
fn number_at(range: Ipv4Net, address: Ipv4Addr) -> Option<u16> {
    if !range.contains(&address) || address == range.broadcast() {
        return None;
    }
    u16::try_from(u32::from(address) - u32::from(range.network())).ok().filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of(number: u16) -> Option<Facts> {
        Some(Facts { number: Some(number), cluster_dns: None })
    }

    #[test]
    fn an_address_of_the_range_is_a_number() {
        let range = "100.64.0.0/16".parse().unwrap();
        for (address, number) in [("100.64.0.1", Some(1)), ("100.64.1.2", Some(258)), ("100.64.0.0", None), ("100.64.255.255", None), ("100.65.0.1", None)] {
            assert_eq!(number_at(range, address.parse().unwrap()), number, "{address}");
        }
        let object = |json: &str| facts(&serde_json::from_str(json).unwrap(), range);
        let facts = object(r#"{"metadata":{},"spec":{},"status":{"address":"100.64.0.7","clusterDNS":"10.43.0.10"}}"#);
        assert_eq!((facts.number, facts.cluster_dns), (Some(7), Some([10, 43, 0, 10].into())));
        for without in [r#"{"metadata":{}}"#, r#"{"metadata":{},"status":{"address":""}}"#, r#"{"metadata":{},"status":{"address":null}}"#] {
            assert_eq!(object(without).number, None);
        }
    }

    #[test]
    fn a_number_is_one_clusters_at_a_time() {
        let (a, b) = (ClusterName::hosted("n", "a").unwrap(), ClusterName::hosted("n", "b").unwrap());
        let mut known = Known::default();
        assert_eq!(known.take(b.clone(), facts_of(1)), std::slice::from_ref(&b));
        assert_eq!(known.take(b.clone(), facts_of(1)), []);
        assert_eq!(known.take(a.clone(), facts_of(1)), [a.clone(), b.clone()], "the first by name has it");
        assert_eq!(known.holder(1), Some(&a));
        assert_eq!(known.take(a.clone(), None), [a.clone(), b.clone()]);
        assert_eq!(known.holder(1), Some(&b));
        assert_eq!(known.take(b.clone(), facts_of(2)), std::slice::from_ref(&b));
        assert_eq!(known.by_number, HashMap::from([(2, vec![b])]));
    }
}
