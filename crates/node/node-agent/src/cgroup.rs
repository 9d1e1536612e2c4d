//! Cgroups of whole pods: made with the pod's limits, and removed with it; cgroup v1, hybrid and v2.
use crate::pod::identity::PodId;
use crate::pod::resources::qos_class;
use cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// The mounted hierarchies, and the cgroup that holds all pods.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// From each hierarchy's root, such as `/kubepods`.
    parent: String,
    /// v1: controller to mount point. Empty on v2.
    controllers: BTreeMap<String, PathBuf>,
    /// The unified hierarchy, if it holds the controllers.
    unified: Option<PathBuf>,
    /// Every hierarchy: runtimes put processes into all of them.
    roots: BTreeSet<PathBuf>,
}

impl Cgroups {
    pub fn new(parent: &str) -> Self {
        Self::of_mounts(parent, &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    fn of_mounts(parent: &str, mountinfo: &str) -> Self {
        let (mut controllers, mut unified) = (BTreeMap::new(), None);
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(mount_point) = before.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut fields = after.split(' ');
            match fields.next() {
                Some("cgroup2") => unified = Some(mount_point),
                Some("cgroup") => {
                    let options = fields.nth(1).unwrap_or_default();
                    for controller in options.split(',').filter(|option| !matches!(*option, "rw" | "ro")) {
                        controllers.insert(controller.trim_start_matches("name=").to_owned(), mount_point.clone());
                    }
                }
                _ => {}
            }
        }
        let roots = controllers.values().chain(&unified).cloned().collect();
        // On a hybrid machine the controllers are those of v1.
        let unified = unified.filter(|_| !controllers.contains_key("memory"));
        Self { parent: format!("/{}", parent.trim_matches('/')), controllers, unified, roots }
    }

    pub fn is_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// A pod's cgroup, as upstream's cgroupfs driver names it.
    pub fn path_of(&self, id: &PodId, pod: &Pod) -> String {
        match qos_class(pod) {
            "Guaranteed" => format!("{}/pod{}", self.parent, id.directory_name()),
            class => format!("{}/{}/pod{}", self.parent, class.to_lowercase(), id.directory_name()),
        }
    }

    /// Makes a pod's cgroup with its limits. The runtime makes the rest when it puts containers into it.
    pub fn create(&self, path: &str, resources: &LinuxContainerResources) -> io::Result<()> {
        if let Some(root) = &self.unified {
            let dir = root.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(&dir)?;
            delegate(root, &dir)?;
            let weight = 1 + (resources.cpu_shares.max(2) - 2) * 9999 / 262_142;
            write(&dir, "cpu.weight", &weight.to_string());
            let quota = if resources.cpu_quota > 0 { resources.cpu_quota.to_string() } else { "max".into() };
            write(&dir, "cpu.max", &format!("{quota} {}", resources.cpu_period.max(100_000)));
            let memory = if resources.memory_limit_in_bytes > 0 { resources.memory_limit_in_bytes.to_string() } else { "max".into() };
            write(&dir, "memory.max", &memory);
            return Ok(());
        }
        let dir = |controller: &str| -> io::Result<Option<PathBuf>> {
            let Some(mount) = self.controllers.get(controller) else { return Ok(None) };
            let dir = mount.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(&dir)?;
            Ok(Some(dir))
        };
        if let Some(dir) = dir("cpu")? {
            write(&dir, "cpu.shares", &resources.cpu_shares.to_string());
            if resources.cpu_quota > 0 {
                write(&dir, "cpu.cfs_period_us", &resources.cpu_period.to_string());
                write(&dir, "cpu.cfs_quota_us", &resources.cpu_quota.to_string());
            }
        }
        if let Some(dir) = dir("memory")?
            && resources.memory_limit_in_bytes > 0
        {
            write(&dir, "memory.limit_in_bytes", &resources.memory_limit_in_bytes.to_string());
        }
        Ok(())
    }

    /// Removes a pod's cgroup from every hierarchy. What still holds processes stays.
    pub fn remove(&self, path: &str) {
        self.roots.iter().for_each(|root| remove_tree(&root.join(path.trim_start_matches('/'))));
    }

    /// Removes the cgroups of pods for which `keep` (of the directory's name without "pod") is false.
    pub fn remove_others(&self, keep: impl Fn(&str) -> bool) {
        for root in &self.roots {
            let parent = root.join(self.parent.trim_start_matches('/'));
            for dir in [parent.clone(), parent.join("burstable"), parent.join("besteffort")] {
                for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    if name.strip_prefix("pod").is_some_and(|pod| !keep(pod)) {
                        remove_tree(&entry.path());
                    }
                }
            }
        }
    }

    /// Removes the cgroup of all pods, once it is empty.
    pub fn remove_all(&self) {
        self.remove(&self.parent);
    }
}

/// On v2 a cgroup has the controllers that its parent hands down.
fn delegate(root: &Path, dir: &Path) -> io::Result<()> {
    let available = std::fs::read_to_string(root.join("cgroup.controllers"))?;
    let wanted: Vec<String> =
        available.split_whitespace().filter(|c| ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"].contains(c)).map(|c| format!("+{c}")).collect();
    let mut ancestors: Vec<&Path> = dir.ancestors().skip(1).take_while(|path| path.starts_with(root)).collect();
    ancestors.reverse();
    for ancestor in ancestors {
        for controller in &wanted {
            write(ancestor, "cgroup.subtree_control", controller);
        }
    }
    Ok(())
}

/// Limits that the kernel refuses (a controller that is not there) leave the containers' own limits in force.
fn write(dir: &Path, file: &str, value: &str) {
    if let Err(error) = std::fs::write(dir.join(file), value) {
        tracing::debug!(path = %dir.join(file).display(), %error, "a cgroup setting is left out");
    }
}

/// Removes empty cgroups, children first. Their files can't be removed and need not be.
fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    match std::fs::remove_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(path = %dir.display(), %error, "a cgroup is still in use"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_keeps_its_v1_controllers() {
        let mounts = "1 0 0:1 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            2 0 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let cgroups = Cgroups::of_mounts("kubepods/", mounts);
        assert!(!cgroups.is_unified());
        assert_eq!(cgroups.roots.len(), 3);
        assert_eq!(cgroups.controllers["cpuacct"], Path::new("/sys/fs/cgroup/cpu"));
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": [{"name": "c"}]}})).unwrap();
        let id = PodId { cluster: api_meta::ClusterName::root(), uid: "u".into() };
        assert_eq!(cgroups.path_of(&id, &pod), "/kubepods/besteffort/podu");
        assert!(Cgroups::of_mounts("k", "3 0 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").is_unified());
    }
}
