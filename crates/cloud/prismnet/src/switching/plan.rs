//! The ports and rules that records mean. Pure.
use super::match_expression::{networks, rule};
use super::records::{AclAction, AclDirection, INTERFACE, OfSwitch, PortRecord, Records, Supply};
use crate::bandwidth::Bandwidth;
use crate::kubernetes::{PodIdentity, logical_switch};
use crate::plan::{hardware_address, host_interface};
use crate::policy::Isolation;
use crate::{AddressPool, Lease, NodeNetwork, PodCluster, PortPlan, VirtualClusters, node};
use ipnet::Ipv4Net;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The nftables table of the ACLs.
pub const TABLE: &str = "k8shost-prismnet-acl";
/// No machine has an address of this range (RFC 1112, section 4): nothing of the node's is open to ports.
const NOBODY: &str = "240.0.0.0/16";

/// What PrismNET alone runs with.
#[derive(Clone, Debug)]
pub struct SwitchingSettings {
    /// Where records are kept.
    pub data_dir: PathBuf,
    /// All switches' addresses; the first is the gateway.
    pub range: Ipv4Net,
    /// How large a switch is that nobody said more of.
    pub prefix: u8,
    /// Whom ports are told to ask for names.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Bytes. `None`: that of the uplink.
    pub mtu: Option<u32>,
    /// The router's device.
    pub bridge: String,
}

impl SwitchingSettings {
    pub fn supply(&self) -> Supply {
        Supply { range: self.range, prefix: self.prefix }
    }

    /// The node's network with projects as what is kept apart, as virtual clusters are.
    pub fn network(&self) -> NodeNetwork {
        let apart = VirtualClusters { range: NOBODY.parse().expect("a network"), api_port: 1, dns_port: 53 };
        NodeNetwork {
            mtu: self.mtu,
            bridge_name: self.bridge.clone(),
            state_dir: self.data_dir.join("state"),
            virtual_clusters: Some(apart),
            ..NodeNetwork::new(self.range, self.range)
        }
    }
}

/// The path of a port's network namespace, which is called as its node end.
pub fn namespace_of(id: &str) -> String {
    format!("/run/netns/{}", host_interface(id, INTERFACE))
}

/// What a port that is attached shall be.
pub fn port(settings: &SwitchingSettings, mtu: u32, records: &Records, id: &str, record: &PortRecord) -> PortPlan {
    let switch = records.switches.get(&record.switch);
    let owner = switch.map(|switch| records.owner(switch)).unwrap_or_default();
    let tenant = switch.map_or(0, |switch| switch.tenant);
    let of = PodCluster { number: tenant, name: owner.project_id, isolation: Isolation::default() };
    PortPlan {
        logical_switch: logical_switch(switch.map_or("", |switch| &switch.namespace), &of),
        logical_port: record.name(),
        host_interface: host_interface(id, INTERFACE),
        interface: INTERFACE.into(),
        address: record.address,
        gateway: settings.supply().gateway(),
        second: None,
        hardware_address: hardware_address(record.address),
        mtu,
        router: settings.bridge.clone(),
        cluster: tenant,
        bandwidth: Bandwidth::default(),
    }
}

/// All rules, for one transaction without a gap: who may send as whom, who reaches whom, and the ACLs.
pub fn rules(settings: &SwitchingSettings, records: &Records) -> String {
    let mut pool = AddressPool::default();
    for (id, port) in records.ports.iter().filter(|(_, port)| port.attached) {
        let Some(switch) = records.switches.get(&port.switch) else { continue };
        let pod = PodIdentity { namespace: switch.namespace.clone(), name: port.pod.clone(), uid: String::new() };
        let lease = Lease {
            container: id.clone(),
            interface: INTERFACE.into(),
            namespace: namespace_of(id),
            identity: (0, 0),
            cluster: switch.tenant,
            pod: Some(pod),
            held: false,
        };
        pool.leases.insert(port.address, lease);
    }
    node::rules(&settings.network(), &pool) + &acls(records)
}

/// A chain for each direction of each switch that has ACLs. Answers follow what was let through.
fn acls(records: &Records) -> String {
    let mut text = format!("add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n");
    for (id, set) in &records.address_sets {
        let addresses: Vec<Ipv4Net> = set.addresses.iter().copied().collect();
        let elements = if addresses.is_empty() { String::new() } else { format!(" elements = {{ {} }};", networks(&addresses)) };
        line(&mut text, format_args!(" set {id} {{ type ipv4_addr; flags interval;{elements} }}"));
    }
    for (direction, end, name, priority) in [(AclDirection::FromLport, "saddr", "from", "filter - 4"), (AclDirection::ToLport, "daddr", "to", "filter - 3")] {
        let mut jumps = String::new();
        for (switch_id, switch) in &records.switches {
            let of_switch = |acl: &&super::records::AclRecord| acl.switch == *switch_id && acl.direction == direction;
            let mut acls: Vec<_> = records.acls.values().filter(of_switch).collect();
            if acls.is_empty() {
                continue;
            }
            acls.sort_by_key(|acl| std::cmp::Reverse(acl.priority));
            line(&mut text, format_args!(" chain {name}-{switch_id} {{"));
            let names = OfSwitch { records, switch: switch_id };
            for acl in acls {
                // It was read when it was taken; what names a port that is gone matches nothing.
                if let Ok(Some(matched)) = rule(&acl.expression, &names) {
                    line(&mut text, format_args!("  {matched}{}", verdict(acl.action)));
                }
            }
            text.push_str(" }\n");
            line(&mut jumps, format_args!("  ip {end} {} jump {name}-{switch_id}", switch.subnet));
        }
        line(
            &mut text,
            format_args!(
                " chain forward-{name} {{\n  type filter hook forward priority {priority}; policy accept;\n  ct direction reply accept\n  ct state related accept\n{jumps} }}"
            ),
        );
    }
    text.push_str("}\n");
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("a string takes all");
}

fn verdict(action: AclAction) -> &'static str {
    match action {
        AclAction::Allow | AclAction::AllowRelated => "accept",
        AclAction::Drop => "drop",
        AclAction::Reject => "reject",
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::AclRecord;
    use super::*;
    use cloud_api::{Caller, Ownership};

    #[test]
    fn acls_stand_in_the_order_of_their_priority() {
        let settings = SwitchingSettings {
            data_dir: "/x".into(),
            range: "10.244.0.0/16".parse().unwrap(),
            prefix: 24,
            dns_servers: Vec::new(),
            mtu: Some(1500),
            bridge: "prism0".into(),
        };
        let mut records = Records::default();
        let owner = Ownership { org_id: "org-1".into(), project_id: "proj-1".into() };
        let caller = Caller { org_id: "org-1".into(), project_id: "proj-1".into(), ..Caller::default() };
        records.create_switch(settings.supply(), &owner, "s1", "shop", "").unwrap();
        records.set_addresses(&owner, "set-1", "front", &["10.0.0.0/8".into(), "10.1.0.0/16".into()]).unwrap();
        let id = records.allocate(&caller, "p1", "shop", "web", "c1").unwrap();
        let acl = |priority, expression: &str, action| AclRecord {
            switch: "s1".into(),
            direction: AclDirection::ToLport,
            priority,
            expression: expression.into(),
            action,
        };
        records.create_acl("a1", acl(1, "1", AclAction::Drop)).unwrap();
        records.create_acl("a2", acl(1000, "ip4.src == $front && tcp.dst == 80", AclAction::AllowRelated)).unwrap();
        records.create_acl("a3", acl(2000, "outport == \"gone-c9\"", AclAction::Reject)).unwrap();
        let text = acls(&records);
        assert!(text.contains(" set set-1 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }\n"), "{text}");
        assert!(text.contains(" chain to-s1 {\n  ip saddr @set-1 tcp dport 80 accept\n  drop\n }\n"), "{text}");
        assert!(text.contains("  ip daddr 10.244.1.0/24 jump to-s1\n") && !text.contains("from-s1"), "{text}");
        assert!(!rules(&settings, &records).contains("10.244.1.2"), "an address without a port is on no network");
        records.attach(&id);
        let text = rules(&settings, &records);
        assert!(text.contains("members { 0x10000 . 10.244.1.2 }") && text.contains("0a:58:0a:f4:01:02"), "{text}");
        let planned = port(&settings, 1500, &records, &id, &records.ports[&id]);
        assert_eq!((planned.alias().as_str(), planned.gateway.to_string().as_str()), ("k8s-shop@proj-1/web-c1", "10.244.0.1"));
    }
}
