//! Tenancy: how the volumes of virtual clusters are named, so that each stays its cluster's.
use api_meta::ClusterName;

/// What a driver is asked to call a volume. No two clusters' volumes share a name, also when one is a copy of the other.
///
/// Neither part can have an underscore, so the two stay apart.
pub fn volume_name(cluster: &ClusterName, volume: &str) -> String {
    if cluster.is_root() { volume.to_owned() } else { format!("{cluster}_{volume}") }
}

/// Whether a handle may be one of this cluster's: what is made for a virtual cluster says so itself.
pub fn may_use(cluster: &ClusterName, handle: &str) -> bool {
    cluster.is_root() || handle.split_once('_').is_some_and(|(owner, _)| owner == cluster.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_cluster_uses_its_own_alone() {
        let team = ClusterName::parse("same.team-a").unwrap();
        assert!(may_use(&team, &volume_name(&team, "pvc-1")));
        for others in ["same.team-b_pvc-1", "vol-1", "pvc-1", "_pvc-1", "same.team-ab_x"] {
            assert!(!may_use(&team, others), "{others}");
        }
        assert!(may_use(&ClusterName::root(), "vol-1"));
    }
}
