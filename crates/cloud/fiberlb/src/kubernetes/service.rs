//! LoadBalancer Services: gives each its address, takes it back, and tells so in status and events.
//!
//! Event reasons, messages and the finalizer are those of upstream's service controller (k8s.io/cloud-provider).
use super::LOAD_BALANCER_CLASS;
use super::ledger::LedgerObject;
use super::node_ports::{NodePorts, offers_change};
use crate::ControllerSettings;
use crate::allocation::{Request, Supply, addresses_of, allocate, release};
use crate::annotations::{LOAD_BALANCER_ID, Wishes};
use api_cache::AddressLedger;
use controller_kit::{Controller, Error, EventKind, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, reference, whole_seconds};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Service};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
const CONDITION: &str = "fiberlb.plasmacloud.io/AddressAllocated";
/// For so long an address is not told while the Service's pods are there and none is ready: who waits for the address, as
/// people's scripts do, finds somebody behind it then. It is given, and leads where it leads, at once.
const STARTING: SignedDuration = SignedDuration::from_secs(5);
/// Between two looks at pods that start.
const STARTING_LOOK: Duration = Duration::from_millis(200);
/// Nobody tells when a process of the node lets a port go.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

pub struct ServiceController {
    services: Objects<Service>,
    ledger: LedgerObject,
    ports: NodePorts,
    events: Recorder,
    kit: Kit,
}

pub struct World {
    /// In the ledger.
    pub holder: String,
    pub service: Option<Arc<Service>>,
    pub ledger_object: Option<Arc<ConfigMap>>,
    pub ledger: AddressLedger,
    pub supply: Supply,
    /// The cluster the Service is of.
    pub cluster: String,
    /// Its pods are there, and none is ready.
    pub starting: bool,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Tell {
        about: Box<ObjectReference>,
        kind: EventKind,
        reason: &'static str,
        message: String,
    },
    /// A merge patch of the object ("") or its status ("/status").
    Patch {
        part: &'static str,
        patch: Value,
        preconditions: Preconditions,
    },
    WriteLedger {
        read: Option<Arc<ConfigMap>>,
        ledger: AddressLedger,
    },
}

impl ServiceController {
    pub fn runner(kit: &Kit, settings: Arc<ControllerSettings>) -> Runner<Self> {
        let (services, ledger, ports) = (kit.objects::<Service>(), LedgerObject::of(kit), NodePorts::of(kit, settings));
        let controller = Self { services: services.clone(), ledger: ledger.clone(), ports, events: kit.recorder("service-controller"), kit: kit.clone() };
        let (nodes, pods, by_nodes) = (controller.ports.nodes.clone(), controller.ports.pods.clone(), controller.ports.settings.pool.is_empty());
        // What one lets go another may wait for; with one worker, decisions come one after another.
        let (all, of_all) = (services.clone(), services.clone());
        let mut runner = Runner::new(controller)
            .workers(1)
            .watch_own(&services)
            .watch(&ledger.objects, move |change| waiting(&all).into_iter().chain(orphaned(&all, change.new.as_deref())).collect());
        if by_nodes {
            let balanced = move || {
                let all = of_all.all();
                all.into_iter().filter(|(_, service)| is_balanced(service)).map(|(key, _)| key).collect::<Vec<_>>()
            };
            runner = runner.watch(&nodes, move |change| if offers_change(change.old.as_deref(), change.new.as_deref()) { balanced() } else { Vec::new() });
        }
        runner.needs(&pods)
    }
}

impl ServiceController {
    /// Whether a new Service has pods of which none is ready yet.
    fn is_starting(&self, key: &ObjectKey, service: &Service) -> bool {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
        let (Some(created), Some(selector)) = (created, selector) else { return false };
        if !status_addresses(service).is_empty() || self.kit.now().duration_since(created) >= STARTING {
            return false;
        }
        let selected = |pod: &Pod| selector.iter().all(|(label, value)| pod.metadata.labels.as_ref().and_then(|labels| labels.get(label)) == Some(value));
        let pods = self.ports.pods.list(&key.cluster, Some(&key.namespace));
        let mut of_service = pods.iter().filter(|pod| selected(pod)).peekable();
        of_service.peek().is_some() && !of_service.any(|pod| is_ready(pod))
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

/// Services that may wait for an address.
fn waiting(services: &Objects<Service>) -> Vec<ObjectKey> {
    let without = |service: &Service| status_addresses(service).is_empty();
    services.all().into_iter().filter(|(_, service)| is_balanced(service) && without(service)).map(|(key, _)| key).collect()
}

/// Holders that are gone: a virtual cluster's Services go with it, also while no controller runs.
fn orphaned(services: &Objects<Service>, ledger: Option<&ConfigMap>) -> Vec<ObjectKey> {
    let ledger = ledger.map(AddressLedger::read).unwrap_or_default();
    let holders = ledger.grants.values().flat_map(|grant| grant.holders.keys()).filter_map(|holder| AddressLedger::service_of(holder));
    holders.filter(|service| services.get(service).is_none()).collect()
}

/// Whether the Service is for us: of type LoadBalancer, with our class or none, and to stay.
fn wants(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    is_balanced(service) && class.is_none_or(|class| class == LOAD_BALANCER_CLASS) && service.metadata.deletion_timestamp.is_none()
}

fn status_addresses(service: &Service) -> BTreeSet<Ipv4Addr> {
    let ingress = service.status.iter().flat_map(|status| &status.load_balancer).flat_map(|status| status.ingress.iter().flatten());
    ingress.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

/// The ports of a Service: all, and those that a process is to serve.
fn ports(service: &Service, wishes: Option<&Wishes>) -> (BTreeSet<String>, BTreeSet<String>) {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let all: BTreeSet<String> = ports.map(|port| format!("{}/{}", port.protocol.as_deref().unwrap_or("TCP"), port.port)).collect();
    let need_proxy = wishes.is_some_and(Wishes::need_proxy);
    let proxied = all.iter().filter(|port| need_proxy && port.starts_with("TCP/")).cloned().collect();
    (all, proxied)
}

fn request(world: &World, service: &Service) -> Result<Request, String> {
    let wishes = Wishes::of(&service.metadata)?;
    let spec = service.spec.as_ref();
    let families = spec.and_then(|spec| spec.ip_families.as_ref()).filter(|families| !families.is_empty());
    if families.is_some_and(|families| families.iter().all(|family| family != "IPv4")) {
        return Err("the Service has no IPv4 family, and there are IPv4 addresses only".into());
    }
    let asked = spec.and_then(|spec| spec.load_balancer_ip.as_deref()).filter(|text| !text.is_empty());
    let asked = asked.map(|text| text.parse().map_err(|_| format!("loadBalancerIP {text:?} is no IPv4 address"))).transpose()?;
    let (ports, proxied) = ports(service, Some(&wishes));
    let sharing_key = wishes.sharing_key.as_ref().map(|key| format!("{}/{key}", world.cluster));
    Ok(Request { holder: world.holder.clone(), ports, proxied, address: wishes.address.or(asked), sharing_key })
}

/// The id a load balancer has for as long as its Service lives.
fn load_balancer_id(service: &Service) -> String {
    let digest = Sha256::digest(service.metadata.uid.as_deref().unwrap_or_default());
    digest[..6].iter().fold("lb-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

#[async_trait]
impl Controller for ServiceController {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "fiberlb-services"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let ledger_object = self.ledger.get();
        let ledger = ledger_object.as_deref().map(AddressLedger::read).unwrap_or_default();
        let (holder, service) = (AddressLedger::service_holder(key), self.services.get(key));
        let held = ledger.grants.values().filter_map(|grant| grant.holders.get(&holder)).flat_map(|holding| holding.ports.iter().cloned()).collect();
        let supply = match service.as_deref().filter(|service| wants(service)) {
            Some(service) => self.ports.supply(&held, &ports(service, None).0),
            // Nothing will be asked of it.
            None => Supply::Nodes { addresses: BTreeSet::new(), taken: Default::default() },
        };
        let starting = service.as_deref().is_some_and(|service| self.is_starting(key, service));
        Some(World { holder, service, ledger_object, ledger, supply, cluster: key.cluster.to_string(), starting, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let write = |ledger: AddressLedger| Action::WriteLedger { read: world.ledger_object.clone(), ledger };
        let held = addresses_of(&world.ledger, &world.holder);
        let Some(service) = &world.service else {
            return if held.is_empty() { Plan::nothing() } else { vec![write(release(&world.ledger, &world.holder))].into() };
        };
        if !wants(service) {
            return let_go(world, service, &held, write);
        }
        match request(world, service) {
            Ok(request) => match allocate(&world.ledger, &request, &world.supply) {
                Ok(next) => give(world, service, next, write),
                Err(refusal) => refuse(world, service, refusal.reason(), &refusal.to_string()),
            },
            Err(why) => refuse(world, service, "Invalid", &why),
        }
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Tell { about, kind, reason, message } => self.events.record(&key.cluster, *about, kind, reason, message),
            Action::WriteLedger { read, ledger } => self.ledger.write(read.as_deref(), &ledger).await?,
            Action::Patch { part, patch, preconditions } => match self.services.patch(key, part, &patch, &preconditions).await {
                // Deleted meanwhile: its keys come again.
                Err(error) if error.is_not_found() => {}
                outcome => {
                    outcome?;
                }
            },
        }
        Ok(())
    }
}

fn tell(service: &Service, kind: EventKind, reason: &'static str, message: impl Into<String>) -> Action {
    Action::Tell { about: Box::new(reference(service)), kind, reason, message: message.into() }
}

fn patch_metadata(service: &Service, patch: Value) -> Action {
    Action::Patch { part: "", patch: json!({ "metadata": patch }), preconditions: Preconditions::exactly(&service.metadata) }
}

fn patch_status(service: &Service, patch: Value) -> Action {
    Action::Patch { part: "/status", patch: json!({ "status": patch }), preconditions: Preconditions::uid_of(&service.metadata) }
}

/// The conditions with ours saying this; `None` when it does already.
fn conditions(world: &World, service: &Service, status: &str, reason: &str, message: &str) -> Option<Value> {
    let known = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ours = known.clone().find(|condition| condition.type_ == CONDITION);
    if ours.is_some_and(|ours| ours.status == status && ours.reason == reason && ours.message == message) {
        return None;
    }
    let since = ours.filter(|ours| ours.status == status).map(|ours| ours.last_transition_time.clone()).unwrap_or_else(|| whole_seconds(world.now));
    let ours = json!({ "type": CONDITION, "status": status, "reason": reason, "message": message, "lastTransitionTime": since });
    let others = known.filter(|condition| condition.type_ != CONDITION).map(|condition| json!(condition));
    Some(others.chain([ours]).collect())
}

fn give(world: &World, service: &Service, next: AddressLedger, write: impl Fn(AddressLedger) -> Action) -> Plan<Action> {
    let given = addresses_of(&next, &world.holder);
    let mut actions = Vec::new();
    let mut metadata = json!({});
    if !has_finalizer(service) {
        let finalizers: Vec<&str> = service.metadata.finalizers.iter().flatten().map(String::as_str).chain([FINALIZER]).collect();
        metadata["finalizers"] = json!(finalizers);
    }
    let id = load_balancer_id(service);
    if service.metadata.annotations.as_ref().and_then(|all| all.get(LOAD_BALANCER_ID)) != Some(&id) {
        metadata["annotations"] = json!({ LOAD_BALANCER_ID: id });
    }
    if metadata.as_object().is_some_and(|fields| !fields.is_empty()) {
        actions.push(patch_metadata(service, metadata));
    }
    if next != world.ledger {
        actions.push(write(next));
    }
    let mut status = json!({});
    let untold = status_addresses(service) != given;
    if untold && !world.starting {
        let ingress: Vec<Value> = given.iter().map(|address| json!({ "ip": address, "ipMode": "VIP" })).collect();
        status["loadBalancer"] = json!({ "ingress": ingress });
    }
    let listed = given.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let Some(conditions) = conditions(world, service, "True", "AddressAllocated", &listed) {
        status["conditions"] = conditions;
    }
    if status.as_object().is_some_and(|fields| !fields.is_empty()) {
        actions.push(patch_status(service, status));
    }
    if !actions.is_empty() {
        actions.insert(0, tell(service, EventKind::Normal, "EnsuringLoadBalancer", "Ensuring load balancer"));
        actions.push(tell(service, EventKind::Normal, "EnsuredLoadBalancer", "Ensured load balancer"));
    }
    let mut plan: Plan<Action> = actions.into();
    if untold && world.starting {
        plan.look_again(STARTING_LOOK);
    }
    plan
}

/// The Service keeps what it has, if anything.
fn refuse(world: &World, service: &Service, reason: &str, message: &str) -> Plan<Action> {
    let mut plan = Plan::nothing();
    if let Some(conditions) = conditions(world, service, "False", reason, message) {
        plan.push(tell(
            service,
            EventKind::Warning,
            "SyncLoadBalancerFailed",
            format!("Error syncing load balancer: failed to ensure load balancer: {message}"),
        ));
        plan.push(patch_status(service, json!({ "conditions": conditions })));
    }
    if reason == "PortInUse" && matches!(world.supply, Supply::Nodes { .. }) {
        plan.look_again(LOOK_AGAIN);
    }
    plan
}

/// Takes back what a Service that is none of ours any more has.
fn let_go(world: &World, service: &Service, held: &BTreeSet<Ipv4Addr>, write: impl Fn(AddressLedger) -> Action) -> Plan<Action> {
    let finalized = has_finalizer(service);
    if held.is_empty() && !finalized {
        return Plan::nothing();
    }
    let mut actions = Vec::new();
    if finalized {
        actions.push(tell(service, EventKind::Normal, "DeletingLoadBalancer", "Deleting load balancer"));
    }
    if !held.is_empty() {
        actions.push(write(release(&world.ledger, &world.holder)));
    }
    if service.metadata.deletion_timestamp.is_none() {
        let others: Vec<Value> = service
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .filter(|condition| condition.type_ != CONDITION)
            .map(|condition| json!(condition))
            .collect();
        actions.push(patch_status(service, json!({ "loadBalancer": { "ingress": null }, "conditions": others })));
    }
    if finalized {
        let finalizers: Vec<&String> = service.metadata.finalizers.iter().flatten().filter(|name| *name != FINALIZER).collect();
        let patch = json!({ "metadata": { "finalizers": finalizers, "annotations": { LOAD_BALANCER_ID: null } } });
        // A change of its status before may have changed its version: who takes only his own out needs no more than the uid.
        actions.push(Action::Patch { part: "", patch, preconditions: Preconditions::uid_of(&service.metadata) });
        actions.push(tell(service, EventKind::Normal, "DeletedLoadBalancer", "Deleted load balancer"));
    }
    actions.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressPool;
    use controller_kit::converges;

    fn world(service: Value, pool: &str, ledger: AddressLedger) -> World {
        World {
            holder: "root:default/web".into(),
            service: Some(Arc::new(serde_json::from_value(service).unwrap())),
            ledger_object: None,
            ledger,
            supply: Supply::Pool(AddressPool::parse(&[pool]).unwrap()),
            cluster: "root".into(),
            starting: false,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn service(more: Value) -> Value {
        let mut service = json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "u-1" },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP" }] },
        });
        merge(&mut service, &more);
        service
    }

    fn merge(into: &mut Value, patch: &Value) {
        let (Value::Object(fields), Value::Object(changes)) = (&mut *into, patch) else {
            *into = patch.clone();
            return;
        };
        for (name, change) in changes {
            if change.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
    }

    fn apply(world: &mut World, action: Action) {
        match action {
            Action::Tell { .. } => {}
            Action::WriteLedger { ledger, .. } => world.ledger = ledger,
            Action::Patch { patch, .. } => {
                let mut value = serde_json::to_value(&**world.service.as_ref().unwrap()).unwrap();
                merge(&mut value, &patch);
                world.service = Some(Arc::new(serde_json::from_value(value).unwrap()));
            }
        }
    }

    fn settled(world: World) -> World {
        converges(world, 3, ServiceController::reconcile, apply)
    }

    fn told(world: &World) -> Vec<&'static str> {
        let actions = ServiceController::reconcile(world).actions;
        actions.iter().filter_map(|action| if let Action::Tell { reason, .. } = action { Some(*reason) } else { None }).collect()
    }

    #[test]
    fn an_address_is_held_at_once_and_told_when_somebody_is_behind_it() {
        let mut starting = world(service(json!({})), "192.0.2.50", AddressLedger::default());
        starting.starting = true;
        let mut world = settled(starting);
        assert!(!world.ledger.grants.is_empty() && status_addresses(world.service.as_ref().unwrap()).is_empty());
        assert_eq!(ServiceController::reconcile(&world).again_after, Some(STARTING_LOOK));
        world.starting = false;
        let world = settled(world);
        assert_eq!(status_addresses(world.service.as_ref().unwrap()).len(), 1);
        assert_eq!(ServiceController::reconcile(&world).again_after, None);
    }

    #[test]
    fn a_service_of_ipv6_alone_is_told_that_there_is_no_address_for_it() {
        let with = |families: &[&str]| {
            let service = service(json!({ "spec": { "ipFamilies": families } }));
            told(&world(service, "192.0.2.50", AddressLedger::default()))
        };
        assert_eq!(with(&["IPv6"]), ["SyncLoadBalancerFailed"]);
        assert_eq!(with(&["IPv6", "IPv4"]), ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]);
    }

    #[test]
    fn a_service_gets_an_address_and_gives_it_back() {
        let first = world(service(json!({})), "192.0.2.50-192.0.2.51", AddressLedger::default());
        assert_eq!(told(&first), ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]);
        let mut world = settled(first);
        let object = world.service.clone().unwrap();
        assert_eq!(status_addresses(&object), BTreeSet::from([[192, 0, 2, 50].into()]));
        assert!(has_finalizer(&object));
        assert!(object.metadata.annotations.as_ref().unwrap()[LOAD_BALANCER_ID].starts_with("lb-"));
        let mut value = serde_json::to_value(&*object).unwrap();
        value["spec"]["type"] = json!("ClusterIP");
        world.service = Some(Arc::new(serde_json::from_value(value).unwrap()));
        assert_eq!(told(&world), ["DeletingLoadBalancer", "DeletedLoadBalancer"]);
        let world = settled(world);
        let object = world.service.unwrap();
        assert!(world.ledger.grants.is_empty() && status_addresses(&object).is_empty() && !has_finalizer(&object));
    }

    #[test]
    fn a_deleted_service_is_held_until_its_address_is_back() {
        let mut world = settled(world(service(json!({})), "192.0.2.50", AddressLedger::default()));
        let mut value = serde_json::to_value(&**world.service.as_ref().unwrap()).unwrap();
        value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        world.service = Some(Arc::new(serde_json::from_value(value).unwrap()));
        let actions = ServiceController::reconcile(&world).actions;
        let (ledger, finalizer) = (
            actions.iter().position(|action| matches!(action, Action::WriteLedger { .. })).unwrap(),
            actions.iter().position(|action| matches!(action, Action::Patch { part: "", .. })).unwrap(),
        );
        assert!(ledger < finalizer, "first the address, then the finalizer: {actions:?}");
        world.service = None;
        assert!(settled(world).ledger.grants.is_empty(), "also one that is gone without a word");
    }

    #[test]
    fn what_cant_be_given_is_told_once_in_event_and_condition() {
        let mut ledger = AddressLedger::default();
        let other = Request { holder: "root:default/other".into(), ports: BTreeSet::from(["TCP/80".into()]), ..Request::default() };
        ledger = allocate(&ledger, &other, &Supply::Pool(AddressPool::parse(&["192.0.2.50"]).unwrap())).unwrap();
        let full = world(service(json!({})), "192.0.2.50", ledger);
        assert_eq!(told(&full), ["SyncLoadBalancerFailed"]);
        let full = settled(full);
        let condition = full.service.as_ref().unwrap().status.as_ref().unwrap().conditions.as_ref().unwrap()[0].clone();
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str(), condition.message.as_str()),
            ("False", "AddressPoolExhausted", "no address is free in the pool")
        );
        let freed = settled(World { ledger: AddressLedger::default(), ..full });
        assert_eq!(freed.service.as_ref().unwrap().status.as_ref().unwrap().conditions.as_ref().unwrap()[0].status, "True");
    }

    #[test]
    fn other_classes_are_others_and_bad_annotations_are_told() {
        let other = world(service(json!({ "spec": { "loadBalancerClass": "example.com/other" } })), "192.0.2.50", AddressLedger::default());
        assert_eq!(ServiceController::reconcile(&other).actions, []);
        let ours = world(service(json!({ "spec": { "loadBalancerClass": LOAD_BALANCER_CLASS } })), "192.0.2.50", AddressLedger::default());
        assert_eq!(told(&ours), ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]);
        let bad =
            world(service(json!({ "metadata": { "annotations": { "fiberlb.plasmacloud.io/algorithm": "magic" } } })), "192.0.2.50", AddressLedger::default());
        let Some(Action::Tell { message, .. }) = ServiceController::reconcile(&bad).actions.into_iter().next() else { panic!("nothing is told") };
        assert!(
            message.ends_with("annotation \"fiberlb.plasmacloud.io/algorithm\" is \"magic\", which is not one of \"round-robin\", \"least-conn\", \"ip-hash\""),
            "{message}"
        );
        settled(bad);
    }

    #[test]
    fn what_needs_a_process_is_said_in_the_ledger() {
        let more = json!({
            "metadata": { "annotations": { "fiberlb.plasmacloud.io/health-check-path": "/health" } },
            "spec": { "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }] },
        });
        let world = settled(world(service(more), "192.0.2.50", AddressLedger::default()));
        let holding = &world.ledger.grants[&Ipv4Addr::new(192, 0, 2, 50)].holders["root:default/web"];
        assert_eq!((holding.ports.len(), &holding.proxied), (2, &BTreeSet::from(["TCP/80".to_owned()])));
    }
}
