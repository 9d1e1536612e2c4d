//! One check of one container, by the action its probe names.
use super::{grpc, http};
use crate::go_duration::go_duration;
use cri::{CriError, Runtime};
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;
use tokio::net::TcpStream;

/// What an action works on.
#[derive(Clone)]
pub struct ActionTarget {
    pub runtime: Runtime,
    pub container_id: String,
    pub container: Container,
    /// The pod's address; the node's in its network.
    pub address: String,
}

/// What a check found. The text goes into events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failure(String),
    /// The check itself did not work: it says nothing of the container.
    Unknown(String),
}

/// As upstream cuts probes' output.
const MOST_OUTPUT: usize = 10 << 10;

impl ActionTarget {
    /// Runs a probe's action once.
    pub async fn check(&self, probe: &Probe) -> Verdict {
        let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
        if let Some(exec) = &probe.exec {
            return self.exec(exec.command.clone().unwrap_or_default(), timeout).await;
        }
        if let Some(get) = &probe.http_get {
            let port = match self.port(&get.port) {
                Ok(port) => port,
                Err(error) => return Verdict::Unknown(error),
            };
            let request = http::Get::new(get, &self.address, port);
            return http::check(&request, timeout).await;
        }
        if let Some(socket) = &probe.tcp_socket {
            let port = match self.port(&socket.port) {
                Ok(port) => port,
                Err(error) => return Verdict::Unknown(error),
            };
            let host = socket.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.address);
            return check_tcp(host, port, timeout).await;
        }
        if let Some(call) = &probe.grpc {
            let port = u16::try_from(call.port).unwrap_or(0);
            return grpc::check(&self.address, port, call.service.as_deref().unwrap_or_default(), timeout).await;
        }
        Verdict::Unknown("missing probe handler".into())
    }

    async fn exec(&self, command: Vec<String>, timeout: Duration) -> Verdict {
        let text = command.join(" ");
        let call = self.runtime.exec_sync(&self.container_id, command, Some(timeout));
        match call.await {
            Ok(answer) if answer.exit_code == 0 => Verdict::Success,
            Ok(answer) => {
                let mut output = answer.stdout;
                output.extend(answer.stderr);
                output.truncate(MOST_OUTPUT);
                Verdict::Failure(String::from_utf8_lossy(&output).into_owned())
            }
            Err(error) if error.is_timeout() => Verdict::Failure(format!("command {text:?} timed out after {}", go_duration(timeout))),
            // A program that is not in the container fails the probe; a runtime that does not answer says nothing.
            Err(error @ CriError::Status(_)) if !error.is_unavailable() => Verdict::Failure(error.to_string()),
            Err(error) => Verdict::Unknown(error.to_string()),
        }
    }

    /// A port by number, or by the name the container gives it.
    pub fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => i64::from(*number),
            IntOrString::String(name) => {
                let named = self.container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
                match named.map(|p| i64::from(p.container_port)).or_else(|| name.parse().ok()) {
                    Some(number) => number,
                    None => return Err(format!("couldn't find port: {name:?}")),
                }
            }
        };
        u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
    }
}

async fn check_tcp(host: &str, port: u16, timeout: Duration) -> Verdict {
    match connect(host, port, timeout).await {
        Ok(_) => Verdict::Success,
        Err(error) => Verdict::Failure(error),
    }
}

/// Opens a TCP connection. The error reads as Go's.
pub(super) async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let place = if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") };
    match tokio::time::timeout(timeout, TcpStream::connect((bare, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {place}: connect: {}", reason(&error))),
        Err(_) => Err(format!("dial tcp {place}: i/o timeout")),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}
