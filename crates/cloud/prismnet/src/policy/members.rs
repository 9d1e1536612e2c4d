//! Address sets: the pods that a peer, or a port's name, means. They change with pods; the rules that name them don't.
use super::pods::{PodFacts, Protocol};
use api_meta::{IpFamily, LabelSelector};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Which pods of a cluster are in a set, and what of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    pub namespaces: Scope,
    pub pods: LabelSelector,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    One(Arc<str>),
    Selected(LabelSelector),
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Addresses,
    /// Addresses with the number that this name has there.
    Port(Protocol, String),
}

/// What stands in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    Address(IpAddr),
    Port(IpAddr, Protocol, u16),
}

impl Element {
    pub fn family(self) -> IpFamily {
        let (Self::Address(address) | Self::Port(address, ..)) = self;
        IpFamily::of(address)
    }
}

/// As nft writes it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Port(address, protocol, port) => write!(f, "{address} . {} . {port}", protocol.name()),
        }
    }
}

impl Members {
    /// Equal for sets of the same pods: policies share them.
    pub fn key(&self) -> String {
        let scope = match &self.namespaces {
            Scope::One(name) => format!("in {name}"),
            Scope::Selected(selector) => format!("in those with {selector}"),
        };
        match &self.what {
            What::Addresses => format!("pods with {} {scope}", self.pods),
            What::Port(protocol, name) => format!("{} {name} of pods with {} {scope}", protocol.name(), self.pods),
        }
    }

    /// Whether pods of this namespace are looked at. `None`: its labels are not known, so nothing can be said of it.
    pub fn covers(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        match &self.namespaces {
            Scope::One(name) => **name == *namespace,
            Scope::Selected(selector) => labels.is_some_and(|labels| selector.matches(labels)),
        }
    }

    /// What a pod of a covered namespace puts into the set.
    pub fn elements<'a>(&'a self, pod: &'a PodFacts) -> impl Iterator<Item = Element> + 'a {
        let selected = self.pods.matches(&pod.labels);
        let whole = selected && self.what == What::Addresses;
        let ports =
            move || pod.ports.iter().filter(move |(name, protocol, _)| selected && matches!(&self.what, What::Port(p, n) if p == protocol && n == name));
        pod.addresses.iter().flat_map(move |address| {
            let ports = ports().map(|(_, protocol, port)| Element::Port(*address, *protocol, *port));
            whole.then_some(Element::Address(*address)).into_iter().chain(ports)
        })
    }
}
