//! Remains: what a server and its containers have put on this machine, to be shown or removed.
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What belongs to one data directory and one network namespace.
#[derive(Debug, Default)]
pub struct Remains {
    pub processes: Vec<Process>,
    pub mounts: Vec<PathBuf>,
    /// Network namespaces of pods, by their file.
    pub namespaces: BTreeSet<PathBuf>,
    pub cgroups: BTreeSet<PathBuf>,
    /// Loop devices over files below the directory.
    pub loop_devices: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    parent: i32,
    pub command: String,
}

impl Remains {
    /// Looks for everything of a server that keeps its data below `directory` and runs in `namespace`.
    pub fn of(directory: &Path, namespace: Option<&str>) -> Self {
        let processes = processes(directory, namespace);
        let own = inode(Path::new("/proc/self/ns/net"));
        let host = namespace.and_then(|name| inode(&Path::new("/run/netns").join(name)));
        let networks: BTreeSet<u64> = processes.iter().filter_map(|process| inode(&proc_file(process.pid, "ns/net"))).collect();
        let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.path());
        let used = entries.filter(|path| inode(path).is_some_and(|inode| networks.contains(&inode) && Some(inode) != own && Some(inode) != host));
        // A pod whose processes are dead may still be plugged into the host.
        let namespaces = used.chain(namespace.into_iter().flat_map(plugged_in)).collect();
        let cgroups = processes.iter().flat_map(|process| cgroups(process.pid)).collect();
        Self { mounts: mounts(directory), loop_devices: loop_devices(directory), namespaces, cgroups, processes }
    }

    pub fn is_empty(&self) -> bool {
        self.describe().is_empty()
    }

    /// What of it is still there, a line each.
    pub fn describe(&self) -> Vec<String> {
        let alive = |process: &&Process| fs::read(proc_file(process.pid, "cmdline")).is_ok_and(|line| !line.is_empty());
        let processes = self.processes.iter().filter(alive).map(|process| format!("process {} {}", process.pid, process.command));
        let mounted = mounts(Path::new("/"));
        let mounts = self.mounts.iter().filter(|path| mounted.contains(path)).map(|path| format!("mount {}", path.display()));
        let namespaces = self.namespaces.iter().filter(|path| path.exists()).map(|path| format!("network namespace {}", path.display()));
        let cgroups = self.cgroups.iter().filter(|path| path.exists()).map(|path| format!("cgroup {}", path.display()));
        let devices = self.loop_devices.iter().filter(|path| backing_file(path).is_some()).map(|path| format!("loop device {}", path.display()));
        processes.chain(mounts).chain(namespaces).chain(cgroups).chain(devices).collect()
    }

    /// Removes all of it. Meant for after a test that killed its server; a clean stop leaves nothing to do.
    pub fn remove(directory: &Path, namespace: Option<&str>) {
        let first = Self::of(directory, namespace);
        let mut last = Self::default();
        // Processes may have started others meanwhile.
        for _ in 0..50 {
            last = Self::of(directory, namespace);
            for process in &last.processes {
                // It may be gone since it was seen.
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            if last.processes.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for mount in last.mounts.iter().rev().chain(&first.namespaces) {
            // A mount below another may have gone with it.
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
        for namespace in &first.namespaces {
            let _ = fs::remove_file(namespace);
        }
        for device in &first.loop_devices {
            // It may be gone since it was seen.
            let _ = Command::new("losetup").arg("--detach").arg(device).output();
        }
        let deepest_first = |set: &BTreeSet<PathBuf>| set.iter().rev().cloned().collect::<Vec<_>>();
        for cgroup in deepest_first(&first.cgroups) {
            remove_cgroup(&cgroup);
        }
    }
}

/// Removes what tests that were killed, and so could not clean up, have left on this machine.
pub fn remove_of_the_dead() {
    let dead = |name: &str, prefix: &str| {
        let pid: Option<i32> = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse().ok());
        pid.is_some_and(|pid| !proc_file(pid, "").exists())
    };
    let names = |directory: &Path| -> Vec<String> {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let namespaces = names(Path::new("/run/netns"));
    let hosts = namespaces.iter().filter(|name| dead(name, crate::host::HOST));
    for host in hosts.clone() {
        // No test has its data in this directory; what runs on the host is found by its network.
        Remains::remove(Path::new("/nonexistent/for-no-test"), Some(host));
    }
    let temporary = std::env::temp_dir();
    for name in names(&temporary).iter().filter(|name| dead(name, crate::server::DIRECTORY)) {
        Remains::remove(&temporary.join(name), None);
        // What can't be removed now is tried again by the next run.
        let _ = fs::remove_dir_all(temporary.join(name));
    }
    for name in hosts.chain(namespaces.iter().filter(|name| dead(name, crate::host::NETWORK))) {
        crate::host::delete(name);
    }
}

/// Removes a group, what it holds, and those above it that are empty then.
fn remove_cgroup(path: &Path) {
    for _ in 0..20 {
        // The kernel keeps a group for a moment after its last process has ended.
        if fs::remove_dir(path).is_ok() || !path.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if let Some(parent) = path.parent().filter(|parent| is_of_pods(parent)) {
        let _ = fs::remove_dir(parent);
    }
}

/// The processes that mention the directory, live in the namespace, have their root file system below the directory,
/// or descend from one that does. Never those that this process descends from.
fn processes(directory: &Path, namespace: Option<&str>) -> Vec<Process> {
    assert!(directory.components().count() > 2, "{directory:?} is too wide a place to clean");
    let namespace = namespace.and_then(|name| inode(&Path::new("/run/netns").join(name)));
    let needle = directory.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: BTreeMap<i32, Process> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(|pid| Some((pid, read(pid)?))).collect();
    // INVARIANT: neither this process nor any that started it is ever among those to be killed.
    let own = ancestors(i32::try_from(std::process::id()).expect("a pid fits"), &all);
    let mut children = BTreeMap::<i32, Vec<i32>>::new();
    for process in all.values() {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let belongs = |process: &Process| {
        let here = namespace.is_some() && inode(&proc_file(process.pid, "ns/net")) == namespace;
        here || process.command.contains(&needle) || root_is_below(process.pid, &needle)
    };
    let mut found = BTreeSet::new();
    let mut left: Vec<i32> = all.values().filter(|process| !own.contains(&process.pid) && belongs(process)).map(|process| process.pid).collect();
    while let Some(pid) = left.pop() {
        if !own.contains(&pid) && found.insert(pid) {
            left.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found.into_iter().map(|pid| all[&pid].clone()).collect()
}

/// A process, the one that started it, and so on to the first.
fn ancestors(mut pid: i32, all: &BTreeMap<i32, Process>) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([0, 1, 2]);
    while found.insert(pid) {
        pid = all.get(&pid).map_or(0, |process| process.parent);
    }
    found
}

/// Whether a process' root file system is a container's whose layers lie below a directory.
fn root_is_below(pid: i32, directory: &str) -> bool {
    let table = fs::read_to_string(proc_file(pid, "mountinfo")).unwrap_or_default();
    table.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(directory))
}

fn read(pid: i32) -> Option<Process> {
    let command = fs::read(proc_file(pid, "cmdline")).ok()?;
    // Without a command line it is a thread of the kernel or has ended and waits for its parent.
    if command.is_empty() {
        return None;
    }
    let status = fs::read_to_string(proc_file(pid, "status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(Process { pid, parent, command: command.trim_end().to_owned() })
}

/// The network namespaces at the other end of a namespace's veth pairs, by their file.
fn plugged_in(namespace: &str) -> Vec<PathBuf> {
    let output = Command::new("ip").args(["-n", namespace, "-o", "link", "show", "type", "veth"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split("link-netns ").nth(1)?.split_whitespace().next());
    names.filter(|name| name.starts_with("cni-")).map(|name| Path::new("/run/netns").join(name)).collect()
}

/// Mount points at or below a directory, in the order they were mounted.
fn mounts(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field is the mount point, with spaces and such as octal escapes.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(point.replace("\\040", " ")));
    points.filter(|point| point.starts_with(directory)).collect()
}

/// The devices whose image lies below a directory.
fn loop_devices(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let devices = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("loop")).map(|entry| Path::new("/dev").join(entry.file_name()));
    devices.filter(|device| backing_file(device).is_some_and(|file| file.starts_with(directory))).collect()
}

fn backing_file(device: &Path) -> Option<PathBuf> {
    let attribute = Path::new("/sys/block").join(device.file_name()?).join("loop/backing_file");
    Some(PathBuf::from(fs::read_to_string(attribute).ok()?.trim_end()))
}

/// The control groups of a process that were made for pods.
fn cgroups(pid: i32) -> Vec<PathBuf> {
    let text = fs::read_to_string(proc_file(pid, "cgroup")).unwrap_or_default();
    let paths = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1)?, parts.next()?.trim_start_matches('/'));
        let root = match controllers {
            "" if Path::new("/sys/fs/cgroup/unified").exists() => PathBuf::from("/sys/fs/cgroup/unified"),
            "" => PathBuf::from("/sys/fs/cgroup"),
            named => Path::new("/sys/fs/cgroup").join(named.trim_start_matches("name=")),
        };
        Some(root.join(path))
    });
    paths.filter(|path| is_of_pods(path)).collect()
}

fn is_of_pods(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("kubepods"))
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn proc_file(pid: i32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_mounts_are_found_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path().join("mount");
        fs::create_dir(&mount).unwrap();
        assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mount).status().unwrap().success());
        // The shell mentions the directory; its child does not.
        let mut shell = Command::new("sh").arg("-c").arg("sleep 1000; true").arg(directory.path()).spawn().unwrap();
        crate::wait_until("the child runs", Duration::from_secs(5), || Remains::of(directory.path(), None).processes.len() == 2);
        let found = Remains::of(directory.path(), None);
        assert_eq!(found.mounts, [mount]);
        Remains::remove(directory.path(), None);
        shell.wait().unwrap();
        assert!(found.is_empty(), "{:?}", found.describe());
    }
}
