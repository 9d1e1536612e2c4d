//! EndpointSlice mirroring: Endpoints kept by hand, for services without a selector, as slices.
use crate::{owners, service_pods};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Whoever sets this keeps the slices themselves.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const BY_SERVICE: &str = "mirrored";
/// No more addresses of a subset are mirrored.
const MAX_PER_SUBSET: usize = 1000;

pub struct Mirroring {
    services: Objects<Service>,
    endpoints: Objects<Endpoints>,
    slices: Objects<EndpointSlice>,
}

pub struct World {
    pub service: Option<Arc<Service>>,
    pub endpoints: Option<Arc<Endpoints>>,
    pub slices: Vec<Arc<EndpointSlice>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
}

fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let label = |name| slice.metadata.labels.as_ref().and_then(|labels| labels.get(name));
    match label(SERVICE_NAME) {
        Some(service) if label(MANAGED_BY).is_some_and(|manager| manager == MANAGER) => {
            vec![format!("{}/{service}", slice.metadata.namespace.as_deref().unwrap_or_default())]
        }
        _ => Vec::new(),
    }
}

pub fn runner(kit: &Kit) -> Runner<Mirroring> {
    let (services, endpoints, slices) = (kit.objects::<Service>(), kit.objects::<Endpoints>(), kit.objects::<EndpointSlice>());
    slices.add_index(BY_SERVICE, by_service);
    Runner::new(Mirroring { services: services.clone(), endpoints: endpoints.clone(), slices: slices.clone() })
        .watch_own(&services)
        .watch_own(&endpoints)
        .watch(&slices, |change| {
            let values = [&change.old, &change.new].into_iter().flatten().flat_map(|slice| by_service(slice));
            values.filter_map(|value| value.split_once('/').map(|(namespace, name)| ObjectKey::new(&change.key.cluster, namespace, name))).collect()
        })
}

/// Whether these Endpoints are somebody's own, for a service that has no selector.
fn is_mirrored(service: &Service, endpoints: &Endpoints) -> bool {
    let marked = |map: &Option<BTreeMap<String, String>>, key: &str| map.as_ref().is_some_and(|map| map.contains_key(key));
    let skipped = endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    let elected = marked(&endpoints.metadata.annotations, "control-plane.alpha.kubernetes.io/leader");
    service_pods::selector_of(service).is_none() && service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) != Some("ExternalName") && !skipped && !elected
}

fn slices_of(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        for family in ["IPv4", "IPv6"] {
            let found = endpoints_of(subset, family);
            if !found.is_empty() {
                let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
                    name: Some(port.name.clone().unwrap_or_default()),
                    port: Some(port.port),
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                    app_protocol: port.app_protocol.clone(),
                });
                slices.push(EndpointSlice { metadata: metadata(endpoints), address_type: family.into(), endpoints: Some(found), ports: Some(ports.collect()) });
            }
        }
    }
    slices
}

fn endpoints_of(subset: &EndpointSubset, family: &str) -> Vec<Endpoint> {
    let endpoint = |address: &EndpointAddress, ready: bool| Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: None, terminating: None }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    };
    let all =
        subset.addresses.iter().flatten().map(|address| (address, true)).chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)));
    all.take(MAX_PER_SUBSET).filter(|(address, _)| service_pods::family_of(&address.ip) == family).map(|(address, ready)| endpoint(address, ready)).collect()
}

fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let of = &endpoints.metadata;
    let mut labels = of.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), of.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = of.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    ObjectMeta {
        generate_name: Some(format!("{}-", of.name.as_deref().unwrap_or_default())),
        namespace: of.namespace.clone(),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![owners::controller_reference(endpoints)]),
        ..Default::default()
    }
}

#[async_trait]
impl Controller for Mirroring {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "endpointslice-mirroring-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let slices = self.slices.by_index(BY_SERVICE, &key.cluster, &format!("{}/{}", key.namespace, key.name));
        Some(World { service: self.services.get(key), endpoints: self.endpoints.get(key), slices })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let wanted = match (&world.service, &world.endpoints) {
            (Some(service), Some(endpoints)) if is_mirrored(service, endpoints) => slices_of(endpoints),
            _ => Vec::new(),
        };
        let mut plan = Plan::nothing();
        let mut left: Vec<&Arc<EndpointSlice>> = world.slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect();
        for slice in wanted {
            // A slice of the same family and ports takes the change; the others come and go.
            let at = left.iter().position(|other| other.address_type == slice.address_type && other.ports == slice.ports);
            let Some(at) = at else {
                plan.push(Action::Create(Box::new(slice)));
                continue;
            };
            let old = left.remove(at);
            let merged = ObjectMeta { labels: slice.metadata.labels.clone(), annotations: slice.metadata.annotations.clone(), ..old.metadata.clone() };
            let right = EndpointSlice { metadata: merged, ..slice };
            if right != **old {
                plan.push(Action::Update(Box::new(right)));
            }
        }
        plan.actions.extend(left.into_iter().cloned().map(Action::Delete));
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let done = match action {
            Action::Create(slice) => self.slices.create(&key.cluster, &slice).await.map(|_| ()),
            Action::Update(slice) => self.slices.replace(&key.cluster, &slice).await.map(|_| ()),
            Action::Delete(slice) => {
                let deletion = Deletion { preconditions: Preconditions::uid_of(&slice.metadata), ..Default::default() };
                self.slices.delete(&ObjectKey::of(&key.cluster, &slice.metadata), &deletion).await
            }
        };
        match done {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::json;

    #[test]
    fn hand_kept_endpoints_are_mirrored_by_family_and_ports() {
        let service = |selector: serde_json::Value| {
            Some(Arc::new(serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {"selector": selector}})).unwrap()))
        };
        let endpoints = json!({"metadata": {"name": "db", "namespace": "n", "uid": "e"}, "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 5432}]}]});
        let mut names = 0;
        let mut settle = |world| {
            converges(world, 3, Mirroring::reconcile, |world: &mut World, action| match action {
                Action::Create(mut slice) => {
                    names += 1;
                    slice.metadata.name = Some(names.to_string());
                    world.slices.push(Arc::new(*slice));
                }
                Action::Update(slice) => {
                    world.slices.iter_mut().filter(|old| old.metadata.name == slice.metadata.name).for_each(|old| *old = Arc::new((*slice).clone()))
                }
                Action::Delete(slice) => world.slices.retain(|old| *old != slice),
            })
        };
        let world = settle(World { service: service(json!(null)), endpoints: Some(Arc::new(serde_json::from_value(endpoints).unwrap())), slices: vec![] });
        let shape: Vec<(&str, usize)> = world.slices.iter().map(|slice| (slice.address_type.as_str(), slice.endpoints.as_ref().unwrap().len())).collect();
        assert_eq!(shape, [("IPv4", 2), ("IPv6", 1)]);
        assert_eq!(world.slices[0].metadata.labels.as_ref().unwrap()[SERVICE_NAME], "db");
        assert!(settle(World { service: service(json!({"a": "b"})), ..world }).slices.is_empty());
    }

    #[test]
    fn what_is_mirrored_is_as_documented() {
        let mirrored = |service: serde_json::Value, metadata: serde_json::Value, addresses: usize| {
            let mut endpoints = json!({"metadata": {"name": "db", "namespace": "n", "uid": "e"}});
            endpoints["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
            let addresses: Vec<_> = (0..addresses).map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)})).collect();
            endpoints["subsets"] = json!([{"addresses": addresses, "ports": [{"name": "sql", "port": 5432, "appProtocol": "postgres"}]}]);
            let service = json!({"metadata": {"name": "db", "namespace": "n"}, "spec": service});
            let world = World {
                service: Some(Arc::new(serde_json::from_value(service).unwrap())),
                endpoints: Some(Arc::new(serde_json::from_value(endpoints).unwrap())),
                slices: vec![],
            };
            let made = Mirroring::reconcile(&world).actions.into_iter().map(|action| match action {
                Action::Create(slice) => *slice,
                other => panic!("{other:?}"),
            });
            made.collect::<Vec<_>>()
        };
        let labels = |key: &str, value: &str| json!({"labels": {key: value}});
        assert_eq!(mirrored(json!({}), labels(SKIP, "false"), 1).len(), 1);
        assert_eq!(mirrored(json!({}), labels(SKIP, "true"), 1), []);
        assert_eq!(mirrored(json!({}), json!({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}), 1), [], "a lock of old");
        assert_eq!(mirrored(json!({"type": "ExternalName"}), json!({}), 1), []);
        assert_eq!(mirrored(json!({}), json!({}), 0), []);
        let many = mirrored(json!({}), json!({}), 1001);
        assert_eq!(many.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(), [MAX_PER_SUBSET]);
        let told = json!({"labels": {"own": "l"}, "annotations": {"own": "a", "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}});
        let slice = mirrored(json!({}), told, 1).remove(0);
        assert_eq!((slice.metadata.labels.unwrap()["own"].as_str(), slice.metadata.annotations), ("l", Some([("own".to_owned(), "a".to_owned())].into())));
        let port = &slice.ports.unwrap()[0];
        assert_eq!((port.name.as_deref(), port.port, port.app_protocol.as_deref()), (Some("sql"), Some(5432), Some("postgres")));
    }
}
