//! Binding: a namespace has what its policy says, and nothing of a policy it is not bound to.
use super::objects::{SORTS, Sort, wanted};
use crate::cluster::policy_of;
use crate::effective::level;
use crate::kinds::{self, MANAGER, Policy};
use crate::names::{MANAGED_BY, POLICY_CONTROLLER};
use crate::status::host;
use api_client::PodSecurityLevel;
use controller_kit::{Change, Controller, Deletion, Error, Kind, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, same};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The annotation of a namespace whose Pod Security labels are a policy's: they go with the binding.
pub const LEVEL_BY_POLICY: &str = "policy.k3k.io/pod-security-admission-level";
const LABELS: [&str; 4] = [
    "pod-security.kubernetes.io/enforce",
    "pod-security.kubernetes.io/enforce-version",
    "pod-security.kubernetes.io/warn",
    "pod-security.kubernetes.io/warn-version",
];

pub struct Bindings {
    namespaces: Objects<Namespace>,
    policies: Objects<Policy>,
    quotas: Objects<ResourceQuota>,
    limits: Objects<LimitRange>,
    networks: Objects<NetworkPolicy>,
    cluster_cidrs: Arc<[IpNet]>,
}

pub struct World {
    pub namespace: Arc<Namespace>,
    /// The one it is bound to, unless that is gone or going.
    pub policy: Option<Arc<Policy>>,
    /// What policies have made in the namespace.
    pub found: Vec<(Sort, Value)>,
    pub cluster_cidrs: Arc<[IpNet]>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Write(Sort, Write),
    /// Patches the namespace's metadata.
    Namespace(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create(Value),
    Replace(Value),
    Delete(Value),
}

pub fn runner(kit: &Kit, policies: &Objects<Policy>, cluster_cidrs: &[IpNet]) -> Runner<Bindings> {
    let kit = kit.managed_by(MANAGER);
    let (namespaces, quotas) = (kit.objects::<Namespace>(), kit.objects::<ResourceQuota>());
    let (limits, networks) = (kinds::of_host::<LimitRange>(&kit, None), kinds::of_host::<NetworkPolicy>(&kit, None));
    let controller = Bindings {
        namespaces: namespaces.clone(),
        policies: policies.clone(),
        quotas: quotas.clone(),
        limits: limits.clone(),
        networks: networks.clone(),
        cluster_cidrs: cluster_cidrs.into(),
    };
    let all = namespaces.clone();
    Runner::new(controller)
        .workers(2)
        .watch(&namespaces, |change| {
            let metadata = |namespace: Option<&Arc<Namespace>>| namespace.map(|n| (n.metadata.labels.clone(), n.metadata.annotations.clone()));
            let news = change.key.cluster.is_root() && metadata(change.old.as_ref()) != metadata(change.new.as_ref());
            if news { vec![change.key.clone()] } else { Vec::new() }
        })
        .watch(policies, move |change| {
            let bound = all.list(&host(), None).into_iter().filter(|namespace| policy_of(namespace) == Some(&*change.key.name));
            bound.map(|namespace| ObjectKey::of(&host(), &namespace.metadata)).collect()
        })
        .watch(&quotas, of_policies)
        .watch(&limits, of_policies)
        .watch(&networks, of_policies)
}

/// The namespace of an object that a policy made.
fn of_policies<K: Kind>(change: &Change<K>) -> Vec<ObjectKey> {
    let ours = change.key.cluster.is_root() && [&change.old, &change.new].into_iter().flatten().any(|object| is_ours(&**object));
    if ours { vec![ObjectKey::new(&host(), "", &change.key.namespace)] } else { Vec::new() }
}

fn is_ours<K: Kind>(object: &K) -> bool {
    object.metadata().labels.as_ref().is_some_and(|labels| labels.get(MANAGED_BY).is_some_and(|by| by == POLICY_CONTROLLER))
}

#[async_trait]
impl Controller for Bindings {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "k3k-policy-binding-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let namespace = self.namespaces.get(key)?;
        let policy = policy_of(&namespace).and_then(|name| self.policies.get(&ObjectKey::new(&host(), "", name)));
        let policy = policy.filter(|policy| policy.metadata.deletion_timestamp.is_none());
        let mut found = Vec::new();
        collect(&self.quotas, Sort::Quota, &key.name, &mut found);
        collect(&self.limits, Sort::Limits, &key.name, &mut found);
        collect(&self.networks, Sort::Network, &key.name, &mut found);
        Some(World { namespace, policy, found, cluster_cidrs: self.cluster_cidrs.clone() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Namespace(metadata) => {
                self.namespaces.patch(key, "", &json!({ "metadata": metadata }), &Preconditions::default()).await?;
                Ok(())
            }
            Action::Write(Sort::Quota, action) => write(&self.quotas, action, key).await,
            Action::Write(Sort::Limits, action) => write(&self.limits, action, key).await,
            Action::Write(Sort::Network, action) => write(&self.networks, action, key).await,
        }
    }
}

fn collect<K: Kind>(objects: &Objects<K>, sort: Sort, namespace: &str, into: &mut Vec<(Sort, Value)>) {
    let ours = objects.list(&host(), Some(namespace)).into_iter().filter(|object| is_ours(&**object));
    into.extend(ours.filter_map(|object| Some((sort, serde_json::to_value(&*object).ok()?))));
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let metadata = &world.namespace.metadata;
    if metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let namespace = metadata.name.as_deref().unwrap_or_default();
    for sort in SORTS {
        let wanted = world.policy.as_deref().and_then(|policy| wanted(sort, policy, namespace, &world.cluster_cidrs));
        let mut there = false;
        for (_, found) in world.found.iter().filter(|(other, _)| *other == sort) {
            match &wanted {
                Some(wanted) if wanted["metadata"]["name"] == found["metadata"]["name"] => {
                    there = true;
                    if let Some(right) = mended(wanted, found) {
                        plan.push(Action::Write(sort, Write::Replace(right)));
                    }
                }
                _ => plan.push(Action::Write(sort, Write::Delete(found.clone()))),
            }
        }
        if let (Some(wanted), false) = (wanted, there) {
            plan.push(Action::Write(sort, Write::Create(wanted)));
        }
    }
    let level = world.policy.as_ref().and_then(|policy| policy.spec.pod_security_admission_level);
    if let Some(patch) = labels(&world.namespace, level) {
        plan.push(Action::Namespace(patch));
    }
    plan
}

/// What was found, with what the policy says; `None` when it says so already.
fn mended(wanted: &Value, found: &Value) -> Option<Value> {
    let parts = ["/spec", "/metadata/labels", "/metadata/ownerReferences"];
    let right = |pointer: &&str| same(wanted.pointer(pointer).unwrap_or(&Value::Null), found.pointer(pointer).unwrap_or(&Value::Null));
    if parts.iter().all(right) {
        return None;
    }
    let mut mended = found.clone();
    mended["spec"] = wanted["spec"].clone();
    mended["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
    mended["metadata"]["ownerReferences"] = wanted["metadata"]["ownerReferences"].clone();
    Some(mended)
}

/// The patch that gives a namespace its Pod Security labels, or takes away those a policy gave it.
pub fn labels(namespace: &Namespace, of_policy: Option<PodSecurityLevel>) -> Option<Value> {
    let text = |map: &Option<std::collections::BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|map| map.get(key)).cloned();
    let given = text(&namespace.metadata.annotations, LEVEL_BY_POLICY);
    if given.is_none() && of_policy.is_none() {
        return None;
    }
    let name = of_policy.map(level);
    // There is nothing to warn of where all is allowed.
    let warned = name.filter(|_| of_policy != Some(PodSecurityLevel::Privileged));
    let latest = |name: Option<&str>| name.map(|_| "latest");
    let values = [name, latest(name), warned, latest(warned)];
    let mut changed = Map::new();
    for (label, value) in LABELS.into_iter().zip(values) {
        if text(&namespace.metadata.labels, label).as_deref() != value {
            changed.insert(label.to_owned(), value.into());
        }
    }
    if changed.is_empty() && given.as_deref() == name {
        return None;
    }
    Some(json!({"labels": changed, "annotations": {LEVEL_BY_POLICY: name}}))
}

async fn write<K: Kind>(objects: &Objects<K>, action: Write, key: &ObjectKey) -> Result<(), Error> {
    let done = match action {
        Write::Create(object) => objects.create(&key.cluster, &serde_json::from_value(object)?).await.map(drop),
        Write::Replace(object) => objects.replace(&key.cluster, &serde_json::from_value(object)?).await.map(drop),
        Write::Delete(object) => {
            let object: K = serde_json::from_value(object)?;
            let deletion = Deletion { preconditions: Preconditions::uid_of(object.metadata()), ..Deletion::default() };
            objects.delete(&ObjectKey::of(&key.cluster, object.metadata()), &deletion).await
        }
    };
    match done {
        Err(error) if error.is_namespace_terminating() => Ok(()),
        done => done,
    }
}
