//! Repair, from the Services' side: every address of a Service is held for it by an IPAddress.
//!
//! Source: upstream's ipallocator repair controller.
use super::{ALLOCATOR, FAMILY, MANAGED_BY, REPAIR, addresses_of, contains, family, holds, is_for_a_service, label, warn};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::net::IpAddr;
use std::sync::Arc;

const ACTION: &str = "ClusterIPAllocation";

pub struct ServiceAddressRepair {
    services: Objects<Service>,
    addresses: Objects<IPAddress>,
    ranges: Objects<ServiceCIDR>,
    events: Recorder,
}

/// One address of the Service, and what is known of it.
pub struct Held {
    pub address: IpAddr,
    pub in_range: bool,
    pub object: Option<Arc<IPAddress>>,
    /// Whether the Service that the object names is there; and whether it has the address too.
    pub named: Option<bool>,
}

pub struct World {
    pub service: Arc<Service>,
    pub held: Vec<Held>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Warn {
        reason: &'static str,
        message: String,
    },
    Create(IpAddr),
    /// What holds the address says something else.
    Recreate(IpAddr),
}

pub fn runner(kit: &Kit) -> Runner<ServiceAddressRepair> {
    let (services, addresses, ranges) = (kit.objects::<Service>(), kit.objects::<IPAddress>(), kit.objects::<ServiceCIDR>());
    let controller = ServiceAddressRepair { services: services.clone(), addresses: addresses.clone(), ranges: ranges.clone(), events: kit.recorder(REPAIR) };
    let having = services.clone();
    Runner::new(controller).needs(&ranges).watch_own(&services).watch(&addresses, move |change| {
        // The server makes the object with the Service: only what comes of another's hand is of interest.
        if change.old.is_none() {
            return Vec::new();
        }
        let all = having.list(&change.key.cluster, None).into_iter().filter(|service| holds(service, &change.key.name));
        all.map(|service| ObjectKey::of(&change.key.cluster, &service.metadata)).collect()
    })
}

fn decide(service: &Service, held: &Held) -> Vec<Action> {
    let (address, family) = (held.address, family(held.address));
    let place = format!("{}/{}", service.metadata.namespace.as_deref().unwrap_or_default(), service.metadata.name.as_deref().unwrap_or_default());
    let warn = |reason: &'static str, message: String| Action::Warn { reason, message };
    if !held.in_range {
        let message = format!("Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service");
        return vec![warn("ClusterIPOutOfRange", message)];
    }
    let Some(object) = &held.object else {
        return vec![warn("ClusterIPNotAllocated", format!("Cluster IP [{family}]: {address} is not allocated; repairing")), Action::Create(address)];
    };
    let wrong = || {
        let message = format!("the ClusterIP [{family}]: {address} for Service {place} has a wrong reference; repairing");
        vec![warn("ClusterIPNotAllocated", message), Action::Recreate(address)]
    };
    if !is_for_a_service(object) {
        return wrong();
    }
    let parent = &object.spec.parent_ref;
    let is_own = parent.namespace == service.metadata.namespace && Some(&parent.name) == service.metadata.name.as_ref();
    match held.named {
        _ if is_own => {}
        None => return wrong(),
        Some(true) => {
            let message = format!("Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service");
            return vec![warn("ClusterIPAlreadyAllocated", message)];
        }
        Some(false) => return wrong(),
    }
    let labelled = label(object, FAMILY) == family && label(object, MANAGED_BY) == ALLOCATOR;
    if labelled { Vec::new() } else { vec![Action::Recreate(address)] }
}

fn holding(service: &Service, address: IpAddr) -> IPAddress {
    let labels = [(FAMILY, family(address)), (MANAGED_BY, ALLOCATOR)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let parent_ref = ParentReference {
        group: Some(String::new()),
        resource: "services".into(),
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone().unwrap_or_default(),
    };
    IPAddress {
        metadata: ObjectMeta { name: Some(address.to_string()), labels: Some(labels.into()), ..Default::default() },
        spec: IPAddressSpec { parent_ref },
    }
}

#[async_trait]
impl Controller for ServiceAddressRepair {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        REPAIR
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let service = self.services.get(key)?;
        let ranges = self.ranges.list(&key.cluster, None);
        let held = addresses_of(&service).filter_map(|text| text.parse().ok()).map(|address: IpAddr| {
            let object = self.addresses.get(&ObjectKey::new(&key.cluster, "", &address.to_string()));
            let named = object.as_ref().filter(|object| is_for_a_service(object)).and_then(|object| {
                let parent = &object.spec.parent_ref;
                self.services.get(&ObjectKey::new(&key.cluster, parent.namespace.as_deref().unwrap_or_default(), &parent.name))
            });
            let named = named.map(|named| holds(&named, &address.to_string()));
            Held { address, in_range: ranges.iter().any(|range| contains(range, address)), object, named }
        });
        let held = held.collect();
        Some(World { service, held })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        world.held.iter().flat_map(|held| decide(&world.service, held)).collect::<Vec<_>>().into()
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(service) = self.services.get(key) else { return Ok(()) };
        // A Service and what holds its addresses come and go together, and are told of one after the other.
        let late = self.is_late(key, &service).await?;
        // Known meanwhile, it may be nothing to repair any more.
        let is_so = || self.observe(key).is_some_and(|world| Self::reconcile(&world).actions.contains(&action));
        if late || !is_so() {
            return Err(Error::NotYet("what became of a Service or its addresses was not known yet".into()));
        }
        match action {
            Action::Warn { reason, message } => {
                warn(&self.events, &key.cluster, &*service, ACTION, reason, message);
            }
            Action::Create(address) => return self.create(key, &service, address).await,
            Action::Recreate(address) => {
                let at = ObjectKey::new(&key.cluster, "", &address.to_string());
                if let Some(object) = self.addresses.get(&at) {
                    self.addresses.delete(&at, &Deletion { preconditions: Preconditions::uid_of(&object.metadata), ..Default::default() }).await?;
                }
                return self.create(key, &service, address).await;
            }
        }
        Ok(())
    }
}

impl ServiceAddressRepair {
    /// Whether the API knows better than the caches of the Service, or of what holds its addresses.
    async fn is_late(&self, key: &ObjectKey, service: &Service) -> Result<bool, Error> {
        let now = self.services.fresh(key).await?;
        if now.is_none_or(|now| now.metadata.uid != service.metadata.uid || !addresses_of(service).all(|address| holds(&now, address))) {
            return Ok(true);
        }
        for address in addresses_of(service).filter_map(|text| text.parse::<IpAddr>().ok()) {
            let at = ObjectKey::new(&key.cluster, "", &address.to_string());
            let uid = |address: &IPAddress| address.metadata.uid.clone();
            if self.addresses.fresh(&at).await?.as_ref().map(uid) != self.addresses.get(&at).map(|known| uid(&known)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn create(&self, key: &ObjectKey, service: &Service, address: IpAddr) -> Result<(), Error> {
        match self.addresses.create(&key.cluster, &holding(service, address)).await {
            // Whose it is shows in the next look.
            Err(error) if error.is_already_exists() => Err(Error::NotYet(error.to_string())),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::{Value, json};

    fn decided(in_range: bool, object: Option<Value>, named: Option<bool>) -> Vec<String> {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"clusterIPs": ["10.0.0.1"]}})).unwrap();
        let object = object.map(|object| Arc::new(serde_json::from_value(object).unwrap()));
        let held = Held { address: "10.0.0.1".parse().unwrap(), in_range, object, named };
        let shown = |action| match action {
            Action::Warn { reason, message } => format!("{reason} {message}"),
            other => format!("{other:?}"),
        };
        decide(&service, &held).into_iter().map(shown).collect()
    }

    fn object(parent: Value, family: &str) -> Option<Value> {
        Some(json!({"metadata": {"name": "10.0.0.1", "labels": {FAMILY: family, MANAGED_BY: ALLOCATOR}}, "spec": {"parentRef": parent}}))
    }

    #[test]
    fn what_is_wrong_is_told_and_put_right_unless_two_services_share_it() {
        let own = || json!({"group": "", "resource": "services", "namespace": "n", "name": "s"});
        let other = || json!({"resource": "services", "namespace": "n", "name": "other"});
        let wrong = ["ClusterIPNotAllocated the ClusterIP [IPv4]: 10.0.0.1 for Service n/s has a wrong reference; repairing", "Recreate(10.0.0.1)"];
        assert_eq!(decided(true, object(own(), "IPv4"), Some(true)), Vec::<String>::new());
        assert_eq!(decided(true, object(own(), "IPv6"), Some(true)), ["Recreate(10.0.0.1)"]);
        assert_eq!(
            decided(false, object(own(), "IPv4"), Some(true)),
            ["ClusterIPOutOfRange Cluster IP [IPv4]: 10.0.0.1 is not within any configured Service CIDR; please recreate service"]
        );
        assert_eq!(decided(true, None, None), ["ClusterIPNotAllocated Cluster IP [IPv4]: 10.0.0.1 is not allocated; repairing", "Create(10.0.0.1)"]);
        assert_eq!(decided(true, object(json!({"group": "gateway.networking.k8s.io", "resource": "gateways", "name": "g"}), "IPv4"), None), wrong);
        assert_eq!(decided(true, object(other(), "IPv4"), None), wrong);
        assert_eq!(decided(true, object(other(), "IPv4"), Some(false)), wrong);
        assert_eq!(
            decided(true, object(other(), "IPv4"), Some(true)),
            ["ClusterIPAlreadyAllocated Cluster IP [IPv4]:10.0.0.1 was assigned to multiple services; please recreate service"]
        );
    }

    #[test]
    fn an_address_is_held_again_after_one_look() {
        let service: Arc<Service> =
            Arc::new(serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"clusterIPs": ["10.0.0.1"]}})).unwrap());
        let parent = json!({"resource": "services", "namespace": "n", "name": "other"});
        for object in [None, object(parent, "IPv4")] {
            let object = object.map(|object| Arc::new(serde_json::from_value(object).unwrap()));
            let held = vec![Held { address: "10.0.0.1".parse().unwrap(), in_range: true, object, named: None }];
            converges(World { service: service.clone(), held }, 1, ServiceAddressRepair::reconcile, |world, action| match action {
                Action::Create(address) | Action::Recreate(address) => {
                    (world.held[0].object, world.held[0].named) = (Some(Arc::new(holding(&world.service, address))), Some(true));
                }
                Action::Warn { .. } => {}
            });
        }
    }
}
