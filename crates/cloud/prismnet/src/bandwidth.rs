//! Bandwidth: what a pod may send and be sent a second, kept by the kernel's token buckets on the node's end of its port.
//!
//! The runtime takes the rates from the annotations `kubernetes.io/ingress-bandwidth` and `egress-bandwidth`, and passes
//! them by the capability `bandwidth`. What goes to the pod is queued where it leaves the node; what comes from it is led
//! through a device of its own first (`ifb`), as there is no queue for what arrives.
use crate::program::run;
use crate::{Error, nft};
use serde::{Deserialize, Serialize};

/// Upstream's bounds for the annotations: a kilobit and a petabit a second.
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;
/// What may pass at once, as a part of a second, and between these sizes.
const BURST_OF_A_SECOND: u64 = 20;
const SMALLEST_BURST: u64 = 16 << 10;
const LARGEST_BURST: u64 = 8 << 20;
/// How long a packet waits before it is dropped, as upstream's plugin has it.
const LATENCY_MILLISECONDS: u64 = 25;

/// Bits a second; 0: any number. What the runtime says of bursts is all that fits into its number, so it is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// To the pod.
    #[serde(default)]
    pub ingress_rate: u64,
    /// From the pod.
    #[serde(default)]
    pub egress_rate: u64,
}

impl Bandwidth {
    pub fn check(&self) -> Result<(), String> {
        for (name, rate) in [("ingress", self.ingress_rate), ("egress", self.egress_rate)] {
            if rate != 0 && rate < LEAST {
                return Err(format!("the {name} rate is unreasonably small (< 1kbit)"));
            }
            if rate > MOST {
                return Err(format!("the {name} rate is unreasonably large (> 1Pbit)"));
            }
        }
        Ok(())
    }
}

/// The device that a port's own packets are queued at.
pub(crate) fn queue_device(host_interface: &str) -> String {
    format!("prifb{}", host_interface.strip_prefix("prism").unwrap_or(host_interface))
}

/// `tc`'s words for a token bucket of this rate.
fn bucket(device: &str, rate: u64) -> Vec<String> {
    let bytes = rate / 8;
    let burst = (bytes / BURST_OF_A_SECOND).clamp(SMALLEST_BURST, LARGEST_BURST);
    let limit = burst + bytes * LATENCY_MILLISECONDS / 1000;
    let words = ["qdisc", "replace", "dev", device, "root", "tbf", "rate"].map(str::to_owned);
    words.into_iter().chain([format!("{rate}bit"), "burst".into(), burst.to_string(), "limit".into(), limit.min(u32::MAX.into()).to_string()]).collect()
}

/// Limits a port that is there. May be repeated.
pub(crate) fn limit(host_interface: &str, mtu: u32, bandwidth: Bandwidth) -> Result<(), Error> {
    if bandwidth.ingress_rate != 0 {
        run("tc", &bucket(host_interface, bandwidth.ingress_rate))?;
    }
    if bandwidth.egress_rate == 0 {
        return Ok(());
    }
    let device = queue_device(host_interface);
    if !exists(&device) {
        run("ip", &["link", "add", &device, "mtu", &mtu.to_string(), "type", "ifb"].map(str::to_owned))?;
    }
    run("ip", &["link", "set", &device, "up"].map(str::to_owned))?;
    run("tc", &bucket(&device, bandwidth.egress_rate))?;
    nft::run(&format!(
        "add table netdev {device}\ndelete table netdev {device}\ntable netdev {device} {{\n chain arriving {{\n  \
         type filter hook ingress device \"{host_interface}\" priority filter; policy accept;\n  fwd to \"{device}\"\n }}\n}}\n"
    ))
}

/// Takes away what a port's limits need besides the port. Nothing there is fine.
pub(crate) fn unlimit(host_interface: &str) -> Result<(), Error> {
    let device = queue_device(host_interface);
    if !exists(&device) {
        return Ok(());
    }
    nft::run(&format!("add table netdev {device}\ndelete table netdev {device}\n"))?;
    run("ip", &["link", "delete", &device].map(str::to_owned))
}

fn exists(device: &str) -> bool {
    // Not /sys, which may be another network namespace's.
    std::path::Path::new("/proc/sys/net/ipv4/conf").join(device).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_as_large_as_its_rate_wants() {
        let words = |rate| bucket("d", rate).join(" ");
        assert_eq!(words(10_000_000), "qdisc replace dev d root tbf rate 10000000bit burst 62500 limit 93750");
        assert_eq!(words(1_000), "qdisc replace dev d root tbf rate 1000bit burst 16384 limit 16387");
        assert!(words(MOST).ends_with(&format!("limit {}", u32::MAX)));
        let bandwidth = |ingress_rate, egress_rate| Bandwidth { ingress_rate, egress_rate }.check();
        assert_eq!(bandwidth(0, 1_000), Ok(()));
        assert_eq!(bandwidth(999, 0), Err("the ingress rate is unreasonably small (< 1kbit)".into()));
        assert_eq!(bandwidth(0, MOST + 1), Err("the egress rate is unreasonably large (> 1Pbit)".into()));
        assert_eq!(queue_device("prism0123456789"), "prifb0123456789");
    }
}
