//! Tenancy: how the volumes of virtual clusters are named, so that each stays its cluster's.
use api_meta::ClusterName;

/// What a driver is asked to call a volume. No two clusters' volumes share a name, also when one is a copy of the other.
///
/// Neither part can have an underscore, so the two stay apart.
pub fn volume_name(cluster: &ClusterName, volume: &str) -> String {
    if cluster.is_root() { volume.to_owned() } else { format!("{cluster}_{volume}") }
}
