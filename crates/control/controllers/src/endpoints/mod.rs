//! Endpoints: the elder form of EndpointSlice, one object a service, for those who still read it.
use crate::{pods, service_pods};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// No object holds more addresses.
const CAPACITY: usize = 1000;

pub struct EndpointsController {
    services: Objects<Service>,
    pods: Objects<Pod>,
    endpoints: Objects<Endpoints>,
    events: Recorder,
}

pub struct World {
    pub service: Option<Arc<Service>>,
    pub pods: Vec<Arc<Pod>>,
    pub endpoints: Option<Arc<Endpoints>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Box<Endpoints>),
    Update(Box<Endpoints>),
    Delete(Arc<Endpoints>),
}

pub fn runner(kit: &Kit) -> Runner<EndpointsController> {
    let (services, pods, endpoints) = (kit.objects::<Service>(), kit.objects::<Pod>(), kit.objects::<Endpoints>());
    let controller =
        EndpointsController { services: services.clone(), pods: pods.clone(), endpoints: endpoints.clone(), events: kit.recorder("endpoint-controller") };
    let all = services.clone();
    Runner::new(controller).watch_own(&services).watch(&pods, move |change| service_pods::services_of(&all, change)).watch_own(&endpoints)
}

/// Addresses by their place in the order.
type Side = BTreeMap<String, EndpointAddress>;

/// A port's name, number, protocol and application protocol.
type Port = (String, i32, String, Option<String>);

/// The subsets of these pods: ports whose addresses are the same share one, in a stable order.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let Some(spec) = &service.spec else { return (Vec::new(), false) };
    let publish = spec.publish_not_ready_addresses == Some(true);
    let family = service_pods::families(service).into_iter().next().unwrap_or_default();
    // By port: the addresses ready and not, each with its place in the order.
    let mut by_port: BTreeMap<Port, (Side, Side)> = BTreeMap::new();
    let no_port = (String::new(), 0, String::new(), None);
    let mut count = 0;
    let mut truncated = false;
    for pod in pods.iter().filter(|pod| service_pods::is_endpoint(pod, publish)) {
        let Some(ip) = service_pods::ips(pod).into_iter().find(|ip| service_pods::family_of(ip) == family) else { continue };
        if count == CAPACITY {
            truncated = true;
            break;
        }
        count += 1;
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: service_pods::hostname(pod, service),
            node_name: Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".into()),
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
                ..Default::default()
            }),
        };
        let place = format!("{ip}/{}", pod.metadata.uid.as_deref().unwrap_or_default());
        let ports: Vec<_> = match spec.ports.as_deref().unwrap_or_default() {
            [] if service_pods::is_headless(service) => vec![no_port.clone()],
            ports => ports
                .iter()
                .filter_map(|port| {
                    let number = service_pods::target_port(pod, port)?;
                    Some((port.name.clone().unwrap_or_default(), number, port.protocol.clone().unwrap_or_else(|| "TCP".into()), port.app_protocol.clone()))
                })
                .collect(),
        };
        for port in ports {
            let (ready, not_ready) = by_port.entry(port).or_default();
            let side = if publish || pods::is_ready(pod) { ready } else { not_ready };
            side.insert(place.clone(), address.clone());
        }
    }
    let mut groups: Vec<(EndpointSubset, Vec<String>)> = Vec::new();
    for ((name, number, protocol, app_protocol), (ready, not_ready)) in by_port {
        let identity: Vec<String> = ready.keys().map(|place| format!("+{place}")).chain(not_ready.keys().map(|place| format!("-{place}"))).collect();
        let port = EndpointPort { name: Some(name).filter(|name| !name.is_empty()), port: number, protocol: Some(protocol), app_protocol };
        let port = (number != 0).then_some(port);
        match groups.iter_mut().find(|(_, other)| *other == identity) {
            Some((subset, _)) => subset.ports.get_or_insert_default().extend(port),
            None => {
                let list = |side: Side| Some(side.into_values().collect::<Vec<_>>()).filter(|list| !list.is_empty());
                groups.push((EndpointSubset { addresses: list(ready), not_ready_addresses: list(not_ready), ports: port.map(|port| vec![port]) }, identity));
            }
        }
    }
    (groups.into_iter().map(|(subset, _)| subset).collect(), truncated)
}

#[async_trait]
impl Controller for EndpointsController {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "endpoints-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let service = self.services.get(key);
        let pods = service.as_ref().and_then(|service| service_pods::selector_of(service)).map(|selector| service_pods::selected(&self.pods, key, selector));
        Some(World { service, pods: pods.unwrap_or_default(), endpoints: self.endpoints.get(key) })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let managed =
            |endpoints: &Endpoints| endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY.0)).is_some_and(|by| by == MANAGED_BY.1);
        let Some(service) = &world.service else {
            // Endpoints somebody keeps by hand stay.
            return world.endpoints.iter().filter(|endpoints| managed(endpoints)).cloned().map(Action::Delete).collect::<Vec<_>>().into();
        };
        if service_pods::selector_of(service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let (subsets, truncated) = subsets(service, &world.pods);
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        if service_pods::is_headless(service) {
            labels.insert(HEADLESS.into(), String::new());
        }
        labels.insert(MANAGED_BY.0.into(), MANAGED_BY.1.into());
        let mut right = world.endpoints.as_deref().cloned().unwrap_or_else(|| Endpoints {
            metadata: ObjectMeta { name: service.metadata.name.clone(), namespace: service.metadata.namespace.clone(), ..Default::default() },
            subsets: None,
        });
        right.metadata.labels = Some(labels);
        if truncated {
            right.metadata.annotations.get_or_insert_default().insert(OVER_CAPACITY.into(), "truncated".into());
        } else if let Some(annotations) = &mut right.metadata.annotations {
            annotations.remove(OVER_CAPACITY);
        }
        right.subsets = (!subsets.is_empty()).then_some(subsets);
        match &world.endpoints {
            None => vec![Action::Create(Box::new(right))].into(),
            Some(endpoints) if **endpoints != right => vec![Action::Update(Box::new(right))].into(),
            Some(_) => Plan::nothing(),
        }
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let done = match action {
            Action::Create(endpoints) => self.endpoints.create(&key.cluster, &endpoints).await.map(|_| ()),
            Action::Update(endpoints) => self.endpoints.replace(&key.cluster, &endpoints).await.map(|_| ()),
            Action::Delete(endpoints) => {
                let deletion = Deletion { preconditions: Preconditions::uid_of(&endpoints.metadata), ..Default::default() };
                self.endpoints.delete(key, &deletion).await
            }
        };
        match done {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            other => other,
        }
    }

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        if error.is_conflict() {
            return;
        }
        if let Some(endpoints) = &world.endpoints {
            let message = format!("Failed to update endpoint {}/{}: {error}", key.namespace, key.name);
            self.events.warning(&key.cluster, &**endpoints, "FailedToUpdateEndpoint", message);
        } else if let Some(service) = &world.service {
            let message = format!("Failed to create endpoint for service {}/{}: {error}", key.namespace, key.name);
            self.events.warning(&key.cluster, &**service, "FailedToCreateEndpoint", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::json;

    fn pod(name: &str, ip: &str, ready: &str, port: i32) -> Arc<Pod> {
        let value = json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn settle(world: World) -> World {
        converges(world, 2, EndpointsController::reconcile, |world: &mut World, action| match action {
            Action::Create(endpoints) | Action::Update(endpoints) => world.endpoints = Some(Arc::new(*endpoints)),
            Action::Delete(_) => world.endpoints = None,
        })
    }

    #[test]
    fn ports_with_the_same_addresses_share_a_subset() {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"clusterIP": "10.0.0.1", "selector": {"a": "b"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web"}, {"name": "metrics", "port": 9000}]}}))
            .unwrap();
        let pods = vec![pod("b", "10.1.0.2", "True", 8080), pod("a", "10.1.0.1", "True", 8080), pod("c", "10.1.0.3", "False", 8080)];
        let world = settle(World { service: Some(Arc::new(service)), pods, endpoints: None });
        let endpoints = world.endpoints.clone().unwrap();
        let subsets = endpoints.subsets.clone().unwrap();
        assert_eq!(subsets.len(), 1);
        let ips = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>();
        assert_eq!((ips(&subsets[0].addresses), ips(&subsets[0].not_ready_addresses)), (vec!["10.1.0.1".into(), "10.1.0.2".into()], vec!["10.1.0.3".into()]));
        assert_eq!(subsets[0].ports.as_ref().unwrap().iter().map(|p| p.port).collect::<Vec<_>>(), [8080, 9000]);
        let other_port = settle(World { pods: vec![pod("a", "10.1.0.1", "True", 8080), pod("b", "10.1.0.2", "True", 8081)], ..world });
        assert_eq!(other_port.endpoints.as_ref().unwrap().subsets.as_ref().unwrap().len(), 3);
        assert!(settle(World { service: None, ..other_port }).endpoints.is_none());
    }
}
