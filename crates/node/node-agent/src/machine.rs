//! What the machine is and has: memory, processors, kernel, capabilities.
use crate::AgentError;
use std::collections::BTreeMap;
use std::path::Path;

/// Facts for the Node object, which don't change while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub processors: u64,
    /// Bytes.
    pub memory: u64,
    /// Page size in bytes to how many there are.
    pub hugepages: BTreeMap<u64, u64>,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
}

impl Machine {
    pub fn read() -> Result<Self, AgentError> {
        let required = |what: &'static str, path: &str| std::fs::read_to_string(path).map_err(|source| AgentError::Machine { what, source });
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let memory = memory_field(&required("memory", "/proc/meminfo")?, "MemTotal:")
            .ok_or_else(|| AgentError::Machine { what: "memory", source: std::io::Error::other("/proc/meminfo has no MemTotal") })?;
        let processors = std::thread::available_parallelism().map_err(|source| AgentError::Machine { what: "processors", source })?;
        let machine_id = Some(text("/etc/machine-id")).filter(|id| !id.is_empty()).unwrap_or_else(|| text("/var/lib/dbus/machine-id"));
        let system_uuid = Some(text("/sys/class/dmi/id/product_uuid")).filter(|id| !id.is_empty()).unwrap_or_else(|| machine_id.clone());
        Ok(Self {
            processors: processors.get() as u64,
            memory,
            hugepages: hugepages(),
            machine_id,
            system_uuid,
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel_version: text("/proc/sys/kernel/osrelease"),
            os_image: os_image(&text("/etc/os-release")),
        })
    }
}

/// Bytes of memory that could be given out now.
pub fn available_memory() -> Option<u64> {
    memory_field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Size and free bytes of the file system that holds a path.
pub fn file_system(path: &Path) -> Option<FileSystem> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(FileSystem {
        capacity: stat.blocks() * stat.fragment_size(),
        available: stat.blocks_available() * stat.fragment_size(),
        inodes: stat.files(),
        inodes_free: stat.files_free(),
    })
}

/// A file system's size, in bytes and inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub capacity: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// The most processes the machine can have, and how many it has.
pub fn processes() -> Option<(u64, u64)> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    // "0.20 0.18 0.12 1/80 11206": running and all scheduling entities.
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let all = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((limit, all))
}

/// Processor time used since the machine started, of all processors together.
pub fn processor_nanoseconds() -> Option<u64> {
    /// What `/proc` counts in, on every Linux.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system (idle iowait) irq softirq steal; guests are part of user.
    let ticks: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| fields.get(*at)).sum();
    Some(ticks * (1_000_000_000 / TICKS_PER_SECOND))
}

fn hugepages() -> BTreeMap<u64, u64> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kibibytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        Some((kibibytes * 1024, count))
    };
    entries.filter_map(one).collect()
}

/// Whether processes may get an oom_score_adj below their parent's (CAP_SYS_RESOURCE).
pub fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & (1 << CAP_SYS_RESOURCE) != 0)
}

/// The agent's own oom_score_adj, which without CAP_SYS_RESOURCE is the lowest that it can give.
pub fn own_oom_score_adj() -> i64 {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The processor architecture by its Go name, as images and node labels have it.
pub fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

fn memory_field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn os_image(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map_or_else(|| "Linux".to_owned(), |value| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_the_kernels_texts() {
        assert_eq!(memory_field("MemFree: 1 kB\nMemTotal:       24575996 kB\n", "MemTotal:"), Some(24_575_996 * 1024));
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"), "Debian GNU/Linux 12 (bookworm)");
        assert!(Machine::read().unwrap().memory > 0);
    }
}
