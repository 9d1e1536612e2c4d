//! EndpointSlice: the addresses and ports behind every service with a selector.
mod reconcile;
#[cfg(test)]
mod tests;
mod topology;

use crate::service_pods;
use api_meta::ClusterName;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use reconcile::{Action, MANAGED_BY, MANAGER, SERVICE_NAME, World};
use std::sync::Arc;

const BY_SERVICE: &str = "service";

pub struct EndpointSlices {
    services: Objects<Service>,
    pods: Objects<Pod>,
    slices: Objects<EndpointSlice>,
    nodes: Objects<Node>,
    events: Recorder,
    max_per_slice: usize,
}

/// Index: `{namespace}/{service}` of the slices this controller keeps.
fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let labels = slice.metadata.labels.as_ref();
    let label = |name| labels.and_then(|labels| labels.get(name));
    match label(SERVICE_NAME) {
        Some(service) if label(MANAGED_BY).is_some_and(|manager| manager == MANAGER) => {
            vec![format!("{}/{service}", slice.metadata.namespace.as_deref().unwrap_or_default())]
        }
        _ => Vec::new(),
    }
}

pub fn runner(kit: &Kit, max_per_slice: usize) -> Runner<EndpointSlices> {
    let (services, pods, slices, nodes) = (kit.objects::<Service>(), kit.objects::<Pod>(), kit.objects::<EndpointSlice>(), kit.objects::<Node>());
    slices.add_index(BY_SERVICE, by_service);
    let controller = EndpointSlices {
        services: services.clone(),
        pods: pods.clone(),
        slices: slices.clone(),
        nodes: nodes.clone(),
        events: kit.recorder("endpoint-slice-controller"),
        max_per_slice,
    };
    let (all, zoned) = (services.clone(), services.clone());
    let counted = |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| topology::capacity(node).map(|(zone, cpu)| (zone.map(str::to_owned), cpu)));
    let runner = Runner::new(controller).watch(&nodes, move |change| {
        if counted(&change.old) == counted(&change.new) {
            return Vec::new();
        }
        // Zones have other shares now.
        zoned.all().into_iter().filter(|(_, service)| topology::is_auto(service)).map(|(key, _)| key).collect()
    });
    runner.watch_own(&services).watch(&pods, move |change| service_pods::services_of(&all, change)).watch(&slices, |change| {
        let mut values: Vec<String> = [&change.old, &change.new].into_iter().flatten().flat_map(|slice| by_service(slice)).collect();
        values.dedup();
        let key = |value: String| value.split_once('/').map(|(namespace, name)| ObjectKey::new(&change.key.cluster, namespace, name));
        values.into_iter().filter_map(key).collect()
    })
}

impl EndpointSlices {
    /// Of the nodes a cluster's pods run on: its own, or the host's.
    fn shares(&self, cluster: &ClusterName) -> Option<topology::Shares> {
        let own = self.nodes.list(cluster, None);
        topology::shares(&if own.is_empty() { self.nodes.list(&ClusterName::root(), None) } else { own })
    }
}

#[async_trait]
impl Controller for EndpointSlices {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let service = self.services.get(key).filter(|service| service.metadata.deletion_timestamp.is_none())?;
        let pods = service_pods::selected(&self.pods, key, service_pods::selector_of(&service)?);
        let slices = self.slices.by_index(BY_SERVICE, &key.cluster, &format!("{}/{}", key.namespace, key.name));
        let names = pods.iter().map(|pod| crate::pods::node_name(pod)).filter(|name| !name.is_empty());
        // All clusters' pods run on the host cluster's nodes.
        let nodes = names
            .filter_map(|name| {
                Some((
                    name.to_owned(),
                    self.nodes.get(&ObjectKey::new(&key.cluster, "", name)).or_else(|| self.nodes.get(&ObjectKey::new(&ClusterName::root(), "", name)))?,
                ))
            })
            .collect();
        let shares = topology::is_auto(&service).then(|| self.shares(&key.cluster)).flatten();
        Some(World { service, pods, slices, nodes, shares, max_per_slice: self.max_per_slice })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let done = match action {
            Action::Tell { warning, reason, message } => {
                match self.services.get(key) {
                    Some(service) if warning => self.events.warning(&key.cluster, &*service, reason, message),
                    Some(service) => self.events.normal(&key.cluster, &*service, reason, message),
                    None => {}
                }
                Ok(())
            }
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

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        if !error.is_conflict() {
            let message = format!("Error updating Endpoint Slices for Service {}/{}: {error}", key.namespace, key.name);
            self.events.warning(&key.cluster, &*world.service, "FailedToUpdateEndpointSlices", message);
        }
    }
}
