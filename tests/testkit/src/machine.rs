//! Machine: a further machine of a test's own that joins a cluster as a node, gone when dropped.
use crate::images::{BUSYBOX, Recipe};
use crate::{Cluster, Host, Network, Remains, binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const STOP_TIMEOUT: Duration = Duration::from_secs(90);
const IMPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// A machine with `k8shost agent` on it. Fields are dropped in this order.
pub struct Machine {
    pub name: String,
    child: Option<Child>,
    directory: TempDir,
    pub arguments: Vec<String>,
    pub host: Host,
}

impl Machine {
    /// Joins as the node `name`. Whether that works is for the test to see; `log` tells why not.
    pub fn join(network: &Arc<Network>, name: &str, server: &str, token: &str) -> Self {
        let host = network.host();
        let directory = TempDir::with_prefix(format!("{}{}-", crate::server::DIRECTORY, std::process::id())).expect("a temporary directory");
        let mut arguments: Vec<String> = ["agent", "--server", server, "--token", token, "--node-name", name].map(str::to_owned).into();
        // Nodes on one kernel must not clean up each other's groups.
        let cgroups = format!("cgroup-root=/kubepods-{}", host.namespace());
        arguments.extend(["--kubelet-arg".into(), crate::cluster::EVICTION.into(), "--kubelet-arg".into(), cgroups]);
        let mut machine = Self { name: name.into(), child: None, directory, arguments, host };
        machine.launch();
        machine
    }

    /// As `join`, for a cluster's own network, address and token; it has the image `busybox:1.36`.
    pub fn of(cluster: &Cluster, name: &str) -> Self {
        let machine = Self::join(&cluster.host.network, name, &cluster.url(), &cluster.node_token());
        machine.import(&[BUSYBOX]);
        machine
    }

    pub fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let errors = log.try_clone().expect("a file handle can be cloned");
        let mut command = self.host.command(&binary().display().to_string());
        command.args(&self.arguments).arg("--data-dir").arg(self.data_dir());
        command.env("K8SHOST_LOG", "info").stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().expect("the agent starts"));
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }
    fn log_path(&self) -> PathBuf {
        self.directory.path().join("agent.log")
    }
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Whether the agent has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("a child can be waited for").is_some())
    }

    /// Imports images into the node, once it runs containers.
    pub fn import(&self, recipes: &[Recipe]) {
        let began = Instant::now();
        loop {
            let mut command = Command::new(binary());
            command.args(["image", "import", "--data-dir"]).arg(self.data_dir()).args(recipes.iter().map(Recipe::archive));
            let output = command.output().expect("the binary runs");
            if output.status.success() {
                return;
            }
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(began.elapsed() < IMPORT_TIMEOUT, "the images could not be imported: {why}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends the agent with a signal and waits until it is gone.
    pub fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
        // It may have ended by itself; waiting tells.
        let _ = kill(pid, signal);
        let told = Instant::now();
        while child.try_wait().expect("a child can be waited for").is_none() {
            if told.elapsed() > STOP_TIMEOUT {
                let _ = kill(pid, Signal::SIGKILL);
                child.wait().expect("a child can be waited for");
                assert!(std::thread::panicking(), "the agent did not end within {STOP_TIMEOUT:?} of {signal}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the node has on this machine now.
    pub fn remains(&self) -> Remains {
        Remains::of(self.directory.path(), Some(self.host.namespace()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("--- the log of {} ends with\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        self.end(Signal::SIGKILL);
        Remains::remove(self.directory.path(), Some(self.host.namespace()));
    }
}
