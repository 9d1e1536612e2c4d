//! Applies scripts with nft and forgets what the kernel remembers of backends that are gone.
use crate::conntrack;
use crate::error::Error;
use crate::plan::{Frontend, Protocol};
use crate::ruleset::Forgotten;
use crate::settings::check_table;
use crate::tables::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Takes the proxy's table away, in the network namespace of the calling thread. None there is fine.
pub async fn teardown(table: &str) -> Result<(), Error> {
    check_table(table)?;
    apply(&format!("add table ip {table}\ndelete table ip {table}\n")).await
}

/// Runs a script as one transaction: all of it or nothing.
pub(crate) async fn apply(script: &str) -> Result<(), Error> {
    nft(&["-f", "-"], script).await.map(|_| ())
}

/// Ends flows and affinities that lead to backends their frontends no longer have.
pub(crate) async fn forget(table: &str, forgotten: Forgotten) -> Result<(), Error> {
    if !forgotten.affinity.is_empty() {
        let hosted = forgotten.affinity.keys().any(|frontend| frontend.cluster != 0);
        let others = forgotten.affinity.keys().any(|frontend| frontend.cluster == 0);
        for map in [hosted.then_some(Family::Hosted.affinity()), others.then_some(Family::Services.affinity())].into_iter().flatten() {
            let listed = nft(&["-n", "list", "map", "ip", table, map], "").await?;
            for element in stale_affinity(&listed, &forgotten.affinity) {
                // One that ran out meanwhile is as good as deleted, so each goes by itself and may be missing.
                if let Err(error) = apply(&format!("delete element ip {table} {map} {{ {element} }}\n")).await {
                    tracing::debug!(element, %error, "an affinity was gone before it was deleted");
                }
            }
        }
    }
    if !forgotten.flows.is_empty() {
        // Dumping the kernel's table blocks.
        let ended = tokio::task::spawn_blocking(move || conntrack::end_stale(&forgotten.flows)).await;
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    }
    Ok(())
}

/// The keys of affinity elements ([cluster's mark .] client . address . protocol . port) that lead to none of their frontend's backends.
fn stale_affinity(listed: &str, frontends: &BTreeMap<Frontend, BTreeSet<SocketAddrV4>>) -> Vec<String> {
    let elements = listed.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}')).map_or("", |(elements, _)| elements);
    let stale = |element: &str| -> Option<String> {
        let (left, backend) = element.rsplit_once(" : ")?;
        let words: Vec<&str> = left.split_whitespace().collect();
        let (mark, words) = match words[..] {
            [mark, ".", ref rest @ ..] if mark.starts_with("0x") => (mark, rest),
            ref all => ("", all),
        };
        let cluster = if mark.is_empty() { 0 } else { u16::try_from(u32::from_str_radix(mark.trim_start_matches("0x"), 16).ok()? >> 16).ok()? };
        let [client, ".", address, ".", protocol, ".", port, ..] = *words else { return None };
        let (ip, backend_port) = backend.split_once(" . ")?;
        let backend = SocketAddrV4::new(ip.trim().parse().ok()?, backend_port.trim().parse().ok()?);
        let protocol_name = match protocol {
            "tcp" | "6" => Protocol::Tcp,
            "udp" | "17" => Protocol::Udp,
            "sctp" | "132" => Protocol::Sctp,
            _ => return None,
        };
        let at = |address: Option<Ipv4Addr>| Some(Frontend { cluster, address, protocol: protocol_name, port: port.parse().ok()? });
        let backends = frontends.get(&at(address.parse().ok())?).or_else(|| frontends.get(&at(None)?))?;
        let separator = if mark.is_empty() { "" } else { " . " };
        (!backends.contains(&backend)).then(|| format!("{mark}{separator}{client} . {address} . {protocol} . {port}"))
    };
    elements.split(',').filter_map(|element| stale(element.trim())).collect()
}

async fn nft(arguments: &[&str], input: &str) -> Result<String, Error> {
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(Error::Run)?;
    let mut stdin = child.stdin.take().expect("stdin was piped");
    // Both at once: nft may speak before it has read everything.
    let (written, output) = tokio::join!(
        async {
            let written = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            written
        },
        child.wait_with_output()
    );
    let output = output.map_err(Error::Run)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        // nft repeats the line it refuses, which may be as long as the whole ruleset.
        return Err(Error::Refused(text.lines().filter(|line| line.len() < 400).take(5).collect::<Vec<_>>().join("; ")));
    }
    written.map_err(Error::Run)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_to_lost_backends_are_found() {
        let listed = "table ip t {\n map affinity {\n  flags dynamic,timeout\n  elements = { 10.1.0.1 . 10.96.0.1 . tcp . 80 timeout 1m40s expires 1m39s : 10.244.0.5 . 8080,\n \
                      10.1.0.2 . 10.96.0.1 . tcp . 80 timeout 1m40s expires 9s : 10.244.0.6 . 8080, 10.1.0.2 . 10.9.0.1 . tcp . 30080 expires 9s : 10.244.0.6 . 8080 }\n }\n}";
        let frontend = |address: Option<&str>, port| Frontend { cluster: 0, address: address.map(|a| a.parse().unwrap()), protocol: Protocol::Tcp, port };
        let left = BTreeSet::from(["10.244.0.5:8080".parse().unwrap()]);
        let frontends = BTreeMap::from([(frontend(Some("10.96.0.1"), 80), left.clone()), (frontend(None, 30080), left)]);
        assert_eq!(stale_affinity(listed, &frontends), ["10.1.0.2 . 10.96.0.1 . tcp . 80", "10.1.0.2 . 10.9.0.1 . tcp . 30080"]);
        let hosted = "map hosted-affinity {\n elements = { 0x00070000 . 10.1.0.1 . 10.96.0.1 . tcp . 80 timeout 9s expires 9s : 10.244.0.6 . 8080, 0x00080000 . 10.1.0.2 . 10.96.0.1 . tcp . 80 expires 9s : 10.244.0.6 . 8080 }\n}";
        let of_seven = BTreeMap::from([(Frontend { cluster: 7, ..frontend(Some("10.96.0.1"), 80) }, BTreeSet::new())]);
        assert_eq!(stale_affinity(hosted, &of_seven), ["0x00070000 . 10.1.0.1 . 10.96.0.1 . tcp . 80"], "only that cluster's");
        assert!(stale_affinity("map affinity { }", &frontends).is_empty());
    }
}
