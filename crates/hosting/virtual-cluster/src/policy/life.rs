//! Life of a policy: it holds itself until its namespaces are let go, and says that it is in force.
use super::binding::labels;
use crate::cluster::{BY_POLICY, policy_of};
use crate::kinds::{MANAGER, Policy};
use crate::names::{POLICY_FINALIZER, POLICY_LABEL};
use crate::status::{self, TERMINATING, host};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};
use std::sync::Arc;

const IN_FORCE: (&str, &str) = ("Applied", "Policy is applied to its namespaces");
const GOING: &str = "Policy is being terminated";

pub struct Lives {
    policies: Objects<Policy>,
    namespaces: Objects<Namespace>,
    kit: Kit,
}

pub struct World {
    pub policy: Arc<Policy>,
    pub bound: Vec<Arc<Namespace>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Finalizers(Vec<String>),
    Status(Value),
    /// Patches a namespace's metadata so that it is bound no more.
    Unbind {
        namespace: String,
        metadata: Value,
    },
}

pub fn runner(kit: &Kit, policies: &Objects<Policy>) -> Runner<Lives> {
    let kit = kit.managed_by(MANAGER);
    let namespaces = kit.objects::<Namespace>();
    namespaces.add_index(BY_POLICY, |namespace| policy_of(namespace).map(str::to_owned).into_iter().collect());
    Runner::new(Lives { policies: policies.clone(), namespaces: namespaces.clone(), kit }).workers(1).watch_own(policies).needs(&namespaces)
}

#[async_trait]
impl Controller for Lives {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "k3k-policy-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        Some(World { policy: self.policies.get(key)?, bound: self.namespaces.by_index(BY_POLICY, &host(), &key.name), now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Finalizers(finalizers) => {
                self.policies.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::default()).await?;
            }
            Action::Status(status) => {
                self.policies.patch(key, "/status", &json!({ "status": status }), &Preconditions::default()).await?;
            }
            Action::Unbind { namespace, metadata } => {
                let key = ObjectKey::new(&host(), "", &namespace);
                match self.namespaces.patch(&key, "", &json!({ "metadata": metadata }), &Preconditions::default()).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let metadata = &world.policy.metadata;
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|name| name == POLICY_FINALIZER);
    let mut plan = Plan::nothing();
    if metadata.deletion_timestamp.is_some() {
        if held {
            tell(&mut plan, world, false, (TERMINATING, GOING));
            plan.actions.extend(world.bound.iter().map(|namespace| unbind(namespace)));
            plan.push(Action::Finalizers(finalizers.into_iter().filter(|name| name != POLICY_FINALIZER).collect()));
        }
        return plan;
    }
    if !held {
        plan.push(Action::Finalizers(finalizers.into_iter().chain([POLICY_FINALIZER.to_owned()]).collect()));
    }
    tell(&mut plan, world, true, IN_FORCE);
    plan
}

fn unbind(namespace: &Namespace) -> Action {
    let mut patch = labels(namespace, None).unwrap_or_else(|| json!({}));
    patch["labels"][POLICY_LABEL] = Value::Null;
    Action::Unbind { namespace: namespace.metadata.name.clone().unwrap_or_default(), metadata: patch }
}

fn tell(plan: &mut Plan<Action>, world: &World, holds: bool, (reason, message): (&str, &str)) {
    let (status, generation) = (&world.policy.status, world.policy.metadata.generation);
    if status::says(&status.conditions, holds, reason, message, generation) {
        return;
    }
    let condition = status::ready(&status.conditions, holds, reason, message, generation, world.now);
    plan.push(Action::Status(json!({"observedGeneration": generation, "lastUpdateTime": clock::rfc3339_seconds(world.now), "conditions": [condition]})));
}
