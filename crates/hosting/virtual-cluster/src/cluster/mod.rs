//! The Cluster controller: has the server serve what Clusters say, and tells in their status what is served.
mod addons;
mod exposure;
mod provision;
mod reconcile;
mod secrets;
#[cfg(test)]
mod tests;

use crate::effective::{Bound, Effective, without_effect};
use crate::kinds::{self, Cluster, KubeconfigSecret, MANAGER, Policy, SECRET_TYPE};
use crate::names::{self, POLICY_LABEL};
use crate::status::{self, host};
use api_client::Hosting;
use api_meta::ClusterName;
use controller_kit::{Change, Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use k8s_openapi::api::core::v1::Namespace;
use provision::Provisioner;
use reconcile::{Action, World};
use serde_json::{Value, json};
use std::sync::Arc;

pub use addons::{Known, objects};
pub use provision::{HostFacts, StorageObjects, hosting};

/// Found by the namespaces that are bound to a policy.
pub const BY_POLICY: &str = "policy";

pub struct Clusters {
    clusters: Objects<Cluster>,
    kubeconfigs: Objects<KubeconfigSecret>,
    namespaces: Objects<Namespace>,
    policies: Objects<Policy>,
    provisioner: Provisioner,
    hosting: Arc<dyn Hosting>,
    recorder: Recorder,
    kit: Kit,
}

/// The policy that a namespace is bound to.
pub fn policy_of(namespace: &Namespace) -> Option<&str> {
    namespace.metadata.labels.as_ref()?.get(POLICY_LABEL).map(String::as_str).filter(|name| !name.is_empty())
}

pub fn runner(kit: &Kit, clusters: &Objects<Cluster>, policies: &Objects<Policy>, hosting: Arc<dyn Hosting>, facts: HostFacts) -> Runner<Clusters> {
    let kit = kit.managed_by(MANAGER);
    let namespaces = kit.objects::<Namespace>();
    namespaces.add_index(BY_POLICY, |namespace| policy_of(namespace).map(str::to_owned).into_iter().collect());
    let kubeconfigs = kinds::of_host::<KubeconfigSecret>(&kit, Some(&format!("type={SECRET_TYPE}")));
    let controller = Clusters {
        clusters: clusters.clone(),
        kubeconfigs: kubeconfigs.clone(),
        namespaces: namespaces.clone(),
        policies: policies.clone(),
        provisioner: Provisioner { clients: kit.clients().clone(), hosting: hosting.clone(), kubeconfigs: kubeconfigs.clone(), facts },
        hosting,
        recorder: kit.recorder("k3k-cluster-controller"),
        kit,
    };
    let (of_namespaces, of_policies, with_policy) = (clusters.clone(), clusters.clone(), namespaces.clone());
    Runner::new(controller)
        .workers(8)
        .watch_own(clusters)
        .watch(&kubeconfigs, owner)
        .watch(&namespaces, move |change| {
            let before = change.old.as_deref().and_then(policy_of);
            if !change.key.cluster.is_root() || before == change.new.as_deref().and_then(policy_of) {
                return Vec::new();
            }
            in_namespace(&of_namespaces, &change.key.name)
        })
        .watch(policies, move |change| {
            let bound = with_policy.by_index(BY_POLICY, &host(), &change.key.name);
            bound.iter().filter_map(|namespace| namespace.metadata.name.as_deref()).flat_map(|name| in_namespace(&of_policies, name)).collect()
        })
}

fn in_namespace(clusters: &Objects<Cluster>, namespace: &str) -> Vec<ObjectKey> {
    clusters.list(&host(), Some(namespace)).iter().map(|cluster| ObjectKey::of(&host(), &cluster.metadata)).collect()
}

/// The Cluster whose kubeconfig is gone.
fn owner(change: &Change<KubeconfigSecret>) -> Vec<ObjectKey> {
    let (None, Some(gone)) = (&change.new, &change.old) else { return Vec::new() };
    let owners = gone.metadata.owner_references.iter().flatten().filter(|owner| owner.kind == "Cluster");
    owners.map(|owner| ObjectKey::new(&change.key.cluster, &change.key.namespace, &owner.name)).collect()
}

#[async_trait]
impl Controller for Clusters {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "k3k-cluster-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let namespace = self.namespaces.get(&ObjectKey::new(&host(), "", &key.namespace));
        let bound = match namespace.as_deref().and_then(policy_of) {
            None => Bound::ToNone,
            Some(name) => match self.policies.get(&ObjectKey::new(&host(), "", name)) {
                None => Bound::ToMissing(name.to_owned()),
                // It lets its namespaces go.
                Some(policy) if policy.metadata.deletion_timestamp.is_some() => Bound::ToNone,
                Some(policy) => Bound::To(policy),
            },
        };
        let kubeconfig = self.kubeconfigs.get(&ObjectKey::new(&host(), &key.namespace, &names::kubeconfig(&key.name)));
        Some(World { cluster: self.clusters.get(key)?, kubeconfig, bound, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Finalizers { finalizers, preconditions } => {
                self.clusters.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &preconditions).await?;
            }
            Action::Status { cluster, status } => {
                self.tell(key, &status, &Preconditions::uid_of(&cluster.metadata)).await?;
                let condition = &status["conditions"][0];
                if condition["reason"] == status::VALIDATION_FAILED {
                    self.recorder.warning(&key.cluster, &*cluster, status::VALIDATION_FAILED, condition["message"].as_str().unwrap_or_default());
                }
            }
            Action::Provision { cluster, effective } => {
                let served = self.provisioner.provision(&cluster, &effective).await?;
                if cluster.status.policy.is_some() && cluster.status.policy.as_deref() != effective.policy.as_ref() {
                    // Merged into the old one, the new one would keep what it no longer says.
                    self.tell(key, &json!({"policy": null}), &Preconditions::uid_of(&cluster.metadata)).await?;
                }
                let status = reconcile::provisioned(&cluster, &effective, served, self.kit.now());
                self.tell(key, &status, &Preconditions::uid_of(&cluster.metadata)).await?;
                if status::find_ready(&cluster.status.conditions).is_none_or(|ready| ready.status != "True") {
                    self.recorder.normal(&key.cluster, &*cluster, status::PROVISIONED, reconcile::PROVISIONED_MESSAGE);
                }
                self.tell_of_life(key, &cluster, &effective);
            }
            Action::Remove => {
                let name = ClusterName::hosted(&key.namespace, &key.name).map_err(Error::Invalid)?;
                self.hosting.remove(&name).await.map_err(provision::hosting)?;
                self.provisioner.remove_exposure(key).await?;
                let kubeconfig = ObjectKey::new(&host(), &key.namespace, &names::kubeconfig(&key.name));
                self.kubeconfigs.delete(&kubeconfig, &Default::default()).await?;
            }
        }
        Ok(())
    }

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        if error.is_conflict() || world.cluster.metadata.deletion_timestamp.is_some() {
            return;
        }
        let (phase, reason) = match error {
            Error::Invalid(_) => ("Pending", status::VALIDATION_FAILED),
            _ => ("Failed", status::PROVISIONING_FAILED),
        };
        let message = error.to_string();
        let metadata = &world.cluster.metadata;
        if status::says(&world.cluster.status.conditions, false, reason, &message, metadata.generation) {
            return;
        }
        self.recorder.warning(&key.cluster, &*world.cluster, reason, &message);
        let status = reconcile::not_ready(&world.cluster, phase, reason, &message, world.now);
        if let Err(error) = self.tell(key, &status, &Preconditions::uid_of(metadata)).await {
            tracing::debug!(%key, %error, "a cluster's failure could not be told in its status");
        }
    }
}

impl Clusters {
    /// Events for what a Cluster's annotations have brought about, and for what it says in vain.
    fn tell_of_life(&self, key: &ObjectKey, cluster: &Cluster, effective: &Effective) {
        let (settings, before) = (&effective.settings, &cluster.status);
        let told = status::find_ready(&before.conditions).is_some_and(|ready| ready.observed_generation == cluster.metadata.generation);
        for why in without_effect(cluster, effective.policy.as_ref()).into_iter().filter(|_| !told) {
            self.recorder.warning(&key.cluster, cluster, "WithoutEffect", why);
        }
        if settings.paused != before.paused {
            let (reason, message) = if settings.paused { ("Paused", "Nothing of the cluster runs or changes") } else { ("Resumed", "The cluster goes on") };
            self.recorder.normal(&key.cluster, cluster, reason, message);
        }
        if let Some(restore) = settings.restore.as_ref().filter(|restore| restore.request != before.restored_from) {
            self.recorder.normal(&key.cluster, cluster, "Restored", format!("The cluster's content was restored from {}", restore.request));
        }
    }

    async fn tell(&self, key: &ObjectKey, status: &Value, uid: &Preconditions) -> Result<(), Error> {
        self.clusters.patch(key, "/status", &json!({ "status": status }), uid).await.map(drop)
    }
}
