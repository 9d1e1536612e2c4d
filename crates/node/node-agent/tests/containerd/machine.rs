//! A containerd of the test's own, in a temporary directory, taken down at the end.
use cri::Runtime;
use node_agent::containerd::{ContainerdProcess, ContainerdSettings, import, import_sandbox_image};
use std::path::PathBuf;
use tempfile::TempDir;

pub const BUSYBOX: &str = "busybox:test";

pub struct TestMachine {
    pub dir: TempDir,
    pub cgroup_parent: String,
    pub process: ContainerdProcess,
    pub runtime: Runtime,
}

impl TestMachine {
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("k8shost-node-").tempdir().unwrap();
        let cgroup_parent = format!("/{}", dir.path().file_name().unwrap().to_str().unwrap());
        let settings = ContainerdSettings::under(dir.path(), dir.path().join("cni/bin"), dir.path().join("cni/net.d"));
        let (process, runtime) = ContainerdProcess::ensure(settings).await.expect("containerd and runc must be installed: apt-get install containerd runc");
        import_sandbox_image(&runtime, &process.settings().socket()).await.unwrap();
        Self { dir, cgroup_parent, process, runtime }
    }

    pub fn socket(&self) -> PathBuf {
        self.process.settings().socket()
    }

    /// Imports an image of busybox from this machine's own binary.
    pub async fn import_busybox(&self) {
        let names = import(&self.socket(), &busybox_archive(BUSYBOX)).await.unwrap();
        assert_eq!(names, ["docker.io/library/busybox:test"]);
    }

    /// Cgroups of this test's pods that are left.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|root| root.join(self.cgroup_parent.trim_start_matches('/')));
        all.filter(|path| path.exists()).collect()
    }

    /// Mount points below this test's directory.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.filter(|point| point.starts_with(self.dir.path())).collect()
    }

    /// Ends every pod and containerd.
    pub async fn stop(self) {
        for sandbox in self.runtime.list_pod_sandboxes(Default::default()).await.unwrap_or_default() {
            // What the agent was removing at the moment it stopped may fail here; `drop` takes care of it.
            let _ = self.runtime.stop_pod_sandbox(&sandbox.id).await;
            let _ = self.runtime.remove_pod_sandbox(&sandbox.id).await;
        }
        self.process.stop().await;
    }
}

impl Drop for TestMachine {
    /// Whatever a test that failed left running or mounted.
    fn drop(&mut self) {
        let marks = [self.dir.path().to_string_lossy().into_owned().into_bytes(), self.cgroup_parent.clone().into_bytes()];
        let ours = |pid: i32| {
            let texts = ["cmdline", "cgroup"].map(|file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
            texts.iter().any(|text| marks.iter().any(|mark| text.windows(mark.len()).any(|window| window == mark)))
        };
        for _ in 0..200 {
            let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
            let left: Vec<i32> = pids.filter(|pid| ours(*pid)).collect();
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for point in self.mounts().iter().rev() {
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
        for cgroup in self.cgroups() {
            remove_tree(&cgroup);
        }
    }
}

fn remove_tree(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path());
    }
    let _ = std::fs::remove_dir(dir);
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
