//! The fixed part of the rules: maps, base chains and the chains that pick a backend.
//!
//! Everything that varies lives in maps keyed by address, protocol and port, so that a change touches elements, not
//! rules. A chain that picks draws a slot and is shared by all frontends with as many backends; a slot is a map from
//! frontend to backend. (One map for all slots, keyed by the number drawn, would need `typeof` keys, which nft 1.0.6
//! can't read back: then every new chain would mean a full reload.)
use crate::plan::Translation;
use crate::settings::ProxySettings;
use api_meta::IpFamily;
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
    fn key_type(self, family: IpFamily) -> String {
        let address = family.address_type();
        match self {
            Self::Services => format!("{address} . inet_proto . inet_service"),
            Self::Hosted => format!("mark . {address} . inet_proto . inet_service"),
            Self::Ports => "inet_proto . inet_service".into(),
        }
    }
    fn key(self, family: IpFamily) -> String {
        let ip = family.header();
        match self {
            Self::Services => format!("{ip} daddr . meta l4proto . th dport"),
            Self::Hosted => format!("meta mark & 0xffff0000 . {ip} daddr . meta l4proto . th dport"),
            Self::Ports => "meta l4proto . th dport".into(),
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
        let (table, family) = (&settings.table, settings.family());
        let (ip, address, dnat) = (family.header(), family.address_type(), dnat(family));
        format!(
            "add map {ip} {table} {self} {{ type {} : {address} . inet_service ; }}\nadd chain {ip} {table} {self}\nadd rule {ip} {table} {self} {dnat} {} map @{self}\n",
            self.family.key_type(family),
            self.family.key(family)
        )
    }
}

impl Slot {
    /// The set of the clients that keep it.
    fn clients(&self) -> String {
        format!("{self}-clients")
    }

    /// The chain that notes that a client keeps it, on the way to it.
    pub fn keep_name(&self, seconds: u32) -> String {
        format!("{self}-keep-{seconds}")
    }

    pub fn keep_definition(&self, seconds: u32, settings: &ProxySettings) -> String {
        let (table, ip, address) = (&settings.table, settings.family().header(), settings.family().address_type());
        let (name, clients) = (self.keep_name(seconds), self.clients());
        let note = ["tcp", "udp", "sctp"].map(|protocol| {
            format!(
                "add rule {ip} {table} {name} meta l4proto {protocol} update @{clients} {{ {ip} saddr . {ip} daddr . meta l4proto . th dport timeout {seconds}s }}\n"
            )
        });
        format!(
            "add set {ip} {table} {clients} {{ type {address} . {address} . inet_proto . inet_service ; size 262144 ; flags dynamic,timeout ; timeout 3h ; }}\n\
             add chain {ip} {table} {name}\n{}add rule {ip} {table} {name} goto {self}\n",
            note.concat()
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

fn dnat(family: IpFamily) -> String {
    format!("meta l4proto {{ tcp, udp, sctp }} dnat {} to", family.header())
}

/// Addresses at which node ports are not: those that mean every machine itself, or its link.
fn nobodys(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "127.0.0.0/8",
        IpFamily::V6 => "{ ::1, fe80::/10 }",
    }
}

/// A chain that draws one of `count` backends and leads the connection there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PickChain {
    pub family: Family,
    pub translation: Translation,
    pub count: usize,
    pub outside: bool,
    pub sticky: bool,
    /// How long clients keep their slot, in seconds, where that is noted by slots (see [`affinity_is_by_slots`]).
    pub kept_seconds: Option<u32>,
}

/// Whether it is noted which slot a client got, and not which backend: nft 1.0.6 lets rules put nothing into maps whose
/// keys or values are longer than 16 bytes, as they are with IPv6. So the clients of a backend that takes over the slot
/// of one that is gone are drawn anew.
pub fn affinity_is_by_slots(family: IpFamily) -> bool {
    family == IpFamily::V6
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
        let seconds = self.kept_seconds.map(|seconds| format!("-{seconds}")).unwrap_or_default();
        format!("{}-{translation}-{}{}{}{seconds}", self.family.name(), self.count, suffix(self.outside, "-outside"), suffix(self.sticky, "-sticky"))
    }

    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let (family, outside) = (self.family, self.outside);
        (0..self.count).map(move |number| Slot { family, outside, number })
    }

    /// The slots it leads to must be there.
    pub fn definition(&self, settings: &ProxySettings) -> String {
        let (table, name, family) = (&settings.table, self.name(), settings.family());
        let ip = family.header();
        let mut rules = vec![format!("add chain {ip} {table} {name}")];
        let mut rule = |text: String| rules.push(format!("add rule {ip} {table} {name} {text}"));
        let mark = format!("meta mark set meta mark | {:#x}", bit(settings));
        // What everybody may reach is not seen in the name of the client's cluster.
        if self.family == Family::Ports || self.family == Family::Services && self.translation != Translation::Cluster {
            rule(format!("jump {}", claim(self.family)));
        }
        match self.translation {
            Translation::Cluster => rule(format!("{ip} saddr != {} {mark}", settings.cluster_cidr)),
            Translation::External => rule(mark),
            Translation::Inside => rule(format!("{ip} saddr != {} fib saddr type local {mark}", settings.cluster_cidr)),
            Translation::Keep => {}
        }
        let client = format!("{ip} saddr . {ip} daddr . meta l4proto . th dport");
        let target = |slot: Slot| self.kept_seconds.map_or_else(|| slot.to_string(), |seconds| slot.keep_name(seconds));
        if self.kept_seconds.is_some() {
            self.slots().for_each(|slot| rule(format!("meta l4proto {{ tcp, udp, sctp }} {client} @{} goto {}", slot.clients(), target(slot))));
        } else if self.sticky {
            rule(format!("{} {client} map @{AFFINITY}", dnat(family)));
        }
        let slots: Vec<String> = self.slots().map(|slot| format!("{} : goto {}", slot.number, target(slot))).collect();
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
    let (table, name, ip) = (&settings.table, remember_name(seconds), settings.family().header());
    let rules = ["tcp", "udp", "sctp"].map(|protocol| {
        format!(
            "add rule {ip} {table} {name} meta l4proto {protocol} update @{AFFINITY} {{ ct original {ip} saddr . ct original {ip} daddr . meta l4proto . ct original proto-dst timeout {seconds}s : {ip} daddr . th dport }}\n"
        )
    });
    format!("add chain {ip} {table} {name}\n{}", rules.concat())
}

/// Everything but the elements. It begins by deleting what was there: in one transaction, so no packet meets a gap.
pub fn base(settings: &ProxySettings) -> String {
    let (table, cluster, bit) = (&settings.table, settings.cluster_cidr, bit(settings));
    let family = settings.family();
    let (ip, address_type, nobodys) = (family.header(), family.address_type(), nobodys(family));
    let outsiders = format!("{ip} saddr != {cluster} fib saddr type != local");
    let node_ports = format!("{ip} daddr != {nobodys} fib daddr type local");
    let [service, port, hosted] = [Family::Services, Family::Ports, Family::Hosted].map(|keys| keys.key(family));
    let is_hosted = format!("meta mark & {CLUSTER_MASK:#x} != 0");
    let sticky = |addresses: &str| -> String {
        if affinity_is_by_slots(family) {
            return String::new();
        }
        let rules = ["tcp", "udp", "sctp"].map(|protocol| {
            format!("  meta l4proto {protocol} {addresses}\n  meta l4proto {protocol} meta l4proto . ct original proto-dst vmap @sticky-ports\n")
        });
        rules.concat()
    };
    let sticky_services = sticky(&format!("ct original {ip} daddr . meta l4proto . ct original proto-dst vmap @sticky-services"));
    let sticky_hosted = sticky(&format!("meta mark & 0xffff0000 . ct original {ip} daddr . meta l4proto . ct original proto-dst vmap @sticky-hosted"));
    let claims: String = [Family::Services, Family::Ports]
        .map(|keys| {
            let (chain, key, owners) = (claim(keys), keys.key(family), keys.owners());
            format!(
                " map {owners} {{\n  type {} : mark\n }}\n chain {chain} {{\n  ct mark set {key} map @{owners} goto claimed\n  meta mark & {CLUSTER_MASK:#x} == 0 return\n  \
                 ct mark set {PUBLIC:#x} goto claimed\n }}\n",
                keys.key_type(family)
            )
        })
        .concat();
    let verdicts: String = [Family::Services, Family::Hosted, Family::Ports]
        .map(|keys| {
            let map = |name: &str| format!(" map {name} {{\n  type {} : verdict\n }}\n", keys.key_type(family));
            [map(keys.frontends()), map(keys.outside()), map(keys.empty()), map(keys.sticky())].concat()
        })
        .concat();
    format!(
        "\
add table {ip} {table}
delete table {ip} {table}
table {ip} {table} {{
{verdicts} map {AFFINITY} {{
  type {address_type} . {address_type} . inet_proto . inet_service : {address_type} . inet_service
  size 262144
  flags dynamic,timeout
  timeout 3h
 }}
 chain claimed {{
  meta mark set ct mark & {CLUSTER_MASK:#x}
 }}
{claims} set {FIREWALL} {{
  type {address_type} . inet_proto . inet_service
 }}
 set {ALLOWED} {{
  type {address_type} . inet_proto . inet_service . {address_type}
  flags interval
 }}
 set {CLUSTER_ADDRESSES} {{
  type {address_type}
 }}
 set {HOSTED_ADDRESSES} {{
  type mark . {address_type}
 }}
 set {HAIRPINS} {{
  type {address_type} . {address_type}
 }}
 chain translate {{
  {outsiders} {service} vmap @outside-services
  {service} vmap @services
  {ip} daddr {nobodys} return
  fib daddr type != local return
  {outsiders} {port} vmap @outside-ports
  {port} vmap @ports
 }}
 chain translate-hosted {{
  ct mark set meta mark & {CLUSTER_MASK:#x}
  {hosted} vmap @hosted
  {ip} daddr @{CLUSTER_ADDRESSES} return
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
  ct state new {service} @{FIREWALL} {service} . {ip} saddr != @{ALLOWED} drop
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
  ct status dnat {ip} saddr . {ip} daddr @{HAIRPINS} masquerade fully-random
  meta mark & {bit:#x} == 0 return
  meta mark set meta mark & {inverse:#x} masquerade fully-random
 }}
 chain filter-input {{
  type filter hook input priority filter; policy accept;
  ct state new jump check-empty
 }}
 chain filter-hosted {{
  {hosted} vmap @empty-hosted
  meta mark & {CLUSTER_MASK:#x} . {ip} daddr @{HOSTED_ADDRESSES} goto refuse
  {ip} daddr @{CLUSTER_ADDRESSES} return
  {service} vmap @empty-services
 }}
 chain filter-forward {{
  type filter hook forward priority filter; policy accept;
  ct state new {is_hosted} goto filter-hosted
  ct state new jump check-empty
  ct state new {ip} daddr @{CLUSTER_ADDRESSES} goto refuse
 }}
 chain filter-output {{
  type filter hook output priority filter; policy accept;
  ct state new {is_hosted} goto filter-hosted
  ct state new jump check-empty
  ct state new {ip} daddr @{CLUSTER_ADDRESSES} goto refuse
 }}
}}
",
        inverse = !bit
    )
}

fn bit(settings: &ProxySettings) -> u32 {
    1 << settings.masquerade_bit
}
