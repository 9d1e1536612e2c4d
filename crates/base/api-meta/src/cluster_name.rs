//! The name of a cluster: part of every request, cache key, queue key and stored key.
use std::fmt;
use std::sync::Arc;

/// A cluster's name. The host cluster is `root`; every virtual cluster has a name of its own.
///
/// There is deliberately no `Default`: a cluster is always chosen, never fallen back to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The host cluster.
    pub fn root() -> Self {
        static ROOT: std::sync::LazyLock<ClusterName> = std::sync::LazyLock::new(|| ClusterName(Arc::from("root")));
        ROOT.clone()
    }

    /// Parses a cluster name: a DNS label or several joined by dots, at most 253 bytes.
    pub fn parse(name: &str) -> Result<Self, String> {
        match crate::names::dns1123_subdomain(name).first() {
            None => Ok(Self(Arc::from(name))),
            Some(reason) => Err(format!("cluster name {name:?} is invalid: {reason}")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        &*self.0 == "root"
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
