//! NodeNetwork: the addresses a node answers for, on a device of their own, announced, and shut but for their doors.
//!
//! The kernel answers ARP for an address of any of its devices, so the addresses need no place on the uplink: the device
//! that holds them is ours whole, and what is on it after a crash is known to be ours.
use crate::announcement::announce;
use crate::{Error, NodeSettings};
use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// An announcement may be lost, so there are several, this far apart.
const ANNOUNCEMENTS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(500);

/// The part of a packet's mark that is the number of the cluster it travels for, and the other part.
const CLUSTER_MASK: u32 = 0xffff_0000;
const REST_MASK: u32 = 0x0000_ffff;

/// An address, a protocol in lower case, and a port.
pub type Door = (Ipv4Addr, String, u16);

pub struct NodeNetwork {
    settings: NodeSettings,
    /// What is in the kernel; `None`: not known.
    doors: Option<Doors>,
}

/// What rules are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// Addresses whose other ports are shut.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Their ports that may be connected to.
    pub open: BTreeSet<Door>,
    /// Where a process of the node listens, also at other addresses: as open to the pods of virtual clusters as to everybody.
    pub proxied: BTreeSet<Door>,
}

impl NodeNetwork {
    pub fn new(settings: NodeSettings) -> Self {
        Self { settings, doors: None }
    }

    /// Answers for these addresses besides those it has, with these doors open.
    pub async fn add(&mut self, doors: &Doors) -> Result<(), Error> {
        if self.doors.as_ref() != Some(doors) {
            self.doors = None;
            run("nft", &["-f", "-"], &rules(&self.settings.table, doors)).await?;
            self.doors = Some(doors.clone());
        }
        let addresses = &doors.addresses;
        let here = held(&self.settings.device);
        let new: Vec<Ipv4Addr> = addresses.iter().filter(|address| !here.contains(address)).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        let device = &self.settings.device;
        if !exists(device) {
            run("ip", &["-batch", "-"], &format!("link add {device} type bridge\nlink set {device} up\n")).await?;
        }
        let script: String = new.iter().fold(String::new(), |mut script, address| {
            writeln!(script, "address replace {address}/32 dev {device}").expect("a string takes all");
            script
        });
        run("ip", &["-batch", "-"], &script).await?;
        self.announce(new);
        Ok(())
    }

    /// Answers for no other addresses than these.
    pub async fn retain(&mut self, addresses: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
        let device = &self.settings.device;
        let gone: Vec<Ipv4Addr> = held(device).into_iter().filter(|address| !addresses.contains(address)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let script: String = gone.iter().fold(String::new(), |mut script, address| {
            writeln!(script, "address delete {address}/32 dev {device}").expect("a string takes all");
            script
        });
        run("ip", &["-batch", "-"], &script).await
    }

    /// Announces all addresses there are once more.
    pub fn announce_all(&self) {
        self.announce(held(&self.settings.device).into_iter().collect());
    }

    fn announce(&self, addresses: Vec<Ipv4Addr>) {
        let Some((index, hardware)) = uplink(self.settings.node_address) else {
            tracing::debug!(?addresses, "the node's address is on no link, so nobody is told of new ones");
            return;
        };
        tokio::spawn(async move {
            for _ in 0..ANNOUNCEMENTS {
                for address in &addresses {
                    if let Err(error) = announce(index, hardware, *address) {
                        tracing::warn!(%address, %error, "an address could not be announced");
                    }
                }
                tokio::time::sleep(BETWEEN).await;
            }
        });
    }
}

/// Takes away what is on the machine, in the network namespace of the calling thread. Nothing there is fine.
pub async fn teardown(table: &str, device: &str) -> Result<(), Error> {
    run("nft", &["-f", "-"], &format!("add table ip {table}\ndelete table ip {table}\n")).await?;
    if exists(device) { run("ip", &["link", "delete", device], "").await } else { Ok(()) }
}

/// The rules as one transaction. New connections to other ports are refused before anything translates or takes them.
///
/// Packets from pods of virtual clusters bear their cluster's mark, which leads to nothing of the node. To what everybody
/// may connect to they go without it, as if they came from outside.
fn rules(table: &str, doors: &Doors) -> String {
    let mut text = format!("add table ip {table}\ndelete table ip {table}\n");
    if *doors == Doors::default() {
        return text;
    }
    let list = |elements: Vec<String>| if elements.is_empty() { String::new() } else { format!("\n  elements = {{ {} }}", elements.join(", ")) };
    let ports = |doors: &BTreeSet<Door>| list(doors.iter().map(|(address, protocol, port)| format!("{address} . {protocol} . {port}")).collect());
    let (all, open, proxied) = (list(doors.addresses.iter().map(ToString::to_string).collect()), ports(&doors.open), ports(&doors.proxied));
    write!(
        text,
        "table ip {table} {{
 set addresses {{
  type ipv4_addr{all}
 }}
 set open {{
  type ipv4_addr . inet_proto . inet_service{open}
 }}
 set proxied {{
  type ipv4_addr . inet_proto . inet_service{proxied}
 }}
 chain guard {{
  type filter hook prerouting priority dstnat - 15; policy accept;
  ip daddr @addresses ct state new meta l4proto {{ tcp, udp, sctp }} ip daddr . meta l4proto . th dport != @open jump refuse
  meta mark & {CLUSTER_MASK:#x} != 0 meta l4proto tcp ip daddr . meta l4proto . th dport @proxied meta mark set meta mark & {REST_MASK:#x}
 }}
 chain refuse {{
  meta l4proto tcp reject with tcp reset
  reject
 }}
}}
"
    )
    .expect("a string takes all");
    text
}

fn exists(device: &str) -> bool {
    std::path::Path::new("/proc/sys/net/ipv4/conf").join(device).exists()
}

/// The addresses on a device.
fn held(device: &str) -> BTreeSet<Ipv4Addr> {
    let Ok(all) = getifaddrs() else { return BTreeSet::new() };
    all.filter(|entry| entry.interface_name == device).filter_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip())).collect()
}

/// The device that has an address: its index and hardware address.
fn uplink(address: Ipv4Addr) -> Option<(u32, [u8; 6])> {
    let all: Vec<_> = getifaddrs().ok()?.collect();
    let name = &all.iter().find(|entry| entry.address.as_ref().and_then(|a| a.as_sockaddr_in()).is_some_and(|a| a.ip() == address))?.interface_name;
    let link = all.iter().filter(|entry| entry.interface_name == *name).find_map(|entry| entry.address.as_ref()?.as_link_addr().copied())?;
    Some((u32::try_from(link.ifindex()).ok()?, link.addr()?))
}

async fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<(), Error> {
    let failed = |source| Error::Run { program, source };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    // A program that ends before it has read all tells why on stderr.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() { Ok(()) } else { Err(Error::Refused { program, message: String::from_utf8_lossy(&output.stderr).trim().to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_doors_are_open() {
        let address = Ipv4Addr::new(192, 0, 2, 50);
        let open = BTreeSet::from([(address, "tcp".to_owned(), 80), (address, "udp".to_owned(), 53)]);
        let text = rules("t", &Doors { addresses: BTreeSet::from([address]), open, proxied: BTreeSet::new() });
        assert!(text.starts_with("add table ip t\ndelete table ip t\ntable ip t {"), "{text}");
        assert!(text.contains("elements = { 192.0.2.50 . tcp . 80, 192.0.2.50 . udp . 53 }"), "{text}");
        assert_eq!(rules("t", &Doors::default()), "add table ip t\ndelete table ip t\n");
    }
}
