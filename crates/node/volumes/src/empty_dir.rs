//! emptyDir: a directory or a tmpfs of the pod's own; also what content volumes are written into.
use crate::error::SetUpError;
use crate::mount_table::is_mount_point;
use crate::ownership::{self, FsGroup};
use api_meta::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, ResourceRequirements};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Brings up a pod's emptyDir. `allocatable_memory` bounds one in memory.
pub fn set_up(directory: &Path, source: &EmptyDirVolumeSource, pod: &Pod, allocatable_memory: Option<Quantity>, fs_group: FsGroup) -> Result<(), SetUpError> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => make_directory(directory)?,
        "Memory" => {
            let limit = source.size_limit.as_ref().and_then(|q| Quantity::parse(&q.0).ok());
            make_tmpfs(directory, memory_size(limit, pod, allocatable_memory))?;
        }
        other => return Err(SetUpError::Refused(format!("unknown storage medium \"{other}\""))),
    }
    ownership::apply(directory, fs_group, false)
}

/// A directory for contents that should not reach a disk: tmpfs, or a plain directory where mounts are not permitted.
pub fn set_up_in_memory(directory: &Path, pod: &Pod, allocatable_memory: Option<Quantity>) -> Result<(), SetUpError> {
    match make_tmpfs(directory, memory_size(None, pod, allocatable_memory)) {
        Err(SetUpError::Io { cause, .. }) if cause.raw_os_error() == Some(Errno::EPERM as i32) => {
            tracing::warn!(directory = %directory.display(), "tmpfs can't be mounted here: a volume's contents lie on disk");
            Ok(())
        }
        other => other,
    }
}

pub fn make_directory(directory: &Path) -> Result<(), SetUpError> {
    // Only the volume itself is for containers; what leads to it is the agent's.
    if let Some(parent) = directory.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent).map_err(SetUpError::io("creating", parent))?;
    }
    fs::create_dir_all(directory).map_err(SetUpError::io("creating", directory))?;
    let mode = fs::symlink_metadata(directory).map_err(SetUpError::io("reading", directory))?.permissions().mode();
    if mode & 0o777 != 0o777 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).map_err(SetUpError::io("setting the mode of", directory))?;
    }
    Ok(())
}

fn make_tmpfs(directory: &Path, size: Option<Quantity>) -> Result<(), SetUpError> {
    make_directory(directory)?;
    if is_mount_point(directory).map_err(SetUpError::io("reading", directory))? {
        return Ok(());
    }
    let size = size.map(|size| format!("size={}", size.units()));
    let try_mount = |options: &[&str]| {
        let options: Vec<&str> = size.as_deref().into_iter().chain(options.iter().copied()).collect();
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.join(",").as_str()))
    };
    match try_mount(&["noswap"]) {
        // Kernels before 6.4 don't know the option.
        Err(Errno::EINVAL) => try_mount(&[]),
        other => other,
    }
    .map_err(|errno| SetUpError::io("mounting tmpfs at", directory)(errno.into()))
}

/// The least of what the node has, what the pod may use, and what the volume asks for.
fn memory_size(volume_limit: Option<Quantity>, pod: &Pod, allocatable: Option<Quantity>) -> Option<Quantity> {
    [volume_limit, pod_memory_limit(pod), allocatable].into_iter().flatten().filter(|q| !q.is_zero() && !q.is_negative()).min()
}

/// The pod's memory limit, where it has one as a whole: its own, or one of every container.
fn pod_memory_limit(pod: &Pod) -> Option<Quantity> {
    let memory = |resources: Option<&ResourceRequirements>| Quantity::parse(&resources?.limits.as_ref()?.get("memory")?.0).ok();
    let spec = pod.spec.as_ref()?;
    if let Some(own) = memory(spec.resources.as_ref()) {
        return Some(own);
    }
    let mut sidecars = Quantity::ZERO;
    let mut largest_init = Quantity::ZERO;
    for container in spec.init_containers.iter().flatten() {
        let limit = memory(container.resources.as_ref())?;
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars + limit;
            largest_init = largest_init.max(sidecars);
        } else {
            largest_init = largest_init.max(sidecars + limit);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        total = total + memory(container.resources.as_ref())?;
    }
    Some(total.max(largest_init))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(volume_limit: Option<&str>, pod: serde_json::Value) -> Option<String> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        memory_size(volume_limit.map(|q| Quantity::parse(q).unwrap()), &pod, Some(Quantity::parse("8Gi").unwrap())).map(|q| q.to_string())
    }

    #[test]
    fn memory_is_bounded_by_volume_pod_and_node() {
        let limited = |memory: &str| serde_json::json!({"name": "c", "resources": {"limits": {"memory": memory}}});
        assert_eq!(size(None, serde_json::json!({"spec": {"containers": [{"name": "c"}]}})).unwrap(), "8Gi");
        assert_eq!(size(Some("1Mi"), serde_json::json!({"spec": {"containers": [limited("1Gi")]}})).unwrap(), "1Mi");
        assert_eq!(size(None, serde_json::json!({"spec": {"containers": [limited("1Gi"), limited("2Gi")]}})).unwrap(), "3Gi");
        assert_eq!(size(None, serde_json::json!({"spec": {"containers": [limited("1Gi"), {"name": "d"}]}})).unwrap(), "8Gi");
        assert_eq!(size(None, serde_json::json!({"spec": {"initContainers": [limited("4Gi")], "containers": [limited("1Gi")]}})).unwrap(), "4Gi");
    }
}
