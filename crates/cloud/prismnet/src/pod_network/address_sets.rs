//! Address sets: the pods that a name in an ACL stands for. Pure.
use super::switches::Switch;
use crate::policy::{Element, Members, PodFacts, Scope, What};
use api_meta::{ClusterName, LabelSelector};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// How much of a selector's text is in a name.
const READABLE: usize = 40;

/// Pods of one cluster; of those with a named port, the ones where it has this number.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressSet {
    pub cluster: ClusterName,
    pub members: Members,
    pub number: Option<u16>,
}

impl AddressSet {
    pub fn of_pods(cluster: &ClusterName, namespaces: Scope, pods: LabelSelector) -> Self {
        Self { cluster: cluster.clone(), members: Members { namespaces, pods, what: What::Addresses }, number: None }
    }

    /// The same for the same pods at any time, of letters that OVN has in names: `app_web_pods_1f0c9d3e`.
    pub fn name(&self) -> String {
        let text = if self.members.pods.is_everything() { "all".to_owned() } else { self.members.pods.to_string() };
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_");
        let readable = words.get(..READABLE).unwrap_or(&words).trim_end_matches('_');
        let key = format!("{}/{}/{:?}", self.cluster, self.members.key(), self.number);
        let hash = Sha256::digest(key).iter().take(4).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        format!("{readable}_pods_{hash}")
    }

    /// Whether pods of this switch are looked at, whose namespace has these labels.
    pub fn covers(&self, switch: &Switch, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.cluster == switch.cluster && self.members.covers(&switch.namespace, labels)
    }

    /// What these pods put into it: their IPv4 addresses, as the matches that name it are of IPv4.
    pub fn addresses<'a>(&'a self, pods: &'a [PodFacts]) -> impl Iterator<Item = Ipv4Addr> + 'a {
        pods.iter().flat_map(|pod| self.members.elements(pod)).filter_map(|element| match element {
            Element::Address(IpAddr::V4(address)) => Some(address),
            Element::Port(IpAddr::V4(address), _, number) => (self.number == Some(number)).then_some(address),
            Element::Address(IpAddr::V6(_)) | Element::Port(IpAddr::V6(_), ..) => None,
        })
    }
}

/// The numbers that a port's name has at these pods.
pub fn numbers<'a>(members: &'a Members, pods: &'a [PodFacts]) -> impl Iterator<Item = u16> + 'a {
    pods.iter().flat_map(|pod| members.elements(pod)).filter_map(|element| match element {
        Element::Port(_, _, number) => Some(number),
        Element::Address(_) => None,
    })
}

/// The sets that ACLs name, by their names.
pub type AddressSets = BTreeMap<String, Arc<AddressSet>>;

/// As the API tells addresses.
pub fn told(addresses: &BTreeSet<Ipv4Addr>) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Protocol;

    fn set(namespaces: Scope, pods: &str) -> AddressSet {
        AddressSet::of_pods(&ClusterName::root(), namespaces, LabelSelector::parse(pods).unwrap())
    }

    fn pod(address: &str, labels: &str, ports: &[(&str, u16)]) -> PodFacts {
        let labels = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let ports = ports.iter().map(|(name, number)| ((*name).to_owned(), Protocol::Tcp, *number)).collect();
        PodFacts { uid: String::new(), labels, addresses: vec![address.parse().unwrap()], ports, local: false }
    }

    #[test]
    fn a_name_tells_whom_it_is_for_and_is_one_sets_alone() {
        let shop = || Scope::One("shop".into());
        let names = [
            set(shop(), "app=frontend").name(),
            set(Scope::One("other".into()), "app=frontend").name(),
            set(Scope::Selected(LabelSelector::everything()), "app=frontend").name(),
            set(shop(), "").name(),
            set(shop(), "app.kubernetes.io/name in (a, b),!canary,environment-of-somebody=x").name(),
        ];
        let readable: Vec<&str> = names.iter().map(|name| name.rsplit_once('_').unwrap().0).collect();
        assert_eq!(readable, ["app_frontend_pods", "app_frontend_pods", "app_frontend_pods", "all_pods", "app_kubernetes_io_name_in_a_b_canary_env_pods"]);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert_eq!(names[0], set(shop(), "app=frontend").name());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')));
    }

    #[test]
    fn a_set_has_the_pods_that_are_selected() {
        let pods = [pod("10.42.0.2", "app=web", &[("http", 80)]), pod("10.42.0.3", "app=web", &[("http", 8080)]), pod("10.42.0.4", "app=db", &[("http", 80)])];
        let addresses = |set: &AddressSet| told(&set.addresses(&pods).collect());
        let web = set(Scope::One("shop".into()), "app=web");
        assert_eq!(addresses(&web), ["10.42.0.2", "10.42.0.3"]);
        let members = Members { what: What::Port(Protocol::Tcp, "http".into()), ..web.members.clone() };
        assert_eq!(numbers(&members, &pods).collect::<Vec<_>>(), [80, 8080]);
        assert_eq!(addresses(&AddressSet { members, number: Some(8080), ..web.clone() }), ["10.42.0.3"]);
        let switch = |cluster: &str, namespace: &str| Switch { cluster: ClusterName::parse(cluster).unwrap(), namespace: namespace.into() };
        assert!(web.covers(&switch("root", "shop"), None));
        assert!(!web.covers(&switch("root", "other"), None) && !web.covers(&switch("dev.shop", "shop"), None));
    }
}
