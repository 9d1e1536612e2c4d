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

    /// Not a cluster anybody reaches: it holds the objects that every virtual cluster starts with.
    pub fn base() -> Self {
        static BASE: std::sync::LazyLock<ClusterName> = std::sync::LazyLock::new(|| ClusterName(Arc::from("base")));
        BASE.clone()
    }

    /// Parses a cluster name: a DNS label or several joined by dots, at most 253 bytes.
    pub fn parse(name: &str) -> Result<Self, String> {
        match crate::names::dns1123_subdomain(name).first() {
            None => Ok(Self(Arc::from(name))),
            Some(reason) => Err(format!("cluster name {name:?} is invalid: {reason}")),
        }
    }

    /// The cluster that the Cluster object `name` in `namespace` of the host cluster stands for.
    ///
    /// No two objects share a name: a namespace has no dot, so the last one parts the two.
    pub fn hosted(namespace: &str, name: &str) -> Result<Self, String> {
        Self::parse(&format!("{name}.{namespace}"))
    }

    /// The namespace and name of the Cluster object it is hosted as; `None` for the host cluster.
    pub fn host_object(&self) -> Option<(&str, &str)> {
        self.0.rsplit_once('.').map(|(name, namespace)| (namespace, name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_cluster_is_named_by_its_object_and_never_like_the_host() {
        let cluster = ClusterName::hosted("team-a", "dev.eu").unwrap();
        assert_eq!((cluster.as_str(), cluster.host_object()), ("dev.eu.team-a", Some(("team-a", "dev.eu"))));
        assert_eq!(ClusterName::root().host_object(), None);
        assert!(!ClusterName::hosted("root", "root").unwrap().is_root());
        assert!(ClusterName::hosted("a", "UP").is_err());
    }
}
