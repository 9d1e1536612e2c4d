//! What a service's EndpointSlices should hold, changed as little as possible.
use super::topology::{self, Placed, Shares};
use crate::{owners, pods, service_pods};
use controller_kit::Plan;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const DISABLED: &str = "TopologyAwareHintsDisabled";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// All a decision may see.
pub struct World {
    pub service: Arc<Service>,
    pub pods: Vec<Arc<Pod>>,
    /// This controller's slices of the service.
    pub slices: Vec<Arc<EndpointSlice>>,
    pub nodes: HashMap<String, Arc<Node>>,
    /// What part of the processors each zone has; looked at for Services that ask for it only.
    pub shares: Option<Shares>,
    pub max_per_slice: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
    Tell { warning: bool, reason: &'static str, message: String },
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let families = service_pods::families(&world.service);
    let mut plan = Plan::nothing();
    // Families the service left.
    plan.actions.extend(world.slices.iter().filter(|slice| !families.contains(&slice.address_type)).cloned().map(Action::Delete));
    for family in &families {
        reconcile_family(world, family, &mut plan);
    }
    reuse(&mut plan);
    plan
}

/// A slice to delete takes the place of one to create: one write, and watchers see an update.
fn reuse(plan: &mut Plan<Action>) {
    let (mut free, rest): (Vec<Action>, Vec<Action>) = std::mem::take(&mut plan.actions).into_iter().partition(|action| matches!(action, Action::Delete(_)));
    for action in rest {
        let new = match action {
            Action::Create(new) => new,
            other => {
                plan.push(other);
                continue;
            }
        };
        let at = free
            .iter()
            .position(|action| matches!(action, Action::Delete(old) if old.address_type == new.address_type && old.metadata.deletion_timestamp.is_none()));
        plan.push(match at.map(|at| free.remove(at)) {
            Some(Action::Delete(old)) => {
                Action::Update(Box::new(EndpointSlice { metadata: ObjectMeta { labels: new.metadata.labels.clone(), ..old.metadata.clone() }, ..*new }))
            }
            _ => Action::Create(new),
        });
    }
    plan.actions.append(&mut free);
}

fn reconcile_family(world: &World, family: &str, plan: &mut Plan<Action>) {
    let mut wanted: Vec<(Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
    for pod in world.pods.iter().filter(|pod| service_pods::is_endpoint(pod, true)) {
        let Some(endpoint) = endpoint(world, pod, family) else { continue };
        let ports = ports(&world.service, pod);
        match wanted.iter_mut().find(|(others, _)| *others == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => wanted.push((ports, vec![endpoint])),
        }
    }
    let (told, before) = (zones(world, family, &mut wanted), plan.actions.len());
    // With no pod at all, one empty slice says that the service is known and has none.
    let placeholder = wanted.is_empty();
    if placeholder {
        wanted.push((Vec::new(), Vec::new()));
    }
    let (mine, others): (Vec<_>, Vec<_>) = world
        .slices
        .iter()
        .filter(|slice| slice.address_type == family)
        .partition(|slice| slice.metadata.deletion_timestamp.is_none() && wanted.iter().any(|(ports, _)| *ports == sorted(slice.ports.clone())));
    plan.actions.extend(others.into_iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()).cloned().map(Action::Delete));
    for (ports, endpoints) in wanted {
        let existing = mine.iter().filter(|slice| sorted(slice.ports.clone()) == ports).copied().cloned().collect();
        fill(world, family, ports, endpoints, existing, placeholder, plan);
    }
    if plan.actions.len() > before {
        plan.actions.extend(told);
    }
}

/// Where a Service asks for it, says which zone each ready endpoint is for; and what there is to tell of that.
fn zones(world: &World, family: &str, wanted: &mut [(Vec<EndpointPort>, Vec<Endpoint>)]) -> Option<Action> {
    let tell = |warning, reason, message: &str| Some(Action::Tell { warning, reason, message: format!("{message}, addressType: {family}") });
    let slices = world.slices.iter().filter(|slice| slice.address_type == family);
    let hint = |endpoint: &Endpoint| Some((identity(endpoint), endpoint.hints.as_ref()?.for_zones.as_ref()?.first()?.name.clone()));
    let before: HashMap<String, String> = slices.flat_map(|slice| slice.endpoints.iter().flatten()).filter_map(hint).collect();
    if !topology::is_auto(&world.service) {
        let ended = !before.is_empty() && topology::is_told(&world.service) && world.service.spec.as_ref()?.traffic_distribution.is_none();
        return if ended { tell(true, DISABLED, "Topology Aware Hints has been disabled") } else { None };
    }
    let all = wanted.iter_mut().flat_map(|(_, endpoints)| endpoints);
    let mut ready: Vec<&mut Endpoint> = all.filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|it| it.ready == Some(true))).collect();
    ready.sort_by_cached_key(|endpoint| identity(endpoint));
    let placed: Vec<Placed> = ready.iter().map(|endpoint| Placed { zone: endpoint.zone.clone(), hint: before.get(&identity(endpoint)).cloned() }).collect();
    match topology::hints(world.shares.as_ref(), &placed) {
        Err(why) => tell(true, DISABLED, &why),
        Ok(zones) => {
            for (endpoint, name) in ready.into_iter().zip(zones) {
                endpoint.hints = Some(EndpointHints { for_zones: Some(vec![ForZone { name }]), for_nodes: None });
            }
            if before.is_empty() { tell(false, "TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled") } else { None }
        }
    }
}

/// Keeps endpoints where they are, puts new ones where something changes anyway, then where there is room, then in new slices.
fn fill(
    world: &World,
    family: &str,
    ports: Vec<EndpointPort>,
    wanted: Vec<Endpoint>,
    existing: Vec<Arc<EndpointSlice>>,
    placeholder: bool,
    plan: &mut Plan<Action>,
) {
    let mut left: BTreeMap<String, Endpoint> = wanted.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut held: Vec<(Arc<EndpointSlice>, Vec<Endpoint>, bool)> = Vec::new();
    for slice in existing {
        let (mut kept, mut changed) = (Vec::new(), false);
        for old in slice.endpoints.iter().flatten() {
            match left.remove(&identity(old)) {
                Some(new) => {
                    changed |= new != *old;
                    kept.push(new);
                }
                None => changed = true,
            }
        }
        held.push((slice, kept, changed));
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    let max = world.max_per_slice.max(1);
    for (_, endpoints, changed) in held.iter_mut().filter(|(.., changed)| *changed) {
        let room = max.saturating_sub(endpoints.len()).min(left.len());
        endpoints.extend(left.drain(..room));
        *changed = true;
    }
    while !left.is_empty() {
        // The fullest slice that takes the whole rest, so that one write suffices.
        let fits = held.iter_mut().filter(|(_, endpoints, _)| left.len() < max && endpoints.len() + left.len() <= max);
        if let Some((_, endpoints, changed)) = fits.max_by_key(|(_, endpoints, _)| endpoints.len()) {
            endpoints.append(&mut left);
            *changed = true;
            break;
        }
        let rest = left.split_off(max.min(left.len()));
        plan.push(Action::Create(Box::new(new_slice(world, family, ports.clone(), std::mem::replace(&mut left, rest)))));
    }
    let mut empty_kept = false;
    let none_held = held.is_empty();
    for (slice, endpoints, _) in held {
        if endpoints.is_empty() && (!placeholder || empty_kept) {
            plan.push(Action::Delete(slice));
            continue;
        }
        empty_kept |= endpoints.is_empty();
        let right = EndpointSlice {
            metadata: metadata(world, &slice.metadata),
            address_type: slice.address_type.clone(),
            endpoints: (!endpoints.is_empty() || slice.endpoints.is_some()).then_some(endpoints),
            ports: slice.ports.clone(),
        };
        if right != *slice {
            plan.push(Action::Update(Box::new(right)));
        }
    }
    if placeholder && none_held {
        plan.push(Action::Create(Box::new(new_slice(world, family, ports, Vec::new()))));
    }
}

/// An endpoint is a pod at its addresses.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{}/{uid}/{}", endpoint.target_ref.as_ref().and_then(|t| t.name.as_deref()).unwrap_or_default(), endpoint.addresses.join(","))
}

fn endpoint(world: &World, pod: &Pod, family: &str) -> Option<Endpoint> {
    let addresses: Vec<String> = service_pods::ips(pod).into_iter().filter(|ip| service_pods::family_of(ip) == family).map(str::to_owned).collect();
    if addresses.is_empty() {
        return None;
    }
    let spec = world.service.spec.as_ref()?;
    let terminating = pods::is_terminating(pod);
    let serving = pods::is_ready(pod);
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    let node_name = Some(pods::node_name(pod)).filter(|name| !name.is_empty()).map(str::to_owned);
    let node = node_name.as_ref().and_then(|name| world.nodes.get(name));
    let zone = node.and_then(|node| node.metadata.labels.as_ref()).and_then(|labels| labels.get(topology::ZONE).cloned());
    let hints = match spec.traffic_distribution.as_deref().filter(|_| !topology::is_auto(&world.service)) {
        Some("PreferClose" | "PreferSameZone") if ready => {
            zone.clone().map(|zone| EndpointHints { for_zones: Some(vec![ForZone { name: zone }]), for_nodes: None })
        }
        Some("PreferSameNode") if ready => node_name
            .clone()
            .map(|name| EndpointHints { for_nodes: Some(vec![ForNode { name }]), for_zones: zone.clone().map(|zone| vec![ForZone { name: zone }]) }),
        _ => None,
    };
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hostname: service_pods::hostname(pod, &world.service),
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        zone,
        hints,
        deprecated_topology: None,
    })
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(service_pods::target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    sorted(Some(found.collect()))
}

fn sorted(ports: Option<Vec<EndpointPort>>) -> Vec<EndpointPort> {
    let mut ports = ports.unwrap_or_default();
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports
}

fn new_slice(world: &World, family: &str, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let service = &world.service.metadata;
    let bare = ObjectMeta {
        generate_name: Some(format!("{}-", service.name.as_deref().unwrap_or_default())),
        namespace: service.namespace.clone(),
        owner_references: Some(vec![owners::controller_reference(&*world.service)]),
        ..Default::default()
    };
    EndpointSlice { metadata: metadata(world, &bare), address_type: family.to_owned(), endpoints: Some(endpoints), ports: Some(ports) }
}

/// The service's labels, and ours that mark what the slice is.
fn metadata(world: &World, old: &ObjectMeta) -> ObjectMeta {
    let service = &world.service.metadata;
    let reserved = [SERVICE_NAME, MANAGED_BY, HEADLESS];
    let mut labels: BTreeMap<String, String> =
        service.labels.clone().unwrap_or_default().into_iter().filter(|(k, _)| !reserved.contains(&k.as_str())).collect();
    labels.insert(SERVICE_NAME.into(), service.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service_pods::is_headless(&world.service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    ObjectMeta { labels: Some(labels), ..old.clone() }
}
