//! Remote commands over WebSockets: exec and attach, with the process's streams as channels.
use super::backend::StreamOptions;
use super::bridge::{Bridge, Client, Ended};
use super::error::Refusal;
use super::runtime_stream::{self, RuntimeStream};
use super::spdy::{self, Incoming, Outgoing, SpdyError};
use super::web_socket::{ChannelProtocol, Socket};
use http::HeaderValue;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;

/// A process's streams at the runtime, ready to be joined to a client.
pub struct RemoteCommand {
    incoming: Incoming<TokioIo<Upgraded>>,
    outgoing: Outgoing,
    bridge: Bridge,
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

impl RemoteCommand {
    /// Opens the streams at the URL that the runtime gave.
    pub async fn connect(url: &str, options: StreamOptions, protocol: ChannelProtocol) -> Result<Self, Refusal> {
        let RuntimeStream { io, .. } = runtime_stream::connect(url, &[HeaderValue::from_static("v4.channel.k8s.io")]).await?;
        let (incoming, mut outgoing) = spdy::open(io);
        let bridge = open_streams(&mut outgoing, options, protocol).await.map_err(|error| Refusal::internal(error.to_string()))?;
        Ok(Self { incoming, outgoing, bridge })
    }

    /// Runs until the process ends or the client leaves.
    pub async fn run(mut self, socket: Socket) {
        let mut client = Client::new(socket);
        let protocol = self.bridge.protocol;
        // An empty message tells the client that the streams are open, on the lowest channel it hears.
        let first = self.bridge.to_client.values().min().copied().unwrap_or(ERROR);
        if client.send(protocol.encode(first, &[])).await.is_err() {
            return;
        }
        let Ended::Runtime(outcome) = self.bridge.run(&mut client, &mut self.incoming, &self.outgoing).await else { return };
        if let Some(outcome) = for_client(protocol.version, outcome)
            && client.send(protocol.encode(ERROR, &outcome)).await.is_err()
        {
            return;
        }
        client.close().await;
    }
}

async fn open_streams(outgoing: &mut Outgoing, options: StreamOptions, protocol: ChannelProtocol) -> Result<Bridge, SpdyError> {
    // The runtime waits until it has all of these; the order is kubectl's.
    let wanted = [
        ("error", ERROR, true),
        ("stdin", STDIN, options.stdin),
        ("stdout", STDOUT, options.stdout),
        ("stderr", STDERR, options.stderr && !options.tty),
        ("resize", RESIZE, options.tty),
    ];
    let mut bridge = Bridge { protocol, to_client: BTreeMap::new(), to_runtime: BTreeMap::new(), outcome: None };
    for (kind, channel, _) in wanted.into_iter().filter(|(_, _, wanted)| *wanted) {
        let stream = outgoing.open_stream(&[("streamtype", kind)], false).await?;
        match channel {
            STDIN | RESIZE => {
                bridge.to_runtime.insert(channel, stream);
            }
            _ => {
                bridge.to_client.insert(stream, channel);
            }
        }
        if channel == ERROR {
            bridge.outcome = Some(stream);
        }
    }
    Ok(bridge)
}

/// The outcome as the client's protocol has it: a Status, or before version 4 the text of a failure.
fn for_client(version: u8, outcome: Result<Vec<u8>, SpdyError>) -> Option<Vec<u8>> {
    let status = match outcome {
        Ok(status) if !status.is_empty() => status,
        Ok(_) => failure("the container runtime ended the streams without an outcome"),
        Err(error) => failure(&error.to_string()),
    };
    if version >= 4 {
        return Some(status);
    }
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap_or_default();
    (status["status"] != "Success").then(|| status["message"].as_str().unwrap_or_default().as_bytes().to_vec())
}

fn failure(message: &str) -> Vec<u8> {
    let message = format!("Internal error occurred: {message}");
    let status = serde_json::json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
        "details": {"causes": [{"message": message}]}, "code": 500
    });
    status.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_fit_the_clients_protocol() {
        let success = br#"{"metadata":{},"status":"Success"}"#.to_vec();
        let failed = br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: 3"}"#.to_vec();
        assert_eq!(for_client(5, Ok(success.clone())), Some(success.clone()));
        assert_eq!(for_client(1, Ok(success)), None);
        assert_eq!(for_client(1, Ok(failed)), Some(b"command terminated with non-zero exit code: 3".to_vec()));
        let lost = String::from_utf8(for_client(4, Ok(Vec::new())).unwrap()).unwrap();
        assert!(lost.contains("\"reason\":\"InternalError\""), "{lost}");
    }
}
