//! A pod's addresses: at most one of each family, that of the node's first address first. Pure.
use super::containers::is_host_network;
use super::runtime_state::SandboxRecord;
use k8s_openapi::api::core::v1::Pod;

/// Those of its sandbox; the node's, in its network.
pub fn addresses_of(pod: &Pod, sandbox: Option<&SandboxRecord>, host_ips: &[String]) -> Vec<String> {
    let all = if is_host_network(pod) { host_ips } else { sandbox.map_or(&[][..], |sandbox| &sandbox.addresses) };
    // A runtime may name several of one family, in an order of its own (upstream's sortPodIPs).
    let is_v6 = |address: &String| address.contains(':');
    let first = host_ips.first().is_some_and(is_v6);
    [first, !first].into_iter().filter_map(|family| all.iter().find(|address| is_v6(address) == family).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_nodes_family_comes_first_and_each_once() {
        let texts = |all: &[&str]| all.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>();
        let addresses = |host: bool, sandbox: &[&str], host_ips: &[&str]| {
            let pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "hostNetwork": host}})).unwrap();
            let record = SandboxRecord {
                id: "s".into(),
                attempt: 0,
                ready: true,
                created_at: jiff::Timestamp::UNIX_EPOCH,
                host_network: host,
                addresses: texts(sandbox),
            };
            addresses_of(&pod, Some(&record), &texts(host_ips))
        };
        assert_eq!(addresses(false, &["10.0.0.1"], &["192.0.2.1"]), ["10.0.0.1"]);
        assert_eq!(addresses(false, &["fd00::1", "10.0.0.1", "fd00::2"], &["192.0.2.1"]), ["10.0.0.1", "fd00::1"]);
        assert_eq!(addresses(false, &["10.0.0.1", "fd00::1"], &["2001:db8::1", "192.0.2.1"]), ["fd00::1", "10.0.0.1"]);
        assert_eq!(addresses(false, &[], &["192.0.2.1"]), [""; 0]);
        assert_eq!(addresses(true, &[], &["192.0.2.1", "2001:db8::1"]), ["192.0.2.1", "2001:db8::1"]);
    }
}
