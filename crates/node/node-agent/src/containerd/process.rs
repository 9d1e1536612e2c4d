//! The containerd process: started in a session of its own, adopted when it already runs.
use super::config::{Abilities, ContainerdSettings};
use crate::AgentError;
use crate::machine;
use cri::Runtime;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long containerd may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A containerd of our own. Dropping this leaves it running, with all its containers.
#[derive(Clone, Debug)]
pub struct ContainerdProcess {
    settings: ContainerdSettings,
}

impl ContainerdProcess {
    /// Makes sure that containerd runs with these settings, and connects to it.
    ///
    /// One that runs already (the agent was killed, or restarts) is adopted; if its configuration
    /// differs it is started anew, which its containers survive.
    pub async fn ensure(settings: ContainerdSettings) -> Result<(Self, Runtime), AgentError> {
        let process = Self { settings };
        let runtime = process.ensure_running().await?;
        Ok((process, runtime))
    }

    pub fn settings(&self) -> &ContainerdSettings {
        &self.settings
    }

    /// As `ensure`, for a process that may have died since.
    pub async fn ensure_running(&self) -> Result<Runtime, AgentError> {
        let settings = &self.settings;
        for dir in [&settings.root, &settings.state, &settings.registry_config_dir, &settings.cni_conf_dir] {
            std::fs::create_dir_all(dir).map_err(AgentError::file(dir))?;
        }
        let abilities = Abilities { lower_oom_score: machine::may_lower_oom_score(), overlay: overlay_works(&settings.root) };
        let config = settings.render(abilities);
        let config_file = settings.config_file();
        let unchanged = std::fs::read_to_string(&config_file).is_ok_and(|old| old == config);
        if let Some(pid) = self.running() {
            if unchanged && let Ok(runtime) = self.answers(Some(pid), Duration::from_secs(10)).await {
                tracing::info!(%pid, "the running containerd is adopted");
                return Ok(runtime);
            }
            tracing::info!(%pid, "the running containerd has another configuration or does not answer, and is started anew");
            end(pid).await;
        }
        std::fs::write(&config_file, config).map_err(AgentError::file(&config_file))?;
        self.start().await
    }

    /// Ends containerd. Containers that still run keep running.
    pub async fn stop(&self) {
        if let Some(pid) = self.running() {
            end(pid).await;
        }
        // Gone already is as good.
        let _ = std::fs::remove_file(self.settings.pid_file());
    }

    async fn start(&self) -> Result<Runtime, AgentError> {
        let settings = &self.settings;
        let log_file = settings.log_file();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_file).map_err(AgentError::file(&log_file))?;
        let error_log = log.try_clone().map_err(AgentError::file(&log_file))?;
        let program = settings.program.clone().or_else(|| find_program("containerd"));
        let program = program.ok_or_else(|| AgentError::NoContainerd { program: "containerd".into() })?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(settings.config_file()).arg("--log-level").arg("info");
        command.stdin(Stdio::null()).stdout(log).stderr(error_log).env("PATH", search_path());
        // Runtimes and shims inherit these; a socket handed over by systemd is not theirs.
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        new_session(&mut command);
        let child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => AgentError::NoContainerd { program: program.display().to_string() },
            _ => AgentError::File { path: program.clone(), source },
        })?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are below 2^22"));
        reap_in_background(child);
        std::fs::write(settings.pid_file(), pid.to_string()).map_err(AgentError::file(settings.pid_file()))?;
        self.answers(Some(pid), START_LIMIT).await
    }

    /// The process of our pid file, if it is alive and really is containerd with our configuration.
    fn running(&self) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(self.settings.pid_file()).ok()?.trim().parse().ok()?;
        let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.settings.config_file();
        command_line.split(|b| *b == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes()).then(|| Pid::from_raw(pid))
    }

    /// Waits until CRI answers: containerd opens its socket some time after it starts and says nothing then.
    async fn answers(&self, pid: Option<Pid>, limit: Duration) -> Result<Runtime, AgentError> {
        let (socket, log) = (self.settings.socket(), self.settings.log_file());
        let wait = async {
            loop {
                if let Ok(runtime) = Runtime::connect(&socket).await
                    && runtime.version().await.is_ok()
                {
                    return Ok(runtime);
                }
                if pid.is_some_and(|pid| !is_alive(pid)) {
                    return Err(AgentError::ContainerdEnded { log: log.clone(), last_lines: last_lines(&log) });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| Err(AgentError::ContainerdSilent { log: log.clone(), seconds: limit.as_secs() }))
    }
}

/// Puts the program into a session of its own, so that signals to the agent's group don't reach it.
fn new_session(command: &mut Command) {
    // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(|_| ()).map_err(std::io::Error::from));
    }
}

/// A child that ends must be waited for, or it stays as a zombie that looks alive.
fn reap_in_background(mut child: std::process::Child) {
    std::thread::Builder::new()
        .name("containerd-wait".into())
        .spawn(move || match child.wait() {
            Ok(status) => tracing::info!(%status, "containerd ended"),
            Err(error) => tracing::warn!(%error, "containerd cannot be waited for"),
        })
        .map_or_else(|error| tracing::warn!(%error, "no thread waits for containerd"), |_| ());
}

fn is_alive(pid: Pid) -> bool {
    // The state follows the command's closing parenthesis; Z is one that ended and was not waited for.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

async fn end(pid: Pid) {
    for (signal, limit) in [(Signal::SIGTERM, STOP_LIMIT), (Signal::SIGKILL, STOP_LIMIT)] {
        if kill(pid, signal).is_err() {
            return;
        }
        let gone = async {
            while is_alive(pid) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(limit, gone).await.is_ok() {
            return;
        }
    }
    tracing::warn!(%pid, "containerd does not end");
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// PATH with the places where distributions keep runc and containerd.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if path.is_empty() { usual.into() } else { format!("{path}:{usual}") }
}

fn find_program(name: &str) -> Option<PathBuf> {
    search_path().split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// Whether an overlay can be mounted with its layers in this directory.
fn overlay_works(root: &Path) -> bool {
    let Ok(dir) = tempfile::Builder::new().prefix("overlay-check-").tempdir_in(root) else { return false };
    let part = |name: &str| dir.path().join(name);
    if ["lower", "upper", "work", "merged"].iter().any(|name| std::fs::create_dir(part(name)).is_err()) {
        return false;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", part("lower").display(), part("upper").display(), part("work").display());
    let mounted = nix::mount::mount(Some("overlay"), &part("merged"), Some("overlay"), nix::mount::MsFlags::empty(), Some(options.as_str())).is_ok();
    mounted && nix::mount::umount(&part("merged")).is_ok()
}
