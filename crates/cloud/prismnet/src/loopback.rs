//! The second plugin a runtime calls for every pod: `loopback` brings the pod's own `lo` up.
use crate::netlink::Netlink;
use crate::{Error, NetworkNamespace};
use serde_json::{Value, json};

/// The plugin's type, and the name of the file a runtime looks for.
pub const TYPE: &str = "loopback";
const INTERFACE: &str = "lo";

/// ADD: `lo` is up and has its addresses (the kernel gives them when it comes up).
pub(crate) fn add(version: &str, namespace: &NetworkNamespace) -> Result<Value, Error> {
    namespace.enter(|| -> Result<(), Error> {
        let mut netlink = Netlink::open()?;
        match netlink.link(INTERFACE)? {
            Some(link) => netlink.set_up(link.index),
            None => Err(Error::Settings(format!("the network namespace has no {INTERFACE}"))),
        }
    })??;
    let mut address = json!({ "address": "127.0.0.1/8", "interface": 0 });
    if version.starts_with("0.") {
        address["version"] = json!("4");
    }
    Ok(json!({
        "cniVersion": version,
        "interfaces": [{ "name": INTERFACE, "mac": "00:00:00:00:00:00", "sandbox": namespace.path() }],
        "ips": [address],
    }))
}
