//! A claim's users: those that are done are taken off it, the last one with the devices, and what was made for a pod goes with it.
use super::{FINALIZER, claims_of, is_done, pod_of};
use crate::owners;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

pub struct ClaimUsers {
    pods: Objects<Pod>,
    claims: Objects<ResourceClaim>,
}

/// All a decision may see.
pub struct World {
    pub key: ObjectKey,
    pub claim: Arc<ResourceClaim>,
    /// The pods it is reserved for and the one it was made for, by name.
    pub pods: HashMap<String, Arc<Pod>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// These still use it; without any, its devices are anybody's again.
    SetUsers(Vec<ResourceClaimConsumerReference>),
    /// Nobody uses it, and it is to go.
    Deallocate,
    RemoveFinalizer,
    /// It was made for a pod that is done.
    Delete,
}

pub fn runner(kit: &Kit) -> Runner<ClaimUsers> {
    let (pods, claims) = (kit.objects::<Pod>(), kit.objects::<ResourceClaim>());
    Runner::new(ClaimUsers { pods: pods.clone(), claims: claims.clone() }).watch_own(&claims).watch(&pods, |change| {
        let (Some(pod), key) = (change.old.as_ref().or(change.new.as_ref()), &change.key) else { return Vec::new() };
        // Only its end lets go of claims; a name that another pod has by now is the end of the first.
        let ends = change.new.as_ref().is_none_or(|new| is_done(new) || new.metadata.uid != pod.metadata.uid);
        if !ends {
            return Vec::new();
        }
        claims_of(pod).into_iter().map(|claim| ObjectKey::new(&key.cluster, &key.namespace, claim)).collect()
    })
}

#[async_trait]
impl Controller for ClaimUsers {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "resource-claim-users-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let claim = self.claims.get(key)?;
        let users = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten()).filter_map(|user| pod_of(key, user));
        let owner = owners::controller_of(&claim.metadata).map(|owner| ObjectKey::new(&key.cluster, &key.namespace, &owner.name));
        let pods = users.chain(owner).filter_map(|pod| Some((pod.name.to_string(), self.pods.get(&pod)?))).collect();
        Some(World { key: key.clone(), claim, pods })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { key, claim, pods } = world;
        let status = claim.status.clone().unwrap_or_default();
        let users = status.reserved_for.unwrap_or_default();
        let still = |user: &&ResourceClaimConsumerReference| {
            // Others than pods look after their reservations themselves.
            pod_of(key, user).is_none_or(|pod| pods.get(&*pod.name).is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&user.uid) && !is_done(pod)))
        };
        let left: Vec<ResourceClaimConsumerReference> = users.iter().filter(still).cloned().collect();
        let mut plan = Plan::nothing();
        let is_going = claim.metadata.deletion_timestamp.is_some();
        let is_protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let (is_used, has_lost) = (!left.is_empty(), left.len() < users.len());
        // Before the devices: what is left of this by a crash is done again, as long as there are users to take off. One that is
        // allocated, and that nobody has come to or gone from, waits for its next user.
        if !is_used && is_protected && (is_going || has_lost) {
            plan.push(Action::RemoveFinalizer);
        }
        if has_lost {
            plan.push(Action::SetUsers(left));
        } else if !is_used && is_going && status.allocation.is_some() {
            plan.push(Action::Deallocate);
        }
        if !is_used && !is_going && was_made_for_done_pod(claim, pods) {
            plan.push(Action::Delete);
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(()) };
        let exactly = Preconditions::exactly(&claim.metadata);
        let status = match action {
            Action::SetUsers(users) if users.is_empty() => json!({"reservedFor": null, "allocation": null, "devices": null}),
            Action::SetUsers(users) => json!({"reservedFor": users}),
            Action::Deallocate => json!({"allocation": null, "devices": null}),
            Action::RemoveFinalizer => {
                let left: Vec<&String> = claim.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).collect();
                return unless_gone(self.claims.patch(key, "", &json!({"metadata": {"finalizers": left}}), &exactly).await);
            }
            Action::Delete => {
                return self.claims.delete(key, &Deletion { preconditions: Preconditions::uid_of(&claim.metadata), ..Default::default() }).await;
            }
        };
        unless_gone(self.claims.patch(key, "/status", &json!({"status": status}) as &Value, &exactly).await)
    }
}

/// One that was to go is gone with its finalizer.
fn unless_gone<T>(written: Result<T, Error>) -> Result<(), Error> {
    written.map(drop).or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

/// Whether a claim was made for a pod that is there still, but done. What is left of pods that are gone is the garbage collector's.
fn was_made_for_done_pod(claim: &ResourceClaim, pods: &HashMap<String, Arc<Pod>>) -> bool {
    let owner = owners::controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod" && owner.api_version == "v1");
    owner.is_some_and(|owner| pods.get(&owner.name).is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&owner.uid) && is_done(pod)))
}
