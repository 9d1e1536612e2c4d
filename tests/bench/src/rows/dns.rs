//! DNS answers of one core, of FlashDNS and of knot, to the same questions by the same client.
use crate::figure::{Budget, Figure};
use crate::memory_source::MemorySource;
use anyhow::{Context, Result, bail, ensure};
use clock::{Clock, SystemClock};
use flashdns::DnsSettings;
use serde_json::json;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const BUDGET: f64 = 60_000.0;
const SERVICES: usize = 5_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// Questions on their way at once, of each of so many sockets.
const WINDOW: usize = 64;
const SOCKETS: usize = 4;

struct NameServer {
    child: Child,
    at: SocketAddr,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        if let Err(error) = crate::process::end(&mut self.child) {
            eprintln!("a name server could not be ended: {error}");
        }
    }
}

fn name(number: usize) -> String {
    format!("s{number}.default.svc.cluster.local")
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 2)) + number as u32)
}

fn free() -> Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl NameServer {
    /// On the machine's first core alone; the client has the others.
    fn start(program: &str, arguments: &[&str], at: SocketAddr) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", program]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let server = Self { child: command.spawn().with_context(|| format!("starting {program}"))?, at };
        for _ in 0..200 {
            if server.answers(0) {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{program} does not answer")
    }

    fn flashdns() -> Result<Self> {
        let at = free()?;
        let program = std::env::current_exe()?.display().to_string();
        Self::start(&program, &["serve-dns", "--listen", &at.to_string()], at)
    }

    fn knot(directory: &Path) -> Result<Self> {
        let at = free()?;
        let place = directory.display();
        let mut zone = "$ORIGIN cluster.local.\n$TTL 30\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ NS ns.dns\nns.dns A 10.96.0.10\n".to_owned();
        (0..SERVICES).for_each(|number| zone.push_str(&format!("s{number}.default.svc A {}\n", address(number))));
        std::fs::write(directory.join("cluster.local.zone"), zone)?;
        let port = at.port();
        let text = format!(
            "server:\n  rundir: {place}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             database:\n  storage: {place}\ntemplate:\n  - id: default\n    storage: {place}\nzone:\n  - domain: cluster.local\n    file: cluster.local.zone\n"
        );
        let file = directory.join("knot.conf");
        std::fs::write(&file, text)?;
        Self::start("knotd", &["-c", &file.display().to_string()], at)
    }

    fn answers(&self, number: usize) -> bool {
        let asked = || -> Result<bool> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            socket.send_to(&question(number, 1), self.at)?;
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer)?;
            Ok(buffer[..length].ends_with(&address(number).octets()) || buffer[..length].windows(4).any(|four| four == address(number).octets()))
        };
        asked().unwrap_or(false)
    }

    /// Answers a second.
    fn rate(&self) -> Result<f64> {
        let questions: Vec<Vec<u8>> = (0..SERVICES).map(|number| question(number, number as u16)).collect();
        let began = SystemClock.instant();
        let clients: Vec<_> = (0..SOCKETS)
            .map(|client| {
                let (questions, at) = (questions.clone(), self.at);
                std::thread::spawn(move || ask(at, &questions[client * SERVICES / SOCKETS..][..SERVICES / SOCKETS]))
            })
            .collect();
        let mut answered = 0;
        for client in clients {
            answered += client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(answered as f64 / (SystemClock.instant() - began).as_secs_f64())
    }
}

/// Asks as quickly as answers come, for a round.
fn ask(at: SocketAddr, questions: &[Vec<u8>]) -> Result<usize> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (began, mut buffer, mut answered) = (SystemClock.instant(), [0; 512], 0);
    let mut next = questions.iter().cycle();
    let mut send = || socket.send(next.next().expect("a cycle goes on"));
    for _ in 0..WINDOW {
        send()?;
    }
    while SystemClock.instant() - began < ROUND {
        match socket.recv(&mut buffer) {
            // No error, and one record at least.
            Ok(length) => {
                ensure!(length > 12 && buffer[3] & 15 == 0 && buffer[7] > 0, "an answer without a record");
                answered += 1;
                send()?;
            }
            // What was lost is asked again.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                for _ in 0..WINDOW {
                    send()?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answered)
}

/// A question for a Service's address, as it goes over the wire.
fn question(number: usize, id: u16) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name(number).split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// FlashDNS with as many Services, until it is ended.
pub fn serve(listen: SocketAddr) -> Result<()> {
    let source = MemorySource::default();
    for number in 0..SERVICES {
        let spec = json!({"clusterIP": address(number).to_string(), "clusterIPs": [address(number).to_string()], "ports": [{"name": "http", "port": 80}]});
        source.apply("services", json!({"metadata": {"name": format!("s{number}"), "namespace": "default"}, "spec": spec}));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(flashdns::run(DnsSettings::new("cluster.local", [listen]), Arc::new(source), std::future::pending()))?;
    Ok(())
}

pub fn measure() -> Result<Vec<Figure>> {
    let directory = crate::api::directory()?;
    let ours = NameServer::flashdns()?;
    let theirs = NameServer::knot(directory.path()).context("knot is installed (xtask/install.sh bench)")?;
    let (mut own, mut knots) = (0.0, 0.0);
    // They take turns, so that a slow moment of the machine hits both.
    for _ in 0..ROUNDS {
        knots += theirs.rate()? / ROUNDS as f64;
        own += ours.rate()? / ROUNDS as f64;
    }
    let detail = format!("{SERVICES} names, one core, {} questions at once", WINDOW * SOCKETS);
    Ok(vec![
        Figure::new("DNS answers", own, "answers/s", Budget::AtLeast(BUDGET), detail),
        Figure::new("of knot's", own / knots, "x", Budget::None, format!("{knots:.0}/s")),
    ])
}
