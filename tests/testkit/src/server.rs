//! Server: a k8shost of the test's own, with its own data, port and kubeconfig, gone when dropped.
use crate::{Remains, Tool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    pub arguments: Vec<String>,
    pub network_namespace: Option<String>,
    /// Run as this user and group, to show that no privilege is needed.
    pub user: Option<u32>,
    /// Variables for its environment.
    pub environment: Vec<(String, String)>,
    /// What is tested is the server or its machine: also when tests run [`inside`](crate::inside), this one is used as the host cluster.
    pub is_host: bool,
}

pub struct Server {
    pub directory: TempDir,
    pub port: u16,
    options: ServerOptions,
    child: Option<Child>,
    /// What starts before this one logged.
    before: String,
}

/// How directories are called: this, the test's process id, something random.
pub(crate) const DIRECTORY: &str = "k8shost-test-";
const START_TIMEOUT: Duration = Duration::from_secs(90);
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

impl Server {
    /// A control plane without a node: what most API tests need.
    pub fn control_plane() -> Self {
        Self::start(ServerOptions { arguments: vec!["--disable-agent".into()], ..ServerOptions::default() })
    }

    pub fn start(options: ServerOptions) -> Self {
        let directory = TempDir::with_prefix(format!("{DIRECTORY}{}-", std::process::id())).expect("a temporary directory");
        if let Some(user) = options.user {
            // Where cargo builds may be closed to others, root's home for one.
            std::fs::copy(binary(), directory.path().join("k8shost")).expect("the binary can be copied");
            nix::unistd::chown(directory.path(), Some(user.into()), Some(user.into())).expect("tests run as root");
        }
        std::fs::create_dir(directory.path().join("home")).expect("a directory can be made");
        // In a namespace of its own every port is free.
        let port = if options.network_namespace.is_some() { 6443 } else { free_port() };
        let mut server = Self { directory, port, options, child: None, before: String::new() };
        server.launch();
        server
    }

    /// Starts the process and waits until it serves.
    pub fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let mut arguments: Vec<String> = vec!["server".into()];
        arguments.extend(["--data-dir".into(), self.data_dir().display().to_string(), "--https-listen-port".into(), self.port.to_string()]);
        arguments.extend(["--write-kubeconfig".into(), self.host_kubeconfig().display().to_string()]);
        // What tests are run inside of has to be made.
        let hosting = |argument: &String| if self.is_inside() { argument.replace(",hosting", "") } else { argument.clone() };
        arguments.extend(self.options.arguments.iter().map(hosting));
        let binary = if self.options.user.is_some() { self.directory.path().join("k8shost") } else { binary() };
        let mut command = match &self.options.network_namespace {
            Some(name) => crate::host::in_namespace(name, binary.as_os_str()),
            None => Command::new(&binary),
        };
        if let Some(user) = self.options.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, user);
        }
        let errors = log.try_clone().expect("a file handle can be cloned");
        command.args(arguments).env("K8SHOST_LOG", "info").envs(self.options.environment.iter().cloned()).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{binary:?} did not start: {error}")));
        let started = Instant::now();
        while !self.log().contains("k8shost is ready") {
            let ended = self.child.as_mut().expect("it was just started").try_wait().expect("a child can be waited for");
            assert!(ended.is_none() && started.elapsed() < START_TIMEOUT, "the server did not become ready ({ended:?}):\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        #[cfg(feature = "api")]
        if self.is_inside() {
            crate::inside::enter(self);
        }
    }

    fn is_inside(&self) -> bool {
        #[cfg(feature = "api")]
        return crate::inside::is_wanted() && !self.options.is_host;
        #[cfg(not(feature = "api"))]
        false
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }
    /// Of the administrator of the cluster that is tested.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig.yaml")
    }
    /// Of the host cluster's administrator, as the server writes it.
    pub fn host_kubeconfig(&self) -> PathBuf {
        if self.is_inside() { self.directory.path().join("host-kubeconfig.yaml") } else { self.kubeconfig() }
    }
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }
    /// What earlier starts of the server logged.
    pub fn earlier_log(&self) -> &str {
        &self.before
    }
    /// What this start of the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
    fn log_path(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    /// kubectl and helm for this server.
    pub fn tool(&self) -> Tool {
        Tool { kubeconfig: self.kubeconfig(), network_namespace: self.options.network_namespace.clone(), home: self.directory.path().join("home") }
    }

    /// kubectl and helm for the host cluster.
    pub fn host_tool(&self) -> Tool {
        Tool { kubeconfig: self.host_kubeconfig(), ..self.tool() }
    }

    /// Makes a virtual cluster, `{namespace}/{name}` in the host cluster, and gives its administrator's kubectl.
    #[cfg(feature = "api")]
    pub fn virtual_cluster(&self, namespace: &str, name: &str) -> Tool {
        let kubeconfig = self.directory.path().join(format!("{namespace}-{name}.yaml"));
        crate::inside::make(&self.host_api(), namespace, name, &serde_json::json!({}), &kubeconfig);
        Tool { kubeconfig, ..self.tool() }
    }

    /// A plain HTTPS client with the admin's certificate.
    #[cfg(feature = "api")]
    pub fn api(&self) -> crate::Api {
        crate::Api::of_kubeconfig(&self.kubeconfig()).from_namespace(self.options.network_namespace.clone())
    }

    /// The same with the host cluster's.
    #[cfg(feature = "api")]
    pub fn host_api(&self) -> crate::Api {
        crate::Api::of_kubeconfig(&self.host_kubeconfig()).from_namespace(self.options.network_namespace.clone())
    }

    /// Ends the process with a signal and waits until it is gone. The log starts anew.
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
                assert!(std::thread::panicking(), "the server did not end within {STOP_TIMEOUT:?} of {signal}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.before.push_str(&self.log());
        // There is no log where the server could not be started.
        let _ = std::fs::remove_file(self.log_path());
    }

    /// What this server and its containers have put on this machine.
    fn remove_remains(&self) {
        if !self.options.arguments.iter().any(|argument| argument == "--disable-agent") {
            Remains::remove(self.directory.path(), self.options.network_namespace.as_deref());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the server's log ends with\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        // A clean stop gives every pod its time and is tested by itself; here nobody wants to wait for it.
        self.end(Signal::SIGKILL);
        self.remove_remains();
    }
}

/// The server binary this test run was built with.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("K8SHOST_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().find(|path| path.join("k8shost").is_file());
    profile.unwrap_or_else(|| panic!("no k8shost beside {test:?}; build it first: cargo build --package k8shost")).join("k8shost")
}

/// A port to listen on that no connection takes meanwhile: the kernel gives those of its own range to whoever connects.
pub fn free_port() -> u16 {
    let random = || RandomState::new().hash_one(std::process::id());
    let mut ports = std::iter::repeat_with(|| 12_000 + u16::try_from(random() % 18_000).expect("it is small"));
    ports.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).expect("it never ends")
}

/// Asks again and again until the answer is yes; panics with `what` after `timeout`.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < timeout, "waited {timeout:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
