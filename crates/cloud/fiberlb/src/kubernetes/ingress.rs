//! Ingresses: sees to it that their address is there while there are any, and tells it, and what hosts are another's.
use super::ledger::LedgerObject;
use super::node_ports::{NodePorts, offers_change};
use crate::ControllerSettings;
use crate::allocation::{Request, Supply, addresses_of, allocate, release};
use crate::ingress_annotations::wrongs;
use crate::ingress_plan::{self, is_ours};
use crate::node::controller_of;
use crate::plan::{INGRESS_HOLDER, INGRESS_PORTS};
use api_cache::{AddressLedger, Change};
use controller_kit::{Controller, Error, EventKind, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, reference};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// Written by the controller: hosts of the Ingress that another cluster has.
const REFUSED_HOSTS: &str = "fiberlb.plasmacloud.io/refused-hosts";
/// Nobody tells when a process of the node lets a port go.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

pub struct IngressController {
    ingresses: Objects<Ingress>,
    classes: Objects<IngressClass>,
    ledger: LedgerObject,
    ports: NodePorts,
    events: Recorder,
}

pub struct World {
    pub ingress: Option<Arc<Ingress>>,
    pub is_ours: bool,
    /// Whether there is any that is ours.
    pub any: bool,
    /// Hosts of it that another cluster has; "" is every host.
    pub refused: BTreeSet<String>,
    pub ledger_object: Option<Arc<ConfigMap>>,
    pub ledger: AddressLedger,
    pub supply: Supply,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Tell { ingress: Arc<Ingress>, reason: &'static str, message: String },
    Patch { part: &'static str, patch: Value, preconditions: Preconditions },
    WriteLedger { read: Option<Arc<ConfigMap>>, ledger: AddressLedger },
}

impl IngressController {
    pub fn runner(kit: &Kit, settings: Arc<ControllerSettings>) -> Runner<Self> {
        let (ingresses, classes) = (kit.objects::<Ingress>(), kit.objects::<IngressClass>());
        let (ledger, ports) = (LedgerObject::of(kit), NodePorts::of(kit, settings));
        let (nodes, pods, by_nodes) = (ports.nodes.clone(), ports.pods.clone(), ports.settings.pool.is_empty());
        let controller =
            Self { ingresses: ingresses.clone(), classes: classes.clone(), ledger: ledger.clone(), ports, events: kit.recorder("fiberlb-ingress-controller") };
        let all = {
            let ingresses = ingresses.clone();
            move || ingresses.all().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let (for_class, for_ledger, for_node, for_own) = (all.clone(), all.clone(), all.clone(), all);
        let own = move |change: &Change<Ingress>| {
            let spec = |ingress: &Option<Arc<Ingress>>| ingress.as_ref().map(|ingress| (ingress.spec.clone(), ingress.metadata.deletion_timestamp.clone()));
            // Whose a host is depends on all of them.
            let mut keys = if spec(&change.old) == spec(&change.new) { Vec::new() } else { for_own() };
            keys.push(change.key.clone());
            keys
        };
        let runner = Runner::new(controller).workers(1).watch(&ingresses, own).watch(&classes, move |_| for_class()).watch(&ledger.objects, move |change| {
            // The ledger's own key stands for no Ingress: it is looked at also where there is none any more.
            for_ledger().into_iter().chain([change.key.clone()]).collect()
        });
        if !by_nodes {
            return runner;
        }
        runner.needs(&pods).watch(&nodes, move |change| if offers_change(change.old.as_deref(), change.new.as_deref()) { for_node() } else { Vec::new() })
    }

    fn is_ours(&self, key: &ObjectKey, ingress: &Ingress) -> bool {
        is_ours(ingress, |class| controller_of(&self.classes, key, class))
    }
}

fn status_addresses(ingress: &Ingress) -> BTreeSet<Ipv4Addr> {
    let all = ingress.status.iter().flat_map(|status| &status.load_balancer).flat_map(|status| status.ingress.iter().flatten());
    all.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

fn request() -> Request {
    let ports: BTreeSet<String> = INGRESS_PORTS.iter().map(|port| (*port).to_owned()).collect();
    Request { holder: INGRESS_HOLDER.into(), proxied: ports.clone(), ports, ..Request::default() }
}

#[async_trait]
impl Controller for IngressController {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "fiberlb-ingresses"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let ours: Vec<(ObjectKey, Arc<Ingress>)> = self.ingresses.all().into_iter().filter(|(key, ingress)| self.is_ours(key, ingress)).collect();
        let refused = ingress_plan::plan(&ours).refused.remove(key).unwrap_or_default();
        let ledger_object = self.ledger.get();
        let ledger = ledger_object.as_deref().map(AddressLedger::read).unwrap_or_default();
        let held = ledger.grants.values().filter_map(|grant| grant.holders.get(INGRESS_HOLDER)).flat_map(|holding| holding.ports.iter().cloned()).collect();
        let supply = self.ports.supply(&held, &request().ports);
        let ingress = self.ingresses.get(key);
        let is_ours = ours.iter().any(|(ours, _)| ours == key);
        let any = ours.iter().any(|(_, ingress)| ingress.metadata.deletion_timestamp.is_none());
        Some(World { ingress, is_ours, any, refused, ledger_object, ledger, supply })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let write = |ledger: AddressLedger| Action::WriteLedger { read: world.ledger_object.clone(), ledger };
        let mut plan = Plan::nothing();
        if !world.any && !addresses_of(&world.ledger, INGRESS_HOLDER).is_empty() {
            plan.push(write(release(&world.ledger, INGRESS_HOLDER)));
        }
        let Some(ingress) = world.ingress.as_ref().filter(|ingress| ingress.metadata.deletion_timestamp.is_none()) else { return plan };
        if !world.is_ours {
            return plan;
        }
        for message in wrongs(ingress) {
            plan.push(Action::Tell { ingress: ingress.clone(), reason: "InvalidAnnotation", message });
        }
        let told = ingress.metadata.annotations.as_ref().and_then(|all| all.get(REFUSED_HOSTS)).cloned();
        let refused = world.refused.iter().map(|host| if host.is_empty() { "*" } else { host }).collect::<Vec<_>>().join(",");
        if told.clone().unwrap_or_default() != refused {
            if !refused.is_empty() {
                let message = format!("requests for {refused:?} are not led here: an older Ingress of another cluster has what they ask for");
                plan.push(Action::Tell { ingress: ingress.clone(), reason: "HostRefused", message });
            }
            let value = if refused.is_empty() { Value::Null } else { json!(refused) };
            let patch = json!({ "metadata": { "annotations": { REFUSED_HOSTS: value } } });
            plan.push(Action::Patch { part: "", patch, preconditions: Preconditions::uid_of(&ingress.metadata) });
        }
        let given = match allocate(&world.ledger, &request(), &world.supply) {
            Ok(next) => {
                let given = addresses_of(&next, INGRESS_HOLDER);
                if next != world.ledger {
                    plan.push(write(next));
                }
                given
            }
            Err(refusal) => {
                plan.push(Action::Tell { ingress: ingress.clone(), reason: "SyncLoadBalancerFailed", message: format!("no address for Ingresses: {refusal}") });
                plan.look_again(LOOK_AGAIN);
                return plan;
            }
        };
        if status_addresses(ingress) != given {
            let all: Vec<Value> = given.iter().map(|address| json!({ "ip": address })).collect();
            let patch = json!({ "status": { "loadBalancer": { "ingress": all } } });
            plan.push(Action::Patch { part: "/status", patch, preconditions: Preconditions::uid_of(&ingress.metadata) });
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Tell { ingress, reason, message } => self.events.record(&key.cluster, reference(&*ingress), EventKind::Warning, reason, message),
            Action::WriteLedger { read, ledger } => self.ledger.write(read.as_deref(), &ledger).await?,
            Action::Patch { part, patch, preconditions } => match self.ingresses.patch(key, part, &patch, &preconditions).await {
                // Deleted meanwhile.
                Err(error) if error.is_not_found() => {}
                outcome => {
                    outcome?;
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressPool;
    use controller_kit::converges;

    fn world(any: bool, ingress: Option<Value>) -> World {
        let ingress = ingress.map(|ingress| Arc::new(serde_json::from_value(ingress).unwrap()));
        let supply = Supply::Pool(AddressPool::parse(&["192.0.2.50"]).unwrap());
        World { is_ours: ingress.is_some(), ingress, any, refused: BTreeSet::new(), ledger_object: None, ledger: AddressLedger::default(), supply }
    }

    /// Does what is asked for, and gives how many words that took.
    fn settle(world: World) -> (World, usize) {
        let mut words = 0;
        let end = converges(world, 2, IngressController::reconcile, |world, action| match action {
            Action::Tell { .. } => words += 1,
            Action::WriteLedger { ledger, .. } => world.ledger = ledger,
            Action::Patch { patch, .. } => {
                let mut ingress = serde_json::to_value(&world.ingress).unwrap();
                merge(&mut ingress, &patch);
                world.ingress = serde_json::from_value::<Ingress>(ingress).ok().map(Arc::new);
            }
        });
        (end, words)
    }

    fn merge(into: &mut Value, patch: &Value) {
        match patch {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| merge(&mut into[name], value));
                into.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            }
            value => *into = value.clone(),
        }
    }

    #[test]
    fn the_address_is_there_while_there_are_ingresses() {
        let (first, _) = settle(world(true, Some(json!({ "metadata": { "name": "i" } }))));
        let status = serde_json::to_value(&first.ingress.as_ref().unwrap().status).unwrap();
        assert_eq!(status["loadBalancer"]["ingress"], json!([{ "ip": "192.0.2.50" }]));
        let (last, _) = settle(World { ledger: first.ledger, ..world(false, None) });
        assert_eq!(last.ledger, AddressLedger::default());
    }

    #[test]
    fn a_refused_host_is_told_once() {
        let mut world = world(true, Some(json!({ "metadata": { "name": "i" } })));
        world.refused.insert("a.example.com".into());
        let actions = IngressController::reconcile(&world).actions;
        assert!(matches!(&actions[0], Action::Tell { reason: "HostRefused", .. }) && matches!(&actions[1], Action::Patch { part: "", .. }), "{actions:?}");
        let (mut told, words) = settle(world);
        let annotation = |world: &World| world.ingress.as_ref().unwrap().metadata.annotations.as_ref().and_then(|all| all.get(REFUSED_HOSTS).cloned());
        assert_eq!((annotation(&told).as_deref(), words), (Some("a.example.com"), 1));
        told.refused.clear();
        let (free, words) = settle(told);
        assert_eq!((annotation(&free).unwrap_or_default(), words), (String::new(), 0));
    }
}
