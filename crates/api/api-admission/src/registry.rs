//! Registry: the webhooks and policies in force in each cluster, read once when they are written.
use crate::policy::{Binding, MutatingPolicy, ValidatingPolicy};
use crate::webhook::Webhook;
use api_meta::{ClusterName, Object};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The kinds that are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationKind {
    MutatingWebhook,
    ValidatingWebhook,
    ValidatingPolicy,
    ValidatingBinding,
    MutatingPolicy,
    MutatingBinding,
}

impl ConfigurationKind {
    pub const ALL: [Self; 6] =
        [Self::MutatingWebhook, Self::ValidatingWebhook, Self::ValidatingPolicy, Self::ValidatingBinding, Self::MutatingPolicy, Self::MutatingBinding];

    /// Its plural, in the group admissionregistration.k8s.io.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MutatingWebhook => "mutatingwebhookconfigurations",
            Self::ValidatingWebhook => "validatingwebhookconfigurations",
            Self::ValidatingPolicy => "validatingadmissionpolicies",
            Self::ValidatingBinding => "validatingadmissionpolicybindings",
            Self::MutatingPolicy => "mutatingadmissionpolicies",
            Self::MutatingBinding => "mutatingadmissionpolicybindings",
        }
    }
}

type Named<T> = BTreeMap<String, T>;

#[derive(Clone, Default)]
struct Entries {
    mutating_webhooks: Named<Vec<Arc<Webhook>>>,
    validating_webhooks: Named<Vec<Arc<Webhook>>>,
    validating_policies: Named<Arc<ValidatingPolicy>>,
    validating_bindings: Named<Arc<Binding>>,
    mutating_policies: Named<Arc<MutatingPolicy>>,
    mutating_bindings: Named<Arc<Binding>>,
}

/// What is in force, cluster by cluster.
#[derive(Default)]
pub struct Registry {
    clusters: RwLock<HashMap<ClusterName, Entries>>,
}

impl Registry {
    /// A configuration was written.
    pub fn apply(&self, cluster: &ClusterName, kind: ConfigurationKind, object: &Object) {
        let value = object.to_value();
        let name = object.meta().name.to_string();
        let webhooks = || Webhook::read_all(&value).into_iter().map(Arc::new).collect();
        // Reading compiles expressions: not under the lock.
        match kind {
            ConfigurationKind::MutatingWebhook => {
                let hooks = webhooks();
                self.entries(cluster, |entries| entries.mutating_webhooks.insert(name, hooks));
            }
            ConfigurationKind::ValidatingWebhook => {
                let hooks = webhooks();
                self.entries(cluster, |entries| entries.validating_webhooks.insert(name, hooks));
            }
            ConfigurationKind::ValidatingPolicy => {
                let policy = Arc::new(ValidatingPolicy::read(&value));
                self.entries(cluster, |entries| entries.validating_policies.insert(name, policy));
            }
            ConfigurationKind::MutatingPolicy => {
                let policy = Arc::new(MutatingPolicy::read(&value));
                self.entries(cluster, |entries| entries.mutating_policies.insert(name, policy));
            }
            ConfigurationKind::ValidatingBinding => {
                let binding = Arc::new(Binding::read(&value));
                self.entries(cluster, |entries| entries.validating_bindings.insert(name, binding));
            }
            ConfigurationKind::MutatingBinding => {
                let binding = Arc::new(Binding::read(&value));
                self.entries(cluster, |entries| entries.mutating_bindings.insert(name, binding));
            }
        }
    }

    pub fn remove(&self, cluster: &ClusterName, kind: ConfigurationKind, name: &str) {
        if let Some(entries) = self.clusters.write().get_mut(cluster) {
            entries.retain(kind, |other| other != name);
        }
    }

    /// Forgets what is no longer there.
    pub fn retain(&self, kind: ConfigurationKind, keep: impl Fn(&ClusterName, &str) -> bool) {
        for (cluster, entries) in self.clusters.write().iter_mut() {
            entries.retain(kind, |name| keep(cluster, name));
        }
    }

    /// In the order they are asked: by the configuration's name, then as listed in it.
    pub(crate) fn mutating_webhooks(&self, cluster: &ClusterName) -> Vec<Arc<Webhook>> {
        self.clusters.read().get(cluster).map(|entries| entries.mutating_webhooks.values().flatten().cloned().collect()).unwrap_or_default()
    }
    pub(crate) fn validating_webhooks(&self, cluster: &ClusterName) -> Vec<Arc<Webhook>> {
        self.clusters.read().get(cluster).map(|entries| entries.validating_webhooks.values().flatten().cloned().collect()).unwrap_or_default()
    }
    /// Policies with their bindings, both by name; those that nothing binds are left out.
    pub(crate) fn validating_policies(&self, cluster: &ClusterName) -> Vec<(Arc<ValidatingPolicy>, Vec<Arc<Binding>>)> {
        self.clusters.read().get(cluster).map(|entries| bound(&entries.validating_policies, &entries.validating_bindings)).unwrap_or_default()
    }
    pub(crate) fn mutating_policies(&self, cluster: &ClusterName) -> Vec<(Arc<MutatingPolicy>, Vec<Arc<Binding>>)> {
        self.clusters.read().get(cluster).map(|entries| bound(&entries.mutating_policies, &entries.mutating_bindings)).unwrap_or_default()
    }

    fn entries<T>(&self, cluster: &ClusterName, change: impl FnOnce(&mut Entries) -> T) {
        change(self.clusters.write().entry(cluster.clone()).or_default());
    }
}

fn bound<P>(policies: &Named<Arc<P>>, bindings: &Named<Arc<Binding>>) -> Vec<(Arc<P>, Vec<Arc<Binding>>)> {
    let of = |name: &str| bindings.values().filter(|binding| binding.policy == name).cloned().collect::<Vec<_>>();
    policies.iter().map(|(name, policy)| (policy.clone(), of(name))).filter(|(_, bindings)| !bindings.is_empty()).collect()
}

impl Entries {
    fn retain(&mut self, kind: ConfigurationKind, keep: impl Fn(&str) -> bool) {
        match kind {
            ConfigurationKind::MutatingWebhook => self.mutating_webhooks.retain(|name, _| keep(name)),
            ConfigurationKind::ValidatingWebhook => self.validating_webhooks.retain(|name, _| keep(name)),
            ConfigurationKind::ValidatingPolicy => self.validating_policies.retain(|name, _| keep(name)),
            ConfigurationKind::ValidatingBinding => self.validating_bindings.retain(|name, _| keep(name)),
            ConfigurationKind::MutatingPolicy => self.mutating_policies.retain(|name, _| keep(name)),
            ConfigurationKind::MutatingBinding => self.mutating_bindings.retain(|name, _| keep(name)),
        }
    }
}
