//! Applies scripts with nft and forgets what the kernel remembers of backends that are gone.
use crate::conntrack;
use crate::error::Error;
use crate::plan::{Frontend, Protocol};
use crate::ruleset::Forgotten;
use crate::settings::check_table;
use crate::tables::AFFINITY;
use api_meta::IpFamily;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Takes the proxy's tables of these families away, in the network namespace of the calling thread. None there is fine.
pub async fn teardown(families: &[IpFamily], table: &str) -> Result<(), Error> {
    check_table(table)?;
    let script = families.iter().map(|family| format!("add table {0} {table}\ndelete table {0} {table}\n", family.header()));
    apply(&script.collect::<String>()).await
}

/// Runs a script as one transaction: all of it or nothing.
pub(crate) async fn apply(script: &str) -> Result<(), Error> {
    nft(&["-f", "-"], script).await.map(|_| ())
}

/// Ends flows and affinities that lead to backends their frontends no longer have.
pub(crate) async fn forget(family: IpFamily, table: &str, forgotten: Forgotten) -> Result<(), Error> {
    if !forgotten.affinity.is_empty() {
        let listed = nft(&["-n", "list", "map", family.header(), table, AFFINITY], "").await?;
        for element in stale_affinity(&listed, &forgotten.affinity) {
            // One that ran out meanwhile is as good as deleted, so each goes by itself and may be missing.
            if let Err(error) = apply(&format!("delete element {} {table} {AFFINITY} {{ {element} }}\n", family.header())).await {
                tracing::debug!(element, %error, "an affinity was gone before it was deleted");
            }
        }
    }
    if !forgotten.flows.is_empty() {
        // Dumping the kernel's table blocks.
        let ended = tokio::task::spawn_blocking(move || conntrack::end_stale(family, &forgotten.flows)).await;
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    }
    Ok(())
}

/// The keys of affinity elements (client . address . protocol . port) that lead to a backend their frontend lost.
fn stale_affinity(listed: &str, lost: &BTreeMap<Frontend, BTreeSet<SocketAddr>>) -> Vec<String> {
    let elements = listed.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}')).map_or("", |(elements, _)| elements);
    let stale = |element: &str| -> Option<String> {
        let (left, backend) = element.rsplit_once(" : ")?;
        let words: Vec<&str> = left.split_whitespace().collect();
        let [client, ".", address, ".", protocol, ".", port, ..] = words[..] else { return None };
        let (ip, backend_port) = backend.split_once(" . ")?;
        let backend = SocketAddr::new(ip.trim().parse().ok()?, backend_port.trim().parse().ok()?);
        let protocol_name = match protocol {
            "tcp" | "6" => Protocol::Tcp,
            "udp" | "17" => Protocol::Udp,
            "sctp" | "132" => Protocol::Sctp,
            _ => return None,
        };
        let (address_asked, port_asked): (IpAddr, u16) = (address.parse().ok()?, port.parse().ok()?);
        // Whichever cluster's: a backend's address is one cluster's alone.
        let asked = |frontend: &Frontend| {
            frontend.protocol == protocol_name && frontend.port == port_asked && frontend.address.is_none_or(|address| address == address_asked)
        };
        let stale = lost.iter().any(|(frontend, backends)| asked(frontend) && backends.contains(&backend));
        stale.then(|| format!("{client} . {address} . {protocol} . {port}"))
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
        let gone = BTreeSet::from(["10.244.0.6:8080".parse().unwrap()]);
        let frontends = BTreeMap::from([(frontend(Some("10.96.0.1"), 80), gone.clone()), (frontend(None, 30080), gone)]);
        assert_eq!(stale_affinity(listed, &frontends), ["10.1.0.2 . 10.96.0.1 . tcp . 80", "10.1.0.2 . 10.9.0.1 . tcp . 30080"]);
        assert!(stale_affinity("map affinity { }", &frontends).is_empty());
    }
}
