//! The fixed part of the rules: maps, base chains and the chains that pick a backend.
//!
//! Everything that varies lives in maps keyed by address, protocol and port, so that a change touches elements, not
//! rules. A chain that picks draws a slot and is shared by all frontends with as many backends; a slot is a map from
//! frontend to backend. (One map for all slots, keyed by the number drawn, would need `typeof` keys, which nft 1.0.6
//! can't read back: then every new chain would mean a full reload.)
use crate::plan::Translation;
use crate::settings::ProxySettings;
use std::fmt;

/// Which key a frontend has: its address, with the cluster that sees it if that is a virtual one, or only its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Services,
    /// Services of virtual clusters, whose addresses are anybody's.
    Hosted,
    Ports,
}

/// The part of a packet's mark that is the number of the cluster it travels for, as the pod network sets it.
pub const CLUSTER_MASK: u32 = 0xffff_0000;
/// In a flow's mark: it came in by an address or port that is everybody's, and travels for the cluster it was led to.
pub const PUBLIC: u32 = 0x8000;

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Hosted => "hosted",
            Self::Ports => "ports",
        }
    }
    /// Frontend to the chain that picks its backend.
    pub fn frontends(self) -> &'static str {
        self.name()
    }
    /// The same for clients outside the cluster.
    pub fn outside(self) -> &'static str {
        match self {
            Self::Services => "outside-services",
            Self::Hosted => "outside-hosted",
            Self::Ports => "outside-ports",
        }
    }
    /// Frontends without backend.
    pub fn empty(self) -> &'static str {
        match self {
            Self::Services => "empty-services",
            Self::Hosted => "empty-hosted",
            Self::Ports => "empty-ports",
        }
    }
    /// Frontends whose clients keep their backend.
    pub fn sticky(self) -> &'static str {
        match self {
            Self::Services => "sticky-services",
            Self::Hosted => "sticky-hosted",
            Self::Ports => "sticky-ports",
        }
    }
    /// Frontends of virtual clusters that everybody may reach, and the mark that flows to them get.
    pub fn owners(self) -> &'static str {
        match self {
            Self::Services => "owners-services",
            Self::Hosted => "owners-hosted",
            Self::Ports => "owners-ports",
        }
    }
    fn key_type(self) -> &'static str {
        match self {
            Self::Services => "ipv4_addr . inet_proto . inet_service",
            Self::Hosted => "mark . ipv4_addr . inet_proto . inet_service",
            Self::Ports => "inet_proto . inet_service",
        }
    }
    fn key(self) -> &'static str {
        match self {
            Self::Services => "ip daddr . meta l4proto . th dport",
            Self::Hosted => "meta mark & 0xffff0000 . ip daddr . meta l4proto . th dport",
            Self::Ports => "meta l4proto . th dport",
        }
    }
}

pub const FIREWALL: &str = "guarded-services";
pub const ALLOWED: &str = "allowed-sources";
pub const CLUSTER_ADDRESSES: &str = "cluster-addresses";
pub const HOSTED_ADDRESSES: &str = "hosted-addresses";
/// Clients, where they asked, and the backends they keep. A client's address is one cluster's, so keys need no cluster.
pub const AFFINITY: &str = "affinity";
pub const HAIRPINS: &str = "hairpins";

/// The backends that frontends have in one place of their order: a map, and the chain that looks into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub family: Family,
    /// For clients outside the cluster, where they get other backends.
    pub outside: bool,
    pub number: usize,
}

/// The name of the map and of the chain.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}-slot-{}", self.family.name(), if self.outside { "-outside" } else { "" }, self.number)
    }
}

impl Slot {
    pub fn definition(&self, settings: &ProxySettings) -> String {
        let table = &settings.table;
        format!(
            "add map ip {table} {self} {{ type {} : ipv4_addr . inet_service ; }}\nadd chain ip {table} {self}\nadd rule ip {table} {self} {DNAT} {} map @{self}\n",
            self.family.key_type(),
            self.family.key()
        )
    }
}

/// A map or set that elements are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    Named(&'static str),
    Slot(Slot),
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Slot(slot) => slot.fmt(f),
        }
    }
}

const DNAT: &str = "meta l4proto { tcp, udp, sctp } dnat ip to";

/// A chain that draws one of `count` backends and leads the connection there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PickChain {
    pub family: Family,
    pub translation: Translation,
    pub count: usize,
    pub outside: bool,
    pub sticky: bool,
}

impl PickChain {
    pub fn name(&self) -> String {
        let translation = match self.translation {
            Translation::Cluster => "cluster",
            Translation::External => "external",
            Translation::Inside => "inside",
            Translation::Keep => "keep",
        };
        let suffix = |yes, suffix| if yes { suffix } else { "" };
        format!("{}-{translation}-{}{}{}", self.family.name(), self.count, suffix(self.outside, "-outside"), suffix(self.sticky, "-sticky"))
    }

    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let (family, outside) = (self.family, self.outside);
        (0..self.count).map(move |number| Slot { family, outside, number })
    }

    /// The slots it leads to must be there.
    pub fn definition(&self, settings: &ProxySettings) -> String {
        let (table, name) = (&settings.table, self.name());
        let mut rules = vec![format!("add chain ip {table} {name}")];
        let mut rule = |text: String| rules.push(format!("add rule ip {table} {name} {text}"));
        let mark = format!("meta mark set meta mark | {:#x}", bit(settings));
        // What everybody may reach is not seen in the name of the client's cluster.
        if self.family == Family::Ports || self.family == Family::Services && self.translation != Translation::Cluster {
            rule(format!("jump {}", claim(self.family)));
        }
        match self.translation {
            Translation::Cluster => rule(format!("ip saddr != {} {mark}", settings.cluster_cidr)),
            Translation::External => rule(mark),
            Translation::Inside => rule(format!("ip saddr != {} fib saddr type local {mark}", settings.cluster_cidr)),
            Translation::Keep => {}
        }
        if self.sticky {
            rule(format!("{DNAT} ip saddr . ip daddr . meta l4proto . th dport map @{AFFINITY}"));
        }
        let slots: Vec<String> = self.slots().map(|slot| format!("{} : goto {slot}", slot.number)).collect();
        rule(format!("numgen random mod {} vmap {{ {} }}", self.count, slots.join(", ")));
        rules.join("\n") + "\n"
    }
}

/// The chain that makes a flow travel for the cluster it is led to.
fn claim(family: Family) -> String {
    format!("claim-{}", family.name())
}

pub fn remember_name(seconds: u32) -> String {
    format!("remember-{seconds}")
}

/// The chain that notes which backend a client got. It runs after translation, when the packet bears the backend's address.
pub fn remember_definition(seconds: u32, settings: &ProxySettings) -> String {
    let (table, name) = (&settings.table, remember_name(seconds));
    let rules = ["tcp", "udp", "sctp"].map(|protocol| {
        format!(
            "add rule ip {table} {name} meta l4proto {protocol} update @{AFFINITY} {{ ct original ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst timeout {seconds}s : ip daddr . th dport }}\n"
        )
    });
    format!("add chain ip {table} {name}\n{}", rules.concat())
}

/// Everything but the elements. It begins by deleting what was there: in one transaction, so no packet meets a gap.
pub fn base(settings: &ProxySettings) -> String {
    let (table, cluster, bit) = (&settings.table, settings.cluster_cidr, bit(settings));
    let outsiders = format!("ip saddr != {cluster} fib saddr type != local");
    let node_ports = "ip daddr != 127.0.0.0/8 fib daddr type local";
    let (service, port) = (Family::Services.key(), Family::Ports.key());
    let hosted = Family::Hosted.key();
    let is_hosted = format!("meta mark & {CLUSTER_MASK:#x} != 0");
    let sticky = |addresses: &str| -> String {
        let rules = ["tcp", "udp", "sctp"].map(|protocol| {
            format!("  meta l4proto {protocol} {addresses}\n  meta l4proto {protocol} meta l4proto . ct original proto-dst vmap @sticky-ports\n")
        });
        rules.concat()
    };
    let sticky_services = sticky("ct original ip daddr . meta l4proto . ct original proto-dst vmap @sticky-services");
    let sticky_hosted = sticky("meta mark & 0xffff0000 . ct original ip daddr . meta l4proto . ct original proto-dst vmap @sticky-hosted");
    let claims: String = [Family::Services, Family::Ports]
        .map(|family| {
            let (chain, key, owners) = (claim(family), family.key(), family.owners());
            format!(
                " map {owners} {{\n  type {} : mark\n }}\n chain {chain} {{\n  ct mark set {key} map @{owners} goto claimed\n  meta mark & {CLUSTER_MASK:#x} == 0 return\n  \
                 ct mark set {PUBLIC:#x} goto claimed\n }}\n",
                family.key_type()
            )
        })
        .concat();
    let verdicts: String = [Family::Services, Family::Hosted, Family::Ports]
        .map(|family| {
            let map = |name: &str| format!(" map {name} {{\n  type {} : verdict\n }}\n", family.key_type());
            [map(family.frontends()), map(family.outside()), map(family.empty()), map(family.sticky())].concat()
        })
        .concat();
    format!(
        "\
add table ip {table}
delete table ip {table}
table ip {table} {{
{verdicts} map {AFFINITY} {{
  type ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
  size 262144
  flags dynamic,timeout
  timeout 3h
 }}
 chain claimed {{
  meta mark set ct mark & {CLUSTER_MASK:#x}
 }}
{claims} set {FIREWALL} {{
  type ipv4_addr . inet_proto . inet_service
 }}
 set {ALLOWED} {{
  type ipv4_addr . inet_proto . inet_service . ipv4_addr
  flags interval
 }}
 set {CLUSTER_ADDRESSES} {{
  type ipv4_addr
 }}
 set {HOSTED_ADDRESSES} {{
  type mark . ipv4_addr
 }}
 set {HAIRPINS} {{
  type ipv4_addr . ipv4_addr
 }}
 chain translate {{
  {outsiders} {service} vmap @outside-services
  {service} vmap @services
  ip daddr 127.0.0.0/8 return
  fib daddr type != local return
  {outsiders} {port} vmap @outside-ports
  {port} vmap @ports
 }}
 chain translate-hosted {{
  ct mark set meta mark & {CLUSTER_MASK:#x}
  {hosted} vmap @hosted
  ip daddr @{CLUSTER_ADDRESSES} return
  {service} vmap @services
  fib daddr type != local return
  {port} vmap @ports
 }}
 chain remember {{
  {is_hosted} goto remember-hosted
{sticky_services} }}
 chain remember-hosted {{
{sticky_hosted} }}
 chain refuse {{
  meta l4proto tcp reject with tcp reset
  reject
 }}
 chain check-empty {{
  {service} vmap @empty-services
  {node_ports} {port} vmap @empty-ports
 }}
 chain guard {{
  type filter hook prerouting priority dstnat - 10; policy accept;
  ct mark & {PUBLIC:#x} == {PUBLIC:#x} ct direction original meta mark set ct mark & {CLUSTER_MASK:#x}
  ct state new {service} @{FIREWALL} {service} . ip saddr != @{ALLOWED} drop
 }}
 chain prerouting {{
  type nat hook prerouting priority dstnat; policy accept;
  {is_hosted} goto translate-hosted
  jump translate
 }}
 chain output {{
  type nat hook output priority -100; policy accept;
  {is_hosted} goto translate-hosted
  jump translate
 }}
 chain guard-output {{
  type filter hook output priority -110; policy accept;
  ct mark & {PUBLIC:#x} == {PUBLIC:#x} ct direction original meta mark set ct mark & {CLUSTER_MASK:#x}
 }}
 chain remember-prerouting {{
  type filter hook prerouting priority dstnat + 5; policy accept;
  ct state new ct status dnat jump remember
 }}
 chain remember-output {{
  type filter hook output priority -95; policy accept;
  ct state new ct status dnat jump remember
 }}
 chain postrouting {{
  type nat hook postrouting priority srcnat; policy accept;
  ct status dnat ip saddr . ip daddr @{HAIRPINS} masquerade fully-random
  meta mark & {bit:#x} == 0 return
  meta mark set meta mark & {inverse:#x} masquerade fully-random
 }}
 chain filter-input {{
  type filter hook input priority filter; policy accept;
  ct state new jump check-empty
 }}
 chain filter-hosted {{
  {hosted} vmap @empty-hosted
  meta mark & {CLUSTER_MASK:#x} . ip daddr @{HOSTED_ADDRESSES} goto refuse
  ip daddr @{CLUSTER_ADDRESSES} return
  {service} vmap @empty-services
 }}
 chain filter-forward {{
  type filter hook forward priority filter; policy accept;
  ct state new {is_hosted} goto filter-hosted
  ct state new jump check-empty
  ct state new ip daddr @{CLUSTER_ADDRESSES} goto refuse
 }}
 chain filter-output {{
  type filter hook output priority filter; policy accept;
  ct state new {is_hosted} goto filter-hosted
  ct state new jump check-empty
  ct state new ip daddr @{CLUSTER_ADDRESSES} goto refuse
 }}
}}
",
        inverse = !bit
    )
}

fn bit(settings: &ProxySettings) -> u32 {
    1 << settings.masquerade_bit
}
