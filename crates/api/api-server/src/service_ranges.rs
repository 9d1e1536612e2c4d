//! The ranges that a cluster's Service addresses come from: its own, and those of its ServiceCIDRs that are ready.
//!
//! Source: KEP-1880. Beyond it, an address is claimed only if its range is still as it was seen (ADR 24).
use crate::stored::stored;
use crate::{ApiServer, errors};
use api_meta::{ClusterName, GroupResource, Status};
use ipnet::{IpNet, Ipv4Net};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use store::{Precondition, RangeRequest, Scope};

/// More addresses of one range are not tried for one Service.
const TRIES: u64 = 65_536;

/// Some addresses for Services.
#[derive(Clone, Debug)]
pub(crate) struct ServiceRange {
    pub net: IpNet,
    /// What must still be so when an address of it is claimed; the cluster's own range is always there.
    pub seen: Option<Precondition>,
}

/// The addresses of a range in the order they are tried: from somewhere in its upper part on, and its lower part last,
/// which upstream keeps for addresses chosen by hand.
pub(crate) fn candidates(range: Ipv4Net, random: impl Fn() -> u64) -> impl Iterator<Item = Ipv4Addr> {
    let size = 1_u64 << (32 - u32::from(range.prefix_len()));
    let usable = size.saturating_sub(2).max(1);
    let reserved = (size / 16).clamp(16, 256).min(usable / 2);
    let base = u64::from(u32::from(range.network()));
    let parts = [(1 + reserved, usable - reserved), (1, reserved)].map(|(from, span)| (from, span, random() % span.max(1)));
    let addresses = parts.into_iter().flat_map(move |(from, span, start)| (0..span.min(TRIES)).map(move |step| base + from + (start + step) % span));
    addresses.filter_map(|address| u32::try_from(address).ok()).map(Ipv4Addr::from)
}

/// Whether addresses are given from a ServiceCIDR. One that nobody has looked at yet counts as ready, as upstream has it.
fn gives_addresses(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    object["metadata"]["deletionTimestamp"].is_null() && ready.is_none_or(|ready| ready["status"] == "True")
}

impl ApiServer {
    /// The cluster's own range first.
    pub(crate) async fn service_ranges(&self, cluster: &ClusterName) -> Result<Vec<ServiceRange>, Status> {
        let mut ranges = vec![ServiceRange { net: self.service_cidr(cluster), seen: None }];
        let scope = Scope::Resource { cluster: cluster.clone(), resource: GroupResource::new("networking.k8s.io", "servicecidrs"), namespace: None };
        let found = self.store.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await.map_err(errors::from_store)?;
        for record in found.records {
            let value = stored(&record).object.to_value();
            if !gives_addresses(&value) {
                continue;
            }
            let nets = value["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(|net| net.as_str()?.parse().ok());
            let seen = Precondition::AtRevision(record.key.clone(), record.mod_revision);
            ranges.extend(nets.map(|net| ServiceRange { net, seen: Some(seen.clone()) }));
        }
        let mut known = BTreeSet::new();
        ranges.retain(|range| known.insert(range.net));
        Ok(ranges)
    }

    /// The range that an address is of.
    pub(crate) async fn range_of(&self, cluster: &ClusterName, address: &str) -> Result<Option<ServiceRange>, Status> {
        let Ok(address) = address.parse::<IpAddr>() else { return Ok(None) };
        Ok(self.service_ranges(cluster).await?.into_iter().find(|range| range.net.contains(&address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_lower_part_of_a_range_comes_last_and_its_ends_never() {
        let tried = |range: &str| candidates(range.parse().unwrap(), || 3).map(|address| address.to_string()).collect::<Vec<_>>();
        assert_eq!(tried("10.0.0.0/29"), ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let large = tried("10.0.0.0/24");
        assert_eq!((large.len(), large[0].as_str(), large[237].as_str(), large[238].as_str()), (254, "10.0.0.20", "10.0.0.19", "10.0.0.4"));
        let all: BTreeSet<&String> = large.iter().collect();
        assert_eq!((all.len(), all.contains(&"10.0.0.0".to_owned()), all.contains(&"10.0.0.255".to_owned())), (254, false, false));
    }

    #[test]
    fn a_range_that_goes_or_is_not_ready_gives_nothing() {
        let ready = |status: &str| json!({"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": status}]});
        assert!(gives_addresses(&json!({"metadata": {}, "status": {}})));
        assert!(gives_addresses(&json!({"metadata": {}, "status": ready("True")})));
        assert!(!gives_addresses(&json!({"metadata": {}, "status": ready("False")})));
        assert!(!gives_addresses(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": ready("True")})));
    }
}
