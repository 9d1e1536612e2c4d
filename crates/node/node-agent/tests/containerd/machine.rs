//! A containerd of the test's own, in a temporary directory, taken down at the end.
use cri::Runtime;
use node_agent::containerd::{ContainerdProcess, ContainerdSettings, import, import_sandbox_image};
use std::path::PathBuf;
use tempfile::TempDir;

pub const BUSYBOX: &str = "busybox:test";

pub struct TestMachine {
    pub dir: TempDir,
    pub process: ContainerdProcess,
    pub runtime: Runtime,
}

impl TestMachine {
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("k8shost-node-").tempdir().unwrap();
        let settings = ContainerdSettings::under(dir.path(), dir.path().join("cni/bin"), dir.path().join("cni/conf"));
        let (process, runtime) = ContainerdProcess::ensure(settings).await.expect("containerd and runc must be installed: apt-get install containerd runc");
        import_sandbox_image(&runtime, &process.settings().socket()).await.unwrap();
        Self { dir, process, runtime }
    }

    pub fn socket(&self) -> PathBuf {
        self.process.settings().socket()
    }

    /// Imports an image of busybox from this machine's own binary.
    pub async fn import_busybox(&self) {
        let names = import(&self.socket(), &busybox_archive(BUSYBOX)).await.unwrap();
        assert_eq!(names, ["docker.io/library/busybox:test"]);
    }

    /// Ends every pod and containerd.
    pub async fn stop(self) {
        for sandbox in self.runtime.list_pod_sandboxes(Default::default()).await.unwrap() {
            self.runtime.stop_pod_sandbox(&sandbox.id).await.unwrap();
            self.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
        }
        self.process.stop().await;
    }
}

/// A `docker save` archive of a statically linked busybox.
pub fn busybox_archive(name: &str) -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox must be installed: apt-get install busybox-static");
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    layer.append_data(&mut header, "bin/busybox", &*busybox).unwrap();
    for applet in ["sh", "sleep", "cat", "echo", "env", "true", "false", "id", "touch", "ls", "hostname", "test", "grep", "wget", "nc", "httpd", "kill", "trap"]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    for dir in ["tmp/", "etc/", "proc/", "sys/", "dev/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o1777);
        header.set_size(0);
        layer.append_data(&mut header, dir, &b""[..]).unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&layer);
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest:x}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (file, bytes) in [("config.json", config.to_string().into_bytes()), ("layer.tar", layer), ("manifest.json", manifest.to_string().into_bytes())] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, file, &*bytes).unwrap();
    }
    archive.into_inner().unwrap()
}
