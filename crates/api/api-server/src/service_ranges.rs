//! The ranges that a cluster's Service addresses come from: its own, and those of its ServiceCIDRs that are ready.
//!
//! Source: KEP-1880. Beyond it, an address is claimed only if its range is still as it was seen (ADR 24).
use crate::service_families::{IPV4, IPV6};
use crate::stored::stored;
use crate::{ApiServer, errors};
use api_meta::{ClusterName, GroupResource, Status};
use ipnet::{IpNet, Ipv6Net};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use store::{Precondition, RangeRequest, Scope};

/// More addresses of one range are not tried for one Service.
const TRIES: u128 = 65_536;
/// Of larger ranges, only as many addresses are looked at.
const MOST_HOST_BITS: u8 = 64;

/// Some addresses for Services.
#[derive(Clone, Debug)]
pub(crate) struct ServiceRange {
    pub net: IpNet,
    /// What must still be so when an address of it is claimed; the cluster's own range is always there.
    pub seen: Option<Precondition>,
}

/// The addresses of a range in the order they are tried: from somewhere in its upper part on, and its lower part last,
/// which upstream keeps for addresses chosen by hand.
pub(crate) fn candidates(range: IpNet, random: impl Fn() -> u64) -> impl Iterator<Item = IpAddr> {
    let size = 1_u128 << (range.max_prefix_len() - range.prefix_len()).min(MOST_HOST_BITS);
    // IPv6 has no broadcast address.
    let (base, ends) = match range.network() {
        IpAddr::V4(first) => (u128::from(u32::from(first)), 2),
        IpAddr::V6(first) => (u128::from(first), 1),
    };
    let usable = size.saturating_sub(ends).max(1);
    let reserved = (size / 16).clamp(16, 256).min(usable / 2);
    let parts = [(1 + reserved, usable - reserved), (1, reserved)].map(|(from, span)| (from, span, u128::from(random()) % span.max(1)));
    let addresses = parts.into_iter().flat_map(move |(from, span, start)| (0..span.min(TRIES)).map(move |step| base + from + (start + step) % span));
    addresses.filter_map(move |address| match range {
        IpNet::V4(_) => u32::try_from(address).ok().map(|address| IpAddr::V4(Ipv4Addr::from(address))),
        IpNet::V6(_) => Some(IpAddr::V6(Ipv6Addr::from(address))),
    })
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
        let own = [Some(self.service_cidr(cluster)), self.second_service_cidr(cluster).map(IpNet::V6)];
        let mut ranges: Vec<ServiceRange> = own.into_iter().flatten().map(|net| ServiceRange { net, seen: None }).collect();
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

    /// The range of a cluster's Service addresses of the second family; virtual clusters have one family.
    fn second_service_cidr(&self, cluster: &ClusterName) -> Option<Ipv6Net> {
        self.second_service_cidr.filter(|_| cluster.is_root())
    }

    /// The families that a cluster's Services may be in, the default first.
    pub(crate) fn service_families(&self, cluster: &ClusterName) -> &'static [&'static str] {
        if self.second_service_cidr(cluster).is_some() { &[IPV4, IPV6] } else { &[IPV4] }
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
        assert_eq!(tried("fd00::/125"), ["fd00::7", "fd00::4", "fd00::5", "fd00::6", "fd00::1", "fd00::2", "fd00::3"]);
        assert_eq!(candidates("fd43::/64".parse().unwrap(), || 3).next().unwrap().to_string(), "fd43::104", "as many as there are");
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
