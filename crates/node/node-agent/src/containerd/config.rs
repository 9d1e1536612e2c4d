//! containerd's configuration file, made from the agent's settings.
use super::pause::SANDBOX_IMAGE;
use std::path::{Path, PathBuf};

/// Where a containerd of our own lives and what it uses.
#[derive(Clone, Debug)]
pub struct ContainerdSettings {
    /// Images, snapshots and metadata: kept over restarts.
    pub root: PathBuf,
    /// Sockets, pid file and what belongs to running containers.
    pub state: PathBuf,
    pub cni_bin_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    /// Registries and mirrors, a folder with a `hosts.toml` for each registry.
    pub registry_config_dir: PathBuf,
    /// What names of devices mean, for those containerds that know CDI.
    pub cdi_directories: Vec<PathBuf>,
    /// The containerd program; `None` looks for it in PATH and the usual places.
    pub program: Option<PathBuf>,
}

/// What the machine lets containerd do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// CAP_SYS_RESOURCE: processes may get an oom_score_adj below their parent's.
    pub lower_oom_score: bool,
    /// The root directory's file system can hold overlay layers.
    pub overlay: bool,
}

impl ContainerdSettings {
    /// containerd under one directory: `<data_dir>/containerd`, with the state beside it.
    pub fn under(data_dir: &Path, cni_bin_dir: PathBuf, cni_conf_dir: PathBuf) -> Self {
        Self {
            root: data_dir.join("containerd"),
            state: data_dir.join("run/containerd"),
            cni_bin_dir,
            cni_conf_dir,
            registry_config_dir: data_dir.join("registries"),
            cdi_directories: crate::devices::descriptions(data_dir),
            program: None,
        }
    }
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }
    pub fn config_file(&self) -> PathBuf {
        self.state.join("config.toml")
    }
    pub fn log_file(&self) -> PathBuf {
        self.root.join("containerd.log")
    }
    pub fn pid_file(&self) -> PathBuf {
        self.state.join("containerd.pid")
    }

    /// The configuration file's text.
    pub fn render(&self, abilities: Abilities) -> String {
        let snapshotter = if abilities.overlay { "overlayfs" } else { "native" };
        let restrict_oom_score_adj = !abilities.lower_oom_score;
        format!(
            r#"# Written by the node agent at each start; changes are lost.
version = 2
root = {root}
state = {state}
# Only what CRI needs: other snapshotters and plugins cost memory and start time.
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]

[grpc]
  address = {socket}

[ttrpc]
  address = {ttrpc}

[plugins."io.containerd.internal.v1.opt"]
  path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX_IMAGE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = {restrict_oom_score_adj}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  disable_apparmor = {disable_apparmor}
  enable_cdi = true
  cdi_spec_dirs = [{cdi}]

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {bin_dir}
  conf_dir = {conf_dir}

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = {registries}
"#,
            root = quoted(&self.root),
            state = quoted(&self.state.join("state")),
            socket = quoted(&self.socket()),
            ttrpc = quoted(&self.state.join("containerd.sock.ttrpc")),
            opt = quoted(&self.root.join("opt")),
            bin_dir = quoted(&self.cni_bin_dir),
            conf_dir = quoted(&self.cni_conf_dir),
            registries = quoted(&self.registry_config_dir),
            cdi = self.cdi_directories.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(", "),
            disable_apparmor = !Path::new("/sys/kernel/security/apparmor").exists(),
        )
    }
}

/// A path as a TOML basic string.
fn quoted(path: &Path) -> String {
    let mut out = String::from("\"");
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capability_and_overlay_are_worked_around() {
        let settings = ContainerdSettings::under(Path::new("/data/with \"quotes\""), "/bin/cni".into(), "/etc/cni".into());
        let poor = settings.render(Abilities { lower_oom_score: false, overlay: false });
        assert!(poor.contains("restrict_oom_score_adj = true") && poor.contains("snapshotter = \"native\""), "{poor}");
        assert!(poor.contains(r#"root = "/data/with \"quotes\"/containerd""#), "{poor}");
        let rich = settings.render(Abilities { lower_oom_score: true, overlay: true });
        assert!(rich.contains("restrict_oom_score_adj = false") && rich.contains("snapshotter = \"overlayfs\""), "{rich}");
    }
}
