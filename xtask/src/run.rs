//! `cargo xtask run`: a cluster on this machine, the example deployed on it and shown answering, until Ctrl-C.
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use testkit::images::{POSTGRES, Recipe, VISITS, VISITS_2};
use tokio::signal::unix::{SignalKind, signal};

const IMAGES: [Recipe; 3] = [POSTGRES, VISITS, VISITS_2];
const START_LIMIT: Duration = Duration::from_secs(120);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(120);
const NODE_PORT: u16 = 30080;
/// Upstream's share of the disk, 15 %, is a lot of a developer's, and a trial needs little.
const EVICTION: &str = "eviction-hard=memory.available<100Mi,nodefs.available<2Gi,nodefs.inodesFree<1%";

pub fn main() -> Result<()> {
    if !Uid::effective().is_root() {
        return as_root();
    }
    let places = Places::find()?;
    println!("making the images of the example");
    let archives: Vec<PathBuf> = IMAGES.iter().map(Recipe::archive).collect();
    // From here on there is something to stop, so an early Ctrl-C is heard as well.
    let signals = signals()?;
    let mut server = Server::start(&places)?;
    // Whatever happens meanwhile, the server is stopped before this ends.
    let result = deploy(&places, &mut server, &signals, &archives).and_then(|deployed| {
        if deployed {
            println!("{}", places.what_next()?);
            wait(&mut server, &signals)?;
        }
        Ok(())
    });
    let stopped = server.stop();
    result.and(stopped)
}

/// Containers need root: asks for it and runs this again.
fn as_root() -> Result<()> {
    println!("containers need root: asking sudo for it");
    let places = Places::find()?;
    let keep = ["K8SHOST_IMAGES", "K8SHOST_TOOLS", "HOME", "PATH", "CARGO_TARGET_DIR"];
    let kept = keep.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let data = format!("K8SHOST_DATA={}", places.data.display());
    let error = Command::new("sudo").arg("env").args(kept).arg(data).arg(std::env::current_exe()?).arg("run").exec();
    bail!("sudo cannot be run: {error}; run this as root");
}

/// Where everything is.
struct Places {
    binary: PathBuf,
    data: PathBuf,
    example: PathBuf,
}

impl Places {
    fn find() -> Result<Self> {
        let binary = match std::env::var_os("K8SHOST_BIN") {
            Some(path) => path.into(),
            None => crate::target_directory()?.join("fast/k8shost"),
        };
        ensure!(binary.exists(), "{binary:?} is not there; build it with: cargo build --profile fast --package k8shost");
        let data = match std::env::var_os("K8SHOST_DATA") {
            Some(path) => path.into(),
            None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".local/share/k8shost/run"),
        };
        Ok(Self { binary, data, example: crate::root().join("examples/visits/visits.yaml") })
    }
    fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig.yaml")
    }
    fn log(&self) -> PathBuf {
        self.data.join("server.log")
    }
    fn kubectl(&self, arguments: &[&str]) -> Command {
        let own = testkit::tools().join("bin/kubectl");
        let mut command = Command::new(if own.exists() { own } else { "kubectl".into() });
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).stdin(Stdio::null());
        command
    }
    fn apply_example(&self) -> Result<()> {
        let manifest = std::fs::read_to_string(&self.example)?;
        let mut kubectl = self.kubectl(&["apply", "-f", "-"]).stdin(Stdio::piped()).process_group(0).spawn()?;
        kubectl.stdin.take().context("its input is piped")?.write_all(manifest.as_bytes())?;
        ensure!(kubectl.wait()?.success(), "the example could not be applied");
        Ok(())
    }
    fn what_next(&self) -> Result<String> {
        let address = node_address(self)?;
        let tools = testkit::tools().join("bin");
        Ok(format!(
            "\nThe cluster is yours. In another terminal:\n\n  \
               export KUBECONFIG={} PATH={}:$PATH\n  \
               kubectl get pods -A\n  \
               curl http://{address}:{NODE_PORT}/\n  \
               kubectl -n visits set image deployment/web web=visits-web:v2\n  \
               kubectl -n visits rollout status deployment/web\n  \
               kubectl -n visits rollout undo deployment/web\n\n\
             Ctrl-C stops it and removes all that runs; `make run` resumes it with its data ({}).",
            self.kubeconfig().display(),
            tools.display(),
            self.data.display()
        ))
    }
}

/// The server's process.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(places: &Places) -> Result<Self> {
        std::fs::create_dir_all(&places.data).with_context(|| format!("making {:?}", places.data))?;
        let log = File::create(places.log()).with_context(|| format!("writing {:?}", places.log()))?;
        println!("starting the server on {} (its log: {})", places.data.display(), places.log().display());
        let mut command = Command::new(&places.binary);
        command.arg("server").arg("--data-dir").arg(&places.data).arg("--write-kubeconfig").arg(places.kubeconfig());
        command.args(["--kubelet-arg", EVICTION]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // In a group of its own: a terminal's Ctrl-C goes to this program, which then tells the server. Sent to the whole
        // group it would end helpers of the server before it can clean up with them.
        let child = command.process_group(0).spawn().with_context(|| format!("running {:?}", places.binary))?;
        Ok(Self { child, log: places.log() })
    }

    /// The log's end, for when things go wrong.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn ended(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server has ended ({status}):\n{}", self.last_words());
        }
        Ok(())
    }

    /// Tells it to end and its pods with it, and waits for that.
    fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        println!("stopping the server and its pods");
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a pid fits")?);
        kill(pid, Signal::SIGINT)?;
        let told = Instant::now();
        while told.elapsed() < STOP_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server failed while it stopped ({status}):\n{}", self.last_words());
                println!("stopped");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the server (pid {pid}) has not stopped within {} s; its log is {:?}", STOP_LIMIT.as_secs(), self.log)
    }
}

/// A thread that receives what a terminal or a service manager sends.
///
/// Handlers, not a blocked mask: that would be inherited by the server, which would then never hear of a signal.
fn signals() -> Result<Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let (mut interrupt, mut terminate, mut hang_up) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    drop(entered);
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
    });
    Ok(receiver)
}

/// Waits until something asks to stop.
fn wait(server: &mut Server, signals: &Receiver<()>) -> Result<()> {
    loop {
        match signals.recv_timeout(Duration::from_millis(500)) {
            Err(RecvTimeoutError::Timeout) => server.ended()?,
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Brings the example up and shows it; `false` when told to stop meanwhile.
fn deploy(places: &Places, server: &mut Server, signals: &Receiver<()>, archives: &[PathBuf]) -> Result<bool> {
    let started = Instant::now();
    let pause = |server: &mut Server| -> Result<bool> {
        server.ended()?;
        ensure!(started.elapsed() < START_LIMIT, "the cluster is not ready after {} s:\n{}", START_LIMIT.as_secs(), server.last_words());
        Ok(matches!(signals.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout)))
    };
    while !std::fs::read_to_string(places.log())?.contains("k8shost is ready") {
        if !pause(server)? {
            return Ok(false);
        }
    }
    println!("the server is ready; waiting for the node");
    let ready = ["get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}"];
    while !output(places.kubectl(&ready)).is_ok_and(|text| text.contains("True")) {
        if !pause(server)? {
            return Ok(false);
        }
    }
    println!("importing the images");
    let mut import = Command::new(&places.binary);
    import.args(["image", "import", "--data-dir"]).arg(&places.data).args(archives).stdin(Stdio::null());
    output(import)?;
    println!("deploying the example");
    places.apply_example()?;
    for deployment in ["deployment/postgres", "deployment/web"] {
        // Not `rollout status`: that remembers when a rollout of an earlier run was given up.
        let mut rollout = places.kubectl(&["-n", "visits", "wait", "--for=condition=Available", deployment, "--timeout=180s"]);
        let mut rollout = rollout.process_group(0).spawn()?;
        loop {
            if let Some(status) = rollout.try_wait()? {
                ensure!(
                    status.success(),
                    "{deployment} did not become available; see: kubectl --kubeconfig {} -n visits get pods",
                    places.kubeconfig().display()
                );
                break;
            }
            if !matches!(signals.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout)) {
                rollout.kill()?;
                rollout.wait()?;
                return Ok(false);
            }
        }
    }
    let service = output(places.kubectl(&["-n", "visits", "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]))?;
    for (host, port) in [(service.as_str(), 80), (&node_address(places)?, NODE_PORT)] {
        // What is available may be so by the word of an earlier run, whose pods are just starting again.
        let asked = Instant::now();
        let page = loop {
            match get(host, port) {
                Err(_) if asked.elapsed() < ANSWER_LIMIT => {
                    server.ended()?;
                    if !matches!(signals.recv_timeout(Duration::from_millis(500)), Err(RecvTimeoutError::Timeout)) {
                        return Ok(false);
                    }
                }
                page => break page?,
            }
        };
        println!("GET http://{host}:{port}/  ->  {}", page.trim_end());
    }
    hand_over(places)?;
    Ok(true)
}

/// Under sudo the kubeconfig is for the person who called it.
fn hand_over(places: &Places) -> Result<()> {
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        std::os::unix::fs::chown(places.kubeconfig(), Some(user), Some(group))?;
    }
    Ok(())
}

fn node_address(places: &Places) -> Result<String> {
    output(places.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}"]))
}

fn output(mut command: Command) -> Result<String> {
    let output = command.process_group(0).output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The body of a page.
fn get(host: &str, port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((host, port)).with_context(|| format!("connecting to {host}:{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("that is no answer of a web server")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "http://{host}:{port}/ answers: {answer}");
    Ok(body.to_owned())
}
