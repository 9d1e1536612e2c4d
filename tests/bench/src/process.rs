//! Process: a server of the bench's own, started to the millisecond, ended when dropped.
use anyhow::{Context, Result, bail};
use clock::{Clock, SystemClock};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A control plane over a data directory. The directory is the caller's.
pub struct ControlPlane {
    child: Child,
    pub port: u16,
    data: PathBuf,
    /// When the process was started.
    pub started: Instant,
}

/// Memory as the kernel counts it, in MB (a million bytes).
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// Pages shared with other processes count in parts.
    pub proportional: f64,
    /// What is no file's.
    pub anonymous: f64,
}

impl ControlPlane {
    /// Starts `server --disable-agent` and waits for nothing.
    pub fn start(data: &Path) -> Result<Self> {
        let port = testkit::free_port();
        let log = File::options().create(true).append(true).open(data.with_extension("log"))?;
        let mut command = Command::new(testkit::binary());
        command.args(["server", "--disable-agent", "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--https-listen-port"]);
        command.arg(port.to_string()).arg("--data-dir").arg(data).arg("--write-kubeconfig").arg(data.with_extension("kubeconfig"));
        let started = SystemClock.instant();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("starting the server")?;
        Ok(Self { child, port, data: data.to_owned(), started })
    }

    pub fn tls_directory(&self) -> PathBuf {
        self.data.join("server/tls")
    }

    /// Whether the process still runs; its last words if not.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
            bail!("the server ended ({status}):\n{log}");
        }
        Ok(())
    }

    pub fn memory(&self) -> Result<Memory> {
        memory(self.child.id())
    }

    /// Processor time used so far, by all threads.
    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.child.id())
    }

    /// Ends it as a service manager does and waits.
    pub fn stop(mut self) -> Result<()> {
        end(&mut self.child)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Err(error) = end(&mut self.child) {
            eprintln!("the server could not be ended: {error}");
        }
    }
}

/// SIGTERM, a while, SIGKILL.
pub fn end(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, Signal::SIGTERM)?;
    let told = SystemClock.instant();
    while child.try_wait()?.is_none() {
        if SystemClock.instant() - told > Duration::from_secs(30) {
            kill(pid, Signal::SIGKILL)?;
            child.wait()?;
            bail!("it did not end by itself");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub fn memory(pid: u32) -> Result<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> Result<f64> {
        let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in smaps_rollup"))?;
        let kibibytes: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(kibibytes * 1024.0 / 1e6)
    };
    Ok(Memory { resident: field("Rss:")?, proportional: field("Pss:")?, anonymous: field("Anonymous:")? })
}

pub fn processor_time(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces.
    let after = text.rsplit_once(')').context("no name in stat")?.1;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    // USER_HZ is 100 on every Linux there is.
    Ok(Duration::from_millis(ticks * 10))
}
