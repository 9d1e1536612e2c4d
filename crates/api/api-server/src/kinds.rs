//! Kinds: which resources are served, built in or custom.
use api_meta::ClusterName;
use api_resource::AnyResource;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

/// One served kind. Built-ins live as long as the program, custom ones as long as someone holds them.
#[derive(Clone)]
pub enum Kind {
    Builtin(&'static dyn AnyResource),
    Custom(Arc<dyn AnyResource>),
}

impl Deref for Kind {
    type Target = dyn AnyResource;
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Builtin(kind) => *kind,
            Self::Custom(kind) => kind.as_ref(),
        }
    }
}

/// Finds kinds by the path they are served under.
pub struct Kinds {
    builtins: HashMap<(&'static str, &'static str, &'static str), &'static dyn AnyResource>,
    ordered: Vec<&'static dyn AnyResource>,
}

impl Kinds {
    pub fn new(builtins: &'static [&'static dyn AnyResource]) -> Self {
        let by_path = builtins.iter().map(|kind| {
            let names = kind.names();
            ((&*names.group, &*names.version, &*names.plural), *kind)
        });
        Self { builtins: by_path.collect(), ordered: builtins.to_vec() }
    }
    pub fn find(&self, _cluster: &ClusterName, group: &str, version: &str, plural: &str) -> Option<Kind> {
        self.builtins.get(&(group, version, plural)).map(|kind| Kind::Builtin(*kind))
    }
    /// All kinds of a cluster, in the order discovery lists them.
    pub fn all(&self, _cluster: &ClusterName) -> Vec<Kind> {
        self.ordered.iter().map(|kind| Kind::Builtin(*kind)).collect()
    }
}
