//! Repair, from the addresses' side: an IPAddress that was made for a Service goes with it.
//!
//! Source: upstream's ipallocator repair controller.
use super::{REPAIR, holds, is_for_a_service, is_ours, warn};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, until};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use std::sync::Arc;
use std::time::Duration;

const ACTION: &str = "IPAddressAllocation";
const WRONG: &str = "IPAddressWrongReference";
const LEAKED: &str = "IPAddressNotAllocated";
/// Upstream's: for so long whoever made it by hand may take to make its Service.
const GRACE: Duration = Duration::from_secs(60);

pub struct AddressRepair {
    kit: Kit,
    addresses: Objects<IPAddress>,
    services: Objects<Service>,
    events: Recorder,
}

pub struct World {
    pub address: Arc<IPAddress>,
    /// The Service it is made for.
    pub service: Option<Arc<Service>>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Delete { reason: &'static str, message: String },
}

pub fn runner(kit: &Kit) -> Runner<AddressRepair> {
    let (addresses, services) = (kit.objects::<IPAddress>(), kit.objects::<Service>());
    let controller = AddressRepair { kit: kit.clone(), addresses: addresses.clone(), services: services.clone(), events: kit.recorder(REPAIR) };
    Runner::new(controller).needs(&services).watch(&addresses, |change| {
        let ours = change.new.as_ref().is_some_and(|address| is_ours(address));
        if ours { vec![change.key.clone()] } else { Vec::new() }
    })
}

#[async_trait]
impl Controller for AddressRepair {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "ipallocator-repair-controller-addresses"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let address = self.addresses.get(key)?;
        let parent = &address.spec.parent_ref;
        let service = self.services.get(&ObjectKey::new(&key.cluster, parent.namespace.as_deref().unwrap_or_default(), &parent.name));
        Some(World { service, address, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { address, service, now } = world;
        let name = address.metadata.name.as_deref().unwrap_or_default();
        let parent = &address.spec.parent_ref;
        let (namespace, of) = (parent.namespace.as_deref().unwrap_or_default(), &parent.name);
        let delete = |reason, message| vec![Action::Delete { reason, message }].into();
        if !is_ours(address) || address.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        if !is_for_a_service(address) {
            let what = format!("{}/{} {namespace}/{of}", parent.group.as_deref().unwrap_or_default(), parent.resource);
            return delete(LEAKED, format!("IPAddress {name} appears to have been modified, not referencing a Service {what}: cleaning up"));
        }
        match service {
            Some(service) if holds(service, name) => Plan::nothing(),
            Some(_) => delete(WRONG, format!("IPAddress: {name} for Service {namespace}/{of} has a wrong reference; cleaning up")),
            None => {
                let since = address.metadata.creation_timestamp.as_ref().map_or(*now, |created| created.0);
                match until(since, GRACE, *now) {
                    None => delete(LEAKED, format!("IPAddress: {name} for Service {namespace}/{of} appears to have leaked: cleaning up")),
                    Some(left) => {
                        let mut plan = Plan::nothing();
                        plan.look_again(left);
                        plan
                    }
                }
            }
        }
    }

    async fn act(&self, key: &ObjectKey, Action::Delete { reason, message }: Action) -> Result<(), Error> {
        let Some(address) = self.addresses.get(key) else { return Ok(()) };
        // The address may be known before its Service, or before what its Service has become.
        let parent = &address.spec.parent_ref;
        if is_for_a_service(&address) {
            let service = self.services.fresh(&ObjectKey::new(&key.cluster, parent.namespace.as_deref().unwrap_or_default(), &parent.name)).await?;
            if service.is_some_and(|service| holds(&service, &key.name)) {
                return Err(Error::NotYet("the Service of a new address is not known yet".into()));
            }
        }
        warn(&self.events, &key.cluster, &*address, ACTION, reason, message);
        self.addresses.delete(key, &Deletion { preconditions: Preconditions::exactly(&address.metadata), ..Default::default() }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::{Value, json};

    #[test]
    fn an_address_nobody_has_goes_after_a_while() {
        let decided = |labels: Value, parent: Value, service: Option<Value>, now: &str| {
            let address =
                json!({"metadata": {"name": "10.0.0.1", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"parentRef": parent}});
            let service = service.map(|spec| Arc::new(serde_json::from_value(json!({"spec": spec})).unwrap()));
            let plan = AddressRepair::reconcile(&World { address: Arc::new(serde_json::from_value(address).unwrap()), service, now: now.parse().unwrap() });
            (
                plan.actions.into_iter().map(|Action::Delete { reason, message }| format!("{reason} {message}")).next(),
                plan.again_after.map(|left| left.as_secs()),
            )
        };
        let ours = || json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
        let parent = || json!({"group": "", "resource": "services", "namespace": "n", "name": "s"});
        let (early, late) = ("2026-01-01T00:00:20Z", "2026-01-01T00:01:00Z");
        assert_eq!(decided(ours(), parent(), Some(json!({"clusterIPs": ["10.0.0.1"]})), late), (None, None));
        assert_eq!(decided(ours(), parent(), None, early), (None, Some(40)));
        let told = |text: &str| (Some(text.to_owned()), None);
        assert_eq!(
            decided(ours(), parent(), None, late),
            told("IPAddressNotAllocated IPAddress: 10.0.0.1 for Service n/s appears to have leaked: cleaning up")
        );
        let wrong = "IPAddressWrongReference IPAddress: 10.0.0.1 for Service n/s has a wrong reference; cleaning up";
        assert_eq!(decided(ours(), parent(), Some(json!({"clusterIPs": ["10.0.0.2"]})), early), told(wrong));
        let (modified, _) = decided(ours(), json!({"group": "g", "resource": "gateways", "name": "x"}), None, early);
        assert!(modified.unwrap().contains("appears to have been modified"));
        assert_eq!(decided(json!({}), parent(), None, late), (None, None), "another controller's");
    }

    #[test]
    fn an_address_that_goes_is_not_deleted_again() {
        let address = json!({"metadata": {"name": "10.0.0.1", "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"parentRef": {"group": "", "resource": "services", "namespace": "n", "name": "s"}}});
        let world = World { address: Arc::new(serde_json::from_value(address).unwrap()), service: None, now: "2026-01-02T00:00:00Z".parse().unwrap() };
        converges(world, 1, AddressRepair::reconcile, |world, Action::Delete { .. }| {
            Arc::make_mut(&mut world.address).metadata.deletion_timestamp = Some(controller_kit::whole_seconds(world.now));
        });
    }
}
