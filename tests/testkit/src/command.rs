//! Running kubectl, helm and curl as a user would, and reading what they say.
use crate::Background;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "the command failed\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
    /// The complaint of a command that must fail.
    #[track_caller]
    pub fn err(self) -> String {
        assert!(!self.success, "the command succeeded\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stderr
    }
}

/// A program with the environment to talk to one cluster, in one network namespace.
#[derive(Clone, Debug)]
pub struct Tool {
    pub kubeconfig: PathBuf,
    /// The network namespace to run in; `None` for the machine's own.
    pub network_namespace: Option<String>,
    /// HOME and caches, so that tests don't share discovery caches.
    pub home: PathBuf,
}

impl Tool {
    /// A command that has not been started, with this tool's environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = resolve(program.as_ref());
        let mut command = match &self.network_namespace {
            Some(name) => crate::host::in_namespace(name, program.as_os_str()),
            None => Command::new(program),
        };
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home).env_remove("KUBERNETES_MASTER").stdin(Stdio::null());
        command
    }
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Outcome {
        finish(self.command(program).args(args), None)
    }
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.run("kubectl", args)
    }
    /// kubectl with the arguments of one line, split at spaces.
    pub fn k(&self, line: &str) -> Outcome {
        self.kubectl(line.split_whitespace())
    }
    /// kubectl reading `input`, e.g. `apply -f -`.
    pub fn kubectl_with(&self, line: &str, input: &str) -> Outcome {
        finish(self.command("kubectl").args(line.split_whitespace()).stdin(Stdio::piped()), Some(input))
    }
    /// A line, or several, of bash: each must succeed. kubectl and helm are in its PATH.
    pub fn sh(&self, script: &str) -> Outcome {
        finish(&mut self.shell(script), None)
    }
    /// As `sh`, not started yet: for what runs beside the test.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = self.command("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        // A leading `exec` is not always possible, so the whole group is to be ended at the end.
        command.args(["-euo", "pipefail", "-c", script]).env("PATH", format!("{}/bin:{path}", tools().display())).current_dir(&self.home);
        command
    }
    /// Starts a script that runs beside the test, its output kept; it ends with the value.
    pub fn background(&self, script: &str) -> Background {
        Background::start(self.shell(script))
    }
    /// `kubectl apply` of manifests.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        self.kubectl_with("apply -f -", manifests).ok();
    }
    /// Runs a script again and again until what it prints is accepted; gives that.
    #[track_caller]
    pub fn until(&self, script: &str, timeout: std::time::Duration, accepted: impl Fn(&str) -> bool) -> String {
        let started = std::time::Instant::now();
        loop {
            let outcome = self.sh(script);
            if outcome.success && accepted(outcome.stdout.trim_end()) {
                return outcome.stdout.trim_end().to_owned();
            }
            assert!(started.elapsed() < timeout, "not within {timeout:?}: {script}\nlast stdout: {}\nlast stderr: {}", outcome.stdout, outcome.stderr);
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
    /// As `until`, for one expected output.
    #[track_caller]
    pub fn until_it_prints(&self, script: &str, expected: &str) {
        self.until(script, std::time::Duration::from_secs(90), |printed| printed == expected);
    }
    pub fn helm(&self, line: &str) -> Outcome {
        self.run("helm", line.split_whitespace())
    }
}

fn resolve(program: &OsStr) -> PathBuf {
    let own = tools().join("bin").join(program);
    if own.exists() { own } else { PathBuf::from(program) }
}

/// Where `make tools` put kubectl and helm.
pub fn tools() -> PathBuf {
    match std::env::var_os("K8SHOST_TOOLS") {
        Some(path) => path.into(),
        None => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/k8shost-tools"),
    }
}

fn finish(command: &mut Command, input: Option<&str>) -> Outcome {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
    if let Some(input) = input {
        // The program may end before it has read everything; what it says then is the test's business.
        let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    }
    let output = child.wait_with_output().expect("a started child can be waited for");
    Outcome {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
