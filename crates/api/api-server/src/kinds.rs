//! Kinds: which resources are served, built in or custom.
use crate::custom::{CustomKind, CustomKinds};
use api_meta::ClusterName;
use api_resource::AnyResource;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// One served kind. Built-ins live as long as the program, custom ones as long as someone holds them.
#[derive(Clone)]
pub enum Kind {
    Builtin(&'static dyn AnyResource),
    Custom(Arc<CustomKind>),
}

impl Kind {
    /// Cancelled when watches of this kind have to begin anew, because it is served otherwise or no more.
    pub(crate) fn retired(&self) -> Option<&CancellationToken> {
        match self {
            Self::Builtin(_) => None,
            Self::Custom(kind) => Some(&kind.retired),
        }
    }
}

impl Deref for Kind {
    type Target = dyn AnyResource;
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Builtin(kind) => *kind,
            Self::Custom(kind) => &*kind.resource,
        }
    }
}

/// Finds kinds by the path they are served under.
pub struct Kinds {
    builtins: HashMap<(&'static str, &'static str, &'static str), &'static dyn AnyResource>,
    ordered: Vec<&'static dyn AnyResource>,
    pub(crate) custom: CustomKinds,
}

impl Kinds {
    pub fn new(builtins: &'static [&'static dyn AnyResource]) -> Self {
        let by_path = builtins.iter().map(|kind| {
            let names = kind.names();
            ((&*names.group, &*names.version, &*names.plural), *kind)
        });
        Self { builtins: by_path.collect(), ordered: builtins.to_vec(), custom: CustomKinds::default() }
    }
    pub fn find(&self, cluster: &ClusterName, group: &str, version: &str, plural: &str) -> Option<Kind> {
        match self.builtins.get(&(group, version, plural)) {
            Some(kind) => Some(Kind::Builtin(*kind)),
            None => self.custom.find(cluster, group, version, plural).map(Kind::Custom),
        }
    }
    /// All kinds of a cluster, in the order discovery lists them.
    pub fn all(&self, cluster: &ClusterName) -> Vec<Kind> {
        let custom = self.custom.all(cluster).into_iter().map(Kind::Custom);
        self.ordered.iter().map(|kind| Kind::Builtin(*kind)).chain(custom).collect()
    }
    /// Changes whenever what [`Kinds::all`] gives for this cluster does. Clusters without custom kinds share one.
    pub fn version(&self, cluster: &ClusterName) -> u64 {
        self.custom.version(cluster)
    }
    /// All built-ins, in the order discovery lists them.
    pub(crate) fn builtins(&self) -> impl Iterator<Item = &'static dyn AnyResource> {
        self.ordered.iter().copied()
    }
    /// The built-ins of a group.
    pub(crate) fn builtins_of(&self, group: &str) -> impl Iterator<Item = &'static dyn AnyResource> {
        self.ordered.iter().copied().filter(move |kind| kind.names().group == group)
    }
}
