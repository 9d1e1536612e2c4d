//! Zone: one cluster's records by name, changed Service by Service.
use crate::record::{Record, RecordData, address_of_dashed};
use api_cache::ObjectKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Node {
    data: Vec<RecordData>,
    /// How many records names below this one have: a name exists if something is at it or below it (RFC 8020).
    below: usize,
}

/// What is at a name.
#[derive(Debug, PartialEq)]
pub enum Found<'a> {
    Records(&'a [RecordData]),
    /// A pod's name, which says its address itself.
    Address(IpAddr),
    /// The name exists, without records.
    Nothing,
    Missing,
}

/// A cluster's names: those in its domain and the reverse ones.
#[derive(Debug)]
pub struct Zone {
    domain: Arc<str>,
    nodes: HashMap<Arc<str>, Node>,
    records: HashMap<ObjectKey, Vec<Record>>,
    serial: u32,
}

impl Zone {
    /// A zone that holds only what every cluster's does.
    pub fn new(domain: &str, cluster_dns: Option<IpAddr>) -> Self {
        let mut zone = Self { domain: domain.into(), nodes: HashMap::new(), records: HashMap::new(), serial: 1 };
        let own = [
            Record { name: format!("dns-version.{domain}").into(), data: RecordData::Txt("1.1.0".into()) },
            Record { name: zone.domain.clone(), data: RecordData::Ns(name_server_name(domain)) },
        ];
        own.iter().chain(&cluster_dns.map(|address| name_server(domain, address))).for_each(|record| zone.insert(record));
        zone
    }

    /// Puts a Service's records in place of those it had.
    pub fn replace(&mut self, service: &ObjectKey, records: Vec<Record>) {
        let before = self.records.remove(service).unwrap_or_default();
        if before == records {
            if !before.is_empty() {
                self.records.insert(service.clone(), before);
            }
            return;
        }
        self.serial = self.serial.wrapping_add(1).max(1);
        records.iter().for_each(|record| self.insert(record));
        before.iter().for_each(|record| self.remove(record));
        if !records.is_empty() {
            self.records.insert(service.clone(), records);
        }
    }

    /// Looks a name up: lower case, without the last dot.
    pub fn find(&self, name: &str) -> Found<'_> {
        if let Some(node) = self.nodes.get(name) {
            return if node.data.is_empty() { Found::Nothing } else { Found::Records(&node.data) };
        }
        let Some(inside) = name.strip_suffix(&*self.domain).and_then(|rest| rest.strip_suffix('.')) else { return Found::Missing };
        let mut labels = inside.rsplit('.');
        match (labels.next(), labels.next(), labels.next(), labels.next()) {
            (Some("svc"), None, ..) => Found::Nothing,
            (Some("pod"), None, ..) => Found::Nothing,
            (Some("pod"), Some(only), None, _) => address_of_dashed(only).map_or(Found::Nothing, Found::Address),
            (Some("pod"), Some(_), Some(label), None) => address_of_dashed(label).map_or(Found::Missing, Found::Address),
            _ => Found::Missing,
        }
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Grows with every change.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    pub fn services(&self) -> impl Iterator<Item = &ObjectKey> {
        self.records.keys()
    }

    /// Whether no Service has a record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn insert(&mut self, record: &Record) {
        self.nodes.entry(record.name.clone()).or_default().data.push(record.data.clone());
        for ancestor in ancestors(&record.name, &self.domain) {
            match self.nodes.get_mut(ancestor) {
                Some(node) => node.below += 1,
                None => {
                    self.nodes.insert(ancestor.into(), Node { data: Vec::new(), below: 1 });
                }
            }
        }
    }

    fn remove(&mut self, record: &Record) {
        if let Some(node) = self.nodes.get_mut(&record.name) {
            // One occurrence only: another owner may say the same.
            if let Some(at) = node.data.iter().position(|data| *data == record.data) {
                node.data.remove(at);
            }
        }
        drop_if_empty(&mut self.nodes, &record.name);
        for ancestor in ancestors(&record.name, &self.domain) {
            if let Some(node) = self.nodes.get_mut(ancestor) {
                node.below = node.below.saturating_sub(1);
            }
            drop_if_empty(&mut self.nodes, ancestor);
        }
    }
}

fn name_server_name(domain: &str) -> Arc<str> {
    format!("ns.dns.{domain}").into()
}

/// The record of where a cluster's pods ask.
pub fn name_server(domain: &str, address: IpAddr) -> Record {
    Record { name: name_server_name(domain), data: RecordData::address(address) }
}

fn drop_if_empty(nodes: &mut HashMap<Arc<str>, Node>, name: &str) {
    if nodes.get(name).is_some_and(|node| node.data.is_empty() && node.below == 0) {
        nodes.remove(name);
    }
}

/// The names above one, up to the zone's top (or that of reverse names, which is nobody's to answer).
fn ancestors<'a>(name: &'a str, domain: &'a str) -> impl Iterator<Item = &'a str> {
    let above = |name: &'a str| name.split_once('.').map(|(_, rest)| rest);
    std::iter::successors(above(name).filter(|_| name != domain), move |name| above(name).filter(|_| *name != domain))
        .filter(|name| !matches!(*name, "arpa" | "in-addr.arpa" | "ip6.arpa"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_meta::ClusterName;

    fn record(name: &str, last: u8) -> Record {
        Record { name: name.into(), data: RecordData::A([10, 0, 0, last].into()) }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(&ClusterName::root(), "shop", name)
    }

    #[test]
    fn a_name_exists_while_something_is_at_or_below_it() {
        let mut zone = Zone::new("cluster.local", None);
        let empty = zone.nodes.len();
        zone.replace(&key("web"), vec![record("web-0.web.shop.svc.cluster.local", 1)]);
        assert!(matches!(zone.find("web-0.web.shop.svc.cluster.local"), Found::Records([_])));
        for above in ["web.shop.svc.cluster.local", "shop.svc.cluster.local", "svc.cluster.local"] {
            assert_eq!(zone.find(above), Found::Nothing, "{above}");
        }
        assert_eq!(zone.find("x.web.shop.svc.cluster.local"), Found::Missing);
        assert_eq!(zone.find("local"), Found::Missing);
        let serial = zone.serial();
        zone.replace(&key("web"), Vec::new());
        assert_eq!(zone.find("web.shop.svc.cluster.local"), Found::Missing);
        assert_eq!(zone.nodes.len(), empty);
        assert!(zone.serial() > serial);
    }

    #[test]
    fn what_two_services_say_stays_until_both_are_gone() {
        let mut zone = Zone::new("cluster.local", None);
        let name = "1.0.0.10.in-addr.arpa";
        for service in ["a", "b"] {
            zone.replace(&key(service), vec![record(name, 1)]);
        }
        zone.replace(&key("a"), Vec::new());
        assert!(matches!(zone.find(name), Found::Records([_])));
        zone.replace(&key("b"), Vec::new());
        assert_eq!(zone.find(name), Found::Missing);
    }

    #[test]
    fn pods_names_say_their_addresses() {
        let zone = Zone::new("cluster.local", None);
        let address = || Found::Address([10, 244, 1, 5].into());
        assert_eq!(zone.find("10-244-1-5.shop.pod.cluster.local"), address());
        assert_eq!(zone.find("10-244-1-5.pod.cluster.local"), address());
        assert_eq!(zone.find("shop.pod.cluster.local"), Found::Nothing);
        assert_eq!(zone.find("web.shop.pod.cluster.local"), Found::Missing);
        assert_eq!(zone.find("a.10-244-1-5.shop.pod.cluster.local"), Found::Missing);
    }
}
