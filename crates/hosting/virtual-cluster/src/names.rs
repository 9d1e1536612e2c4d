//! The names K3k gives to what it makes.
use sha2::{Digest, Sha256};

/// The label of a namespace that names its policy.
pub const POLICY_LABEL: &str = "policy.k3k.io/policy-name";
pub const CLUSTER_FINALIZER: &str = "cluster.k3k.io/finalizer";
pub const POLICY_FINALIZER: &str = "policy.k3k.io/finalizer";
pub const SNAPSHOT_FINALIZER: &str = "snapshot.k8shost.io/finalizer";
/// The annotation of a Cluster that, `true`, has nothing of it run or change.
pub const PAUSED: &str = "k8shost.io/paused";
/// The annotation of a Cluster that names the snapshot of its namespace that its content is restored from, once.
pub const RESTORE_FROM: &str = "k8shost.io/restore-from";
/// The annotation that, changed, has the same snapshot restored again.
pub const RESTORE_AT: &str = "k8shost.io/restore-at";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const POLICY_CONTROLLER: &str = "k3k-policy-controller";
/// The name no Cluster may have.
pub const RESERVED: &str = "system";

pub fn kubeconfig(cluster: &str) -> String {
    prefixed(&[cluster, "kubeconfig"])
}

pub fn token(cluster: &str) -> String {
    prefixed(&[cluster, "token"])
}

pub fn service(cluster: &str) -> String {
    prefixed(&[cluster, "service"])
}

pub fn ingress(cluster: &str) -> String {
    prefixed(&[cluster, "ingress"])
}

/// Of a policy's quota, limits and network policy.
pub fn policy(policy: &str) -> String {
    prefixed(&[policy])
}

/// `k3k-` and the parts, joined; cut to 63 characters with the end of a hash, when it is longer.
fn prefixed(parts: &[&str]) -> String {
    let full = format!("k3k-{}", parts.join("-"));
    if full.len() < 64 {
        return full;
    }
    let digest: String = Sha256::digest(&full).iter().map(|byte| format!("{byte:02x}")).collect();
    // Names are ASCII. A character that may not stand before the dash gives way.
    let (cut, length) = if full.as_bytes()[56].is_ascii_alphanumeric() { (57, 5) } else { (56, 6) };
    format!("{}-{}", &full[..cut], &digest[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_stay_different() {
        assert_eq!(kubeconfig("mine"), "k3k-mine-kubeconfig");
        assert_eq!(policy("gold"), "k3k-gold");
        let (a, b) = (kubeconfig(&format!("{}a", "x".repeat(60))), kubeconfig(&format!("{}b", "x".repeat(60))));
        assert!(a != b && a.len() == 63 && b.len() == 63);
        assert_eq!(kubeconfig(&format!("{}.{}", "x".repeat(52), "y".repeat(9))).len(), 63);
    }
}
