//! The claims of a pod: made from its templates, named in its status, and reserved where no scheduler did.
use super::{MOST_USERS, POD_CLAIM, claims_of, has_claims, is_done};
use crate::owners;
use crate::pods::{name, node_name};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use k8s_openapi::api::core::v1::{Pod, PodResourceClaimStatus};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

pub struct PodClaims {
    pods: Objects<Pod>,
    claims: Objects<ResourceClaim>,
    templates: Objects<ResourceClaimTemplate>,
    events: Recorder,
}

/// All a decision may see.
pub struct World {
    pub pod: Arc<Pod>,
    /// The namespace's claims that are the pod's own, and those it names.
    pub claims: Vec<Arc<ResourceClaim>>,
    /// By name.
    pub templates: HashMap<String, Arc<ResourceClaimTemplate>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<ResourceClaim>),
    /// The claims that were made, by the names the pod has for them.
    Tell(Vec<PodResourceClaimStatus>),
    /// A pod that no scheduler placed uses what is allocated already.
    Reserve {
        claim: String,
        users: Vec<ResourceClaimConsumerReference>,
    },
    Warn {
        message: String,
    },
}

pub fn runner(kit: &Kit) -> Runner<PodClaims> {
    let (pods, claims, templates) = (kit.objects::<Pod>(), kit.objects::<ResourceClaim>(), kit.objects::<ResourceClaimTemplate>());
    claims.add_index(owners::BY_CONTROLLER, owners::by_controller);
    let controller = PodClaims { pods: pods.clone(), claims: claims.clone(), templates: templates.clone(), events: kit.recorder("resource_claim") };
    let waiting = pods.clone();
    Runner::new(controller)
        .watch(&pods, |change| {
            let cares = change.new.as_ref().is_some_and(|pod| has_claims(pod));
            if cares { vec![change.key.clone()] } else { Vec::new() }
        })
        .watch(&claims, |change| {
            // One that went is made again, and one that got devices may be waited for.
            let claim = change.new.as_ref().or(change.old.as_ref());
            let owner = claim.and_then(|claim| owners::controller_of(&claim.metadata)).filter(|owner| owner.kind == "Pod" && owner.api_version == "v1");
            owner.map(|owner| ObjectKey::new(&change.key.cluster, &change.key.namespace, &owner.name)).into_iter().collect()
        })
        .watch(&templates, move |change| {
            let cluster = &change.key.cluster;
            let uses = |pod: &Pod| {
                let mut claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
                claims.any(|claim| claim.resource_claim_template_name.as_deref() == Some(&*change.key.name))
            };
            let all = waiting.list(cluster, Some(&change.key.namespace));
            all.iter().filter(|pod| uses(pod)).map(|pod| ObjectKey::new(cluster, &change.key.namespace, name(pod))).collect()
        })
}

#[async_trait]
impl Controller for PodClaims {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "resource-claim-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let pod = self.pods.get(key).filter(|pod| has_claims(pod))?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut claims = self.claims.by_index(owners::BY_CONTROLLER, &key.cluster, &uid);
        let named = claims_of(&pod).into_iter().filter_map(|claim| self.claims.get(&ObjectKey::new(&key.cluster, &key.namespace, claim)));
        for claim in named {
            if !claims.iter().any(|known| known.metadata.uid == claim.metadata.uid) {
                claims.push(claim);
            }
        }
        let templates = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()).filter_map(|claim| claim.resource_claim_template_name.clone());
        let templates = templates.filter_map(|name| Some((name.clone(), self.templates.get(&ObjectKey::new(&key.cluster, &key.namespace, &name))?)));
        Some(World { templates: templates.collect(), claims, pod })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { pod, claims, templates } = world;
        let mut plan = Plan::nothing();
        if is_done(pod) || pod.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let known: Vec<PodResourceClaimStatus> = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten()).cloned().collect();
        let mut told = known.clone();
        for wanted in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
            let Some(template) = &wanted.resource_claim_template_name else { continue };
            let is_for_it = |claim: &&Arc<ResourceClaim>| {
                let of = claim.metadata.annotations.as_ref().and_then(|all| all.get(POD_CLAIM));
                owners::is_controlled_by(&claim.metadata, uid) && of == Some(&wanted.name)
            };
            match (claims.iter().find(is_for_it), templates.get(template)) {
                (Some(made), _) => {
                    let made = PodResourceClaimStatus { name: wanted.name.clone(), resource_claim_name: made.metadata.name.clone() };
                    if !told.contains(&made) {
                        told.retain(|other| other.name != made.name);
                        told.push(made);
                    }
                }
                (None, Some(template)) => plan.push(Action::Create(Box::new(claim(pod, &wanted.name, template)))),
                (None, None) => {
                    let why = format!("resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found");
                    plan.push(Action::Warn { message: format!("PodResourceClaim {}: {why}", wanted.name) });
                }
            }
        }
        if told != known {
            plan.push(Action::Tell(told));
        }
        if !node_name(pod).is_empty() {
            reserve(world, uid, &mut plan);
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        match action {
            Action::Create(claim) => self.claims.create(&key.cluster, &claim).await.map(drop),
            Action::Tell(told) => {
                let patch = json!({"status": {"resourceClaimStatuses": told}});
                self.pods.patch(key, "/status", &patch, &Preconditions::uid_of(&pod.metadata)).await.map(drop)
            }
            Action::Reserve { claim, users } => {
                let key = ObjectKey::new(&key.cluster, &key.namespace, &claim);
                let Some(claim) = self.claims.get(&key) else { return Ok(()) };
                self.claims.patch(&key, "/status", &json!({"status": {"reservedFor": users}}), &Preconditions::exactly(&claim.metadata)).await.map(drop)
            }
            Action::Warn { message } => {
                self.events.warning(&key.cluster, &*pod, "FailedResourceClaimCreation", message.clone());
                Err(Error::NotYet(message))
            }
        }
    }

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        if !matches!(error, Error::NotYet(_)) && !error.is_namespace_terminating() && !error.is_conflict() {
            self.events.warning(&key.cluster, &*world.pod, "FailedResourceClaimCreation", error.to_string());
        }
    }
}

/// Claims that have devices are the pod's, too, though no scheduler has said so.
fn reserve(world: &World, uid: &str, plan: &mut Plan<Action>) {
    let pod = &world.pod;
    let names = claims_of(pod);
    for claim in &world.claims {
        let claim_name = claim.metadata.name.as_deref().unwrap_or_default();
        let status = claim.status.clone().unwrap_or_default();
        let mut users = status.reserved_for.unwrap_or_default();
        let is_ours = users.iter().any(|user| user.uid == uid);
        if !names.contains(&claim_name) || status.allocation.is_none() || claim.metadata.deletion_timestamp.is_some() || is_ours || users.len() >= MOST_USERS {
            continue;
        }
        users.push(ResourceClaimConsumerReference { resource: "pods".into(), name: name(pod).to_owned(), uid: uid.to_owned(), api_group: None });
        plan.push(Action::Reserve { claim: claim_name.to_owned(), users });
    }
}

/// What a template makes for a claim of a pod. Names may be cut, so that the API's part always fits.
fn claim(pod: &Pod, wanted: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    const LONGEST_PART: usize = 28;
    let cut = |text: &str, longest: usize| text.chars().take(longest).collect::<String>();
    let base = format!("{}-{wanted}", name(pod));
    let base = if base.len() > 57 { format!("{}-{}", cut(name(pod), 57 - 1 - wanted.len().min(LONGEST_PART)), cut(wanted, LONGEST_PART)) } else { base };
    let template = template.spec.clone().unwrap_or_default();
    let from = template.metadata.unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.into(), wanted.to_owned());
    let metadata = ObjectMeta {
        generate_name: Some(format!("{base}-")),
        namespace: pod.metadata.namespace.clone(),
        labels: from.labels,
        annotations: Some(annotations),
        owner_references: Some(vec![owners::controller_reference(pod)]),
        ..Default::default()
    };
    ResourceClaim { metadata, spec: template.spec, status: None }
}
