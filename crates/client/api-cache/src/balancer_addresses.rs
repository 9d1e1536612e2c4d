//! BalancerAddresses: which balancer addresses the load balancer has given to whom, as the host cluster's ledger says.
use crate::cache::{Cache, Change, Listening, ObjectKey};
use crate::source::{Selection, Source};
use api_meta::ClusterName;
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// How many changes a subscriber may lag before it is told to look at everything again.
const BACKLOG: usize = 1024;

/// What holders of one address hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressGrant {
    /// Those who name it may hold the address too, if they are of the same cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing_key: Option<String>,
    /// By holder: [`AddressLedger::service_holder`], or a name without a colon for what is no Service.
    pub holders: BTreeMap<String, AddressHolding>,
}

/// What one holder holds of an address. Ports are written `TCP/80`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressHolding {
    pub ports: BTreeSet<String>,
    /// Those of the ports that a process of the node serves, not the packet rules.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub proxied: BTreeSet<String>,
}

/// Every address that is held, kept as one ConfigMap of the host cluster: a grant counts once it is written there, and
/// writes name the version they were decided from, so that no address is ever given twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressLedger {
    pub grants: BTreeMap<Ipv4Addr, AddressGrant>,
}

impl AddressLedger {
    pub const NAMESPACE: &str = "kube-system";
    pub const NAME: &str = "fiberlb-addresses";

    /// The key a Service is a holder by.
    pub fn service_holder(service: &ObjectKey) -> String {
        service.to_string()
    }

    /// The Service a holder is; `None` for what is none.
    pub fn service_of(holder: &str) -> Option<ObjectKey> {
        let (cluster, place) = holder.split_once(':')?;
        let (namespace, name) = place.split_once('/')?;
        Some(ObjectKey::new(&ClusterName::parse(cluster).ok()?, namespace, name))
    }

    /// What an entry does not say readably is held by nobody.
    pub fn read(object: &ConfigMap) -> Self {
        let mut grants = BTreeMap::new();
        for (address, grant) in object.data.iter().flatten() {
            match (address.parse(), serde_json::from_str(grant)) {
                (Ok(address), Ok(grant)) => {
                    grants.insert(address, grant);
                }
                _ => tracing::warn!(address, grant, "an entry of the address ledger can't be read"),
            }
        }
        Self { grants }
    }

    /// As a ConfigMap's data.
    pub fn write(&self) -> BTreeMap<String, String> {
        let encoded = |grant| serde_json::to_string(grant).expect("a map of strings encodes");
        self.grants.iter().map(|(address, grant)| (address.to_string(), encoded(grant))).collect()
    }
}

/// What a Service holds: by address, the ports that are proxied.
pub type Held = BTreeMap<Ipv4Addr, BTreeSet<String>>;

#[derive(Default)]
struct Known {
    ledger: Arc<AddressLedger>,
    by_service: HashMap<ObjectKey, Arc<Held>>,
}

/// The ledger, kept current.
pub struct BalancerAddresses {
    cache: Arc<Cache<ConfigMap>>,
    known: Arc<RwLock<Known>>,
    changes: broadcast::Sender<ObjectKey>,
    versions: watch::Sender<u64>,
    _listening: Listening,
}

impl BalancerAddresses {
    /// Starts following; `synced` waits for the first look.
    pub fn start(source: &dyn Source) -> Arc<Self> {
        let fields = Some(format!("metadata.name={}", AddressLedger::NAME));
        let selection = Selection { cluster: Some(ClusterName::root()), fields, ..Selection::of::<ConfigMap>("configmaps") };
        let cache = Cache::start(source, selection, &[]);
        let (known, changes) = (Arc::new(RwLock::new(Known::default())), broadcast::channel(BACKLOG).0);
        let versions = watch::channel(0).0;
        let listening = {
            let (known, changes, versions) = (known.clone(), changes.clone(), versions.clone());
            cache.listen(move |change: &Change<ConfigMap>| {
                // Others may give their objects that name, but not there.
                if &*change.key.namespace != AddressLedger::NAMESPACE {
                    return;
                }
                let ledger = change.new.as_deref().map(AddressLedger::read).unwrap_or_default();
                for changed in known.write().take(ledger) {
                    // Nobody may listen.
                    let _ = changes.send(changed);
                }
                versions.send_modify(|version| *version += 1);
            })
        };
        Arc::new(Self { cache, known, changes, versions, _listening: listening })
    }

    pub async fn synced(&self) {
        self.cache.synced().await;
    }

    /// What a Service holds; nothing for most.
    pub fn held_by(&self, service: &ObjectKey) -> Option<Arc<Held>> {
        self.known.read().by_service.get(service).cloned()
    }

    pub fn ledger(&self) -> Arc<AddressLedger> {
        self.known.read().ledger.clone()
    }

    /// The Services whose addresses changed. On `RecvError::Lagged`, all may have.
    pub fn subscribe(&self) -> broadcast::Receiver<ObjectKey> {
        self.changes.subscribe()
    }

    /// Tells that anything of the ledger changed.
    pub fn whole_changes(&self) -> watch::Receiver<u64> {
        self.versions.subscribe()
    }
}

impl Known {
    /// Takes in what the ledger says now, and tells whose addresses that changed.
    fn take(&mut self, ledger: AddressLedger) -> Vec<ObjectKey> {
        let mut by_service: HashMap<ObjectKey, Held> = HashMap::new();
        for (address, grant) in &ledger.grants {
            for (holder, holding) in &grant.holders {
                if let Some(service) = AddressLedger::service_of(holder) {
                    by_service.entry(service).or_default().insert(*address, holding.proxied.clone());
                }
            }
        }
        let mut changed: Vec<ObjectKey> = self.by_service.keys().filter(|key| !by_service.contains_key(key)).cloned().collect();
        let changes = by_service.iter().filter(|(key, held)| self.by_service.get(key).is_none_or(|known| **known != **held));
        changed.extend(changes.map(|(key, _)| key.clone()));
        self.by_service = by_service.into_iter().map(|(key, held)| (key, Arc::new(held))).collect();
        self.ledger = Arc::new(ledger);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(holders: &[(&str, [u8; 4])]) -> AddressLedger {
        let mut ledger = AddressLedger::default();
        for (holder, address) in holders {
            let holding = AddressHolding { ports: BTreeSet::from(["TCP/80".to_owned()]), ..AddressHolding::default() };
            ledger.grants.entry(Ipv4Addr::from(*address)).or_default().holders.insert((*holder).to_owned(), holding);
        }
        ledger
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written_and_rubbish_is_left_out() {
        let ledger = ledger(&[("root:default/web", [192, 0, 2, 1]), ("ingress", [192, 0, 2, 1]), ("c.team-a:default/web", [192, 0, 2, 7])]);
        let mut data = ledger.write();
        data.extend([("x".to_owned(), "{}".to_owned()), ("192.0.2.9".to_owned(), "?".to_owned())]);
        assert_eq!(AddressLedger::read(&ConfigMap { data: Some(data), ..ConfigMap::default() }), ledger);
    }

    #[test]
    fn those_whose_addresses_change_are_told() {
        let key = |cluster: &str| ObjectKey::new(&ClusterName::parse(cluster).unwrap(), "default", "web");
        let mut known = Known::default();
        assert_eq!(known.take(ledger(&[("root:default/web", [1, 1, 1, 1]), ("ingress", [1, 1, 1, 2])])), [key("root")]);
        assert_eq!(known.take(ledger(&[("root:default/web", [1, 1, 1, 1])])), []);
        assert_eq!(known.take(ledger(&[("c.team-a:default/web", [1, 1, 1, 1])])), [key("root"), key("c.team-a")]);
        assert!(known.by_service[&key("c.team-a")].contains_key(&Ipv4Addr::new(1, 1, 1, 1)));
    }
}
