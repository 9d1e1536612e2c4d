//! Ranges: a ServiceCIDR says when it is ready, and stays until no Service has an address that only it contains.
//!
//! Source: upstream's service-cidr-controller. It waits ten seconds before it lets a range go; here nothing can be claimed
//! from a range once it is being deleted (ADR 24), so that a look at the API is enough.
use super::{contains, is_ours, nets};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
const IN_USE: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub struct ServiceRanges {
    kit: Kit,
    ranges: Objects<ServiceCIDR>,
    addresses: Objects<IPAddress>,
}

pub struct World {
    pub range: Arc<ServiceCIDR>,
    /// The cluster's others.
    pub others: Vec<Arc<ServiceCIDR>>,
    /// Addresses that Services have.
    pub addresses: Vec<IpAddr>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Protect,
    Tell(Box<Condition>),
    /// Nobody needs it, as far as is known.
    LetGo,
}

pub fn runner(kit: &Kit) -> Runner<ServiceRanges> {
    let (ranges, addresses) = (kit.objects::<ServiceCIDR>(), kit.objects::<IPAddress>());
    let (all, going) = (ranges.clone(), ranges.clone());
    Runner::new(ServiceRanges { kit: kit.clone(), ranges: ranges.clone(), addresses: addresses.clone() })
        .watch(&ranges, move |change| {
            // One that comes or goes changes what others may do.
            let key = |range: &Arc<ServiceCIDR>| ObjectKey::of(&change.key.cluster, &range.metadata);
            let mut keys: Vec<ObjectKey> = all.list(&change.key.cluster, None).iter().filter(|range| is_going(range)).map(key).collect();
            keys.push(change.key.clone());
            keys
        })
        .watch(&addresses, move |change| {
            // Only those that go wait for addresses.
            let waiting = going.list(&change.key.cluster, None).into_iter().filter(|range| is_going(range));
            waiting.map(|range| ObjectKey::of(&change.key.cluster, &range.metadata)).collect()
        })
}

fn is_going(range: &ServiceCIDR) -> bool {
    range.metadata.deletion_timestamp.is_some()
}

fn is_protected(range: &ServiceCIDR) -> bool {
    range.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Whether some address is in this range alone.
fn is_needed(range: &ServiceCIDR, others: &[Arc<ServiceCIDR>], addresses: &[IpAddr]) -> bool {
    // A range that is in another may always go.
    if nets(range).all(|net| others.iter().any(|other| nets(other).any(|larger| larger.contains(&net)))) {
        return false;
    }
    addresses.iter().any(|address| contains(range, *address) && !others.iter().any(|other| contains(other, *address)))
}

fn told(range: &ServiceCIDR) -> Option<&Condition> {
    range.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == READY)
}

/// The condition to be written, unless it is there.
fn condition(world: &World, status: &str, reason: &str, message: &str) -> Option<Action> {
    let before = told(&world.range);
    if before.is_some_and(|before| before.status == status && before.reason == reason && before.message == message) {
        return None;
    }
    let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Some(Action::Tell(Box::new(Condition {
        type_: READY.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since.unwrap_or_else(|| whole_seconds(world.now)),
        observed_generation: None,
    })))
}

#[async_trait]
impl Controller for ServiceRanges {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "service-cidr-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let range = self.ranges.get(key)?;
        let others = self.ranges.list(&key.cluster, None).into_iter().filter(|other| other.metadata.uid != range.metadata.uid).collect();
        let addresses = if is_going(&range) { addresses(self.addresses.list(&key.cluster, None).iter().map(|address| &**address)) } else { Vec::new() };
        Some(World { range, others, addresses, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { range, others, addresses, .. } = world;
        let mut actions = Vec::new();
        if !is_going(range) {
            if !is_protected(range) {
                actions.push(Action::Protect);
            }
            actions.extend(condition(world, "True", "", "Kubernetes Service CIDR is ready"));
        } else if is_protected(range) {
            if is_needed(range, others, addresses) {
                actions.extend(condition(world, "False", "Terminating", IN_USE));
            } else {
                actions.push(Action::LetGo);
            }
        }
        actions.into()
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(range) = self.ranges.get(key) else { return Ok(()) };
        let mut finalizers = range.metadata.finalizers.clone().unwrap_or_default();
        let done = match action {
            Action::Tell(condition) => {
                let mut conditions = range.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
                conditions.retain(|other| other.type_ != READY);
                conditions.push(*condition);
                let patch = json!({"status": {"conditions": conditions}});
                self.ranges.patch(key, "/status", &patch, &Preconditions::exactly(&range.metadata)).await
            }
            Action::Protect => {
                finalizers.push(FINALIZER.to_owned());
                self.ranges.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::exactly(&range.metadata)).await
            }
            Action::LetGo => {
                self.check_unused(key, &range).await?;
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                self.ranges.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::exactly(&range.metadata)).await
            }
        };
        match done {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn addresses<'a>(all: impl Iterator<Item = &'a IPAddress>) -> Vec<IpAddr> {
    all.filter(|address| is_ours(address)).filter_map(|address| address.metadata.name.as_ref()?.parse().ok()).collect()
}

impl ServiceRanges {
    /// What was claimed just before the range began to go may not be known here yet.
    async fn check_unused(&self, key: &ObjectKey, range: &ServiceCIDR) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Listed {
            items: Vec<IPAddress>,
        }
        let others: Vec<_> = self.ranges.list(&key.cluster, None).into_iter().filter(|other| other.metadata.uid != range.metadata.uid).collect();
        let request = http::Request::get("/apis/networking.k8s.io/v1/ipaddresses").body(Vec::new()).map_err(|error| Error::Request(Box::new(error)))?;
        let listed: Listed = self.kit.clients().cluster(&key.cluster).request(request).await?;
        if is_needed(range, &others, &addresses(listed.items.iter())) {
            return Err(Error::NotYet("an address of the range was claimed before it began to go".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::Value;

    fn range(name: &str, nets: &[&str], with: Value) -> Arc<ServiceCIDR> {
        let mut metadata = json!({"name": name, "uid": name, "finalizers": [FINALIZER]});
        metadata.as_object_mut().unwrap().extend(with.as_object().cloned().unwrap());
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": {"cidrs": nets}})).unwrap())
    }

    fn going(nets: &[&str], others: &[&str], addresses: &[&str]) -> World {
        World {
            range: range("own", nets, json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
            others: others.iter().map(|net| range(net, &[net], json!({}))).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_range_is_protected_and_ready_once() {
        let world = World { range: range("own", &["10.0.0.0/24"], json!({"finalizers": []})), ..going(&[], &[], &[]) };
        let end = converges(world, 2, ServiceRanges::reconcile, |world, action| {
            let range = Arc::make_mut(&mut world.range);
            match action {
                Action::Protect => range.metadata.finalizers.get_or_insert_default().push(FINALIZER.into()),
                Action::Tell(condition) => range.status.get_or_insert_default().conditions = Some(vec![*condition]),
                Action::LetGo => panic!("it stays"),
            }
        });
        let told = told(&end.range).unwrap();
        assert_eq!((told.status.as_str(), told.message.as_str()), ("True", "Kubernetes Service CIDR is ready"));
    }

    #[test]
    fn a_range_goes_when_no_address_is_in_it_alone() {
        let goes = |world: World| ServiceRanges::reconcile(&world).actions == [Action::LetGo];
        assert!(goes(going(&["10.0.0.0/24"], &[], &[])));
        assert!(goes(going(&["10.0.0.0/24"], &[], &["10.0.1.1"])));
        assert!(!goes(going(&["10.0.0.0/24"], &[], &["10.0.0.1"])));
        assert!(goes(going(&["10.0.0.0/24"], &["10.0.0.0/16"], &["10.0.0.1"])), "another contains it");
        assert!(goes(going(&["10.0.0.0/24"], &["10.0.0.0/25"], &["10.0.0.1"])), "another contains the address");
        assert!(!goes(going(&["10.0.0.0/24"], &["10.0.0.0/25"], &["10.0.0.200"])));
        assert!(!goes(going(&["10.0.0.0/24", "fd00::/64"], &["10.0.0.0/16"], &["fd00::1"])));
        let [Action::Tell(told)] = &ServiceRanges::reconcile(&going(&["10.0.0.0/24"], &[], &["10.0.0.1"])).actions[..] else { panic!("nothing is told") };
        assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "Terminating"));
    }
}
