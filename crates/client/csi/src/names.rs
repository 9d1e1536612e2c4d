//! Names that several parts of Kubernetes work out for a volume, each for itself.
use sha2::{Digest, Sha256};

/// The name of the VolumeAttachment of a volume to a node, as upstream's attach/detach controller and kubelet have it.
pub fn attachment(volume_handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", digest(&format!("{volume_handle}{driver}{node}")))
}

/// The name of the directory that a volume is staged in.
pub fn staging(volume_handle: &str) -> String {
    digest(volume_handle)
}

/// How a node names a volume in its status.
pub fn unique(driver: &str, volume_handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{volume_handle}")
}

/// The handle of a volume that stands in a pod.
pub fn inline(pod_uid: &str, volume: &str) -> String {
    format!("csi-{}", digest(&format!("{pod_uid}{volume}")))
}

/// The name of the object that tells how much room there is for a class on a node.
pub fn storage_capacity(driver: &str, class: &str, node: &str) -> String {
    format!("csisc-{}", &digest(&format!("{driver}/{class}/{node}"))[..10])
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
