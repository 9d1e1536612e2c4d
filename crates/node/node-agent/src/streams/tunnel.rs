//! Tunnels: SPDY bytes passed between a client and the runtime as they are, and port-forwards over WebSockets.
use super::bridge::{Bridge, Client};
use super::error::Refusal;
use super::runtime_stream::RuntimeStream;
use super::spdy::{self, Outgoing, SpdyError};
use super::web_socket::{ChannelProtocol, Socket};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

const BUFFER: usize = 32 * 1024;

/// Passes bytes both ways until either side closes: neither SPDY peer closes just one direction.
pub async fn splice(client: TokioIo<Upgraded>, runtime: RuntimeStream) {
    let (mut client_reader, mut client_writer) = tokio::io::split(client);
    let (mut runtime_reader, mut runtime_writer) = tokio::io::split(runtime.io);
    let copied = tokio::select! {
        copied = tokio::io::copy(&mut client_reader, &mut runtime_writer) => copied,
        copied = tokio::io::copy(&mut runtime_reader, &mut client_writer) => copied,
    };
    if let Err(error) = copied {
        tracing::debug!(%error, "a tunnel to the runtime broke");
    }
    for ended in [client_writer.shutdown().await, runtime_writer.shutdown().await] {
        // The other end may be gone already, which is what is wanted.
        let _ = ended;
    }
}

/// Passes the SPDY bytes in a WebSocket's binary messages.
pub async fn splice_web_socket(socket: Socket, runtime: RuntimeStream) {
    let mut client = Client::new(socket);
    let (mut runtime_reader, mut runtime_writer) = tokio::io::split(runtime.io);
    let to_runtime = async {
        while let Some(Ok(message)) = client.source.next().await {
            let written = match message {
                Message::Binary(data) => runtime_writer.write_all(&data).await,
                Message::Close(_) => return,
                _ => Ok(()),
            };
            if written.is_err() {
                return;
            }
        }
    };
    let to_client = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(read @ 1..) = runtime_reader.read(&mut buffer).await {
            if client.sink.send(Message::binary(buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = to_runtime => {}
        () = to_client => {}
    }
    client.close().await;
}

/// Port-forward by channels: for the port at place `i`, bytes on channel `2i` and errors on `2i + 1`.
pub struct PortChannels {
    incoming: spdy::Incoming<TokioIo<Upgraded>>,
    outgoing: Outgoing,
    bridge: Bridge,
    ports: Vec<u16>,
}

impl PortChannels {
    pub async fn open(runtime: RuntimeStream, ports: Vec<u16>, protocol: ChannelProtocol) -> Result<Self, Refusal> {
        let (incoming, mut outgoing) = spdy::open(runtime.io);
        let bridge = open_ports(&mut outgoing, &ports, protocol).await.map_err(|error| Refusal::internal(error.to_string()))?;
        Ok(Self { incoming, outgoing, bridge, ports })
    }

    pub async fn run(mut self, socket: Socket) {
        let mut client = Client::new(socket);
        for (place, port) in self.ports.iter().enumerate() {
            // Each channel first names its port.
            for channel in [2 * place, 2 * place + 1] {
                if client.send(self.bridge.protocol.encode(channel as u8, &port.to_le_bytes())).await.is_err() {
                    return;
                }
            }
        }
        self.bridge.run(&mut client, &mut self.incoming, &self.outgoing).await;
        client.close().await;
    }
}

async fn open_ports(outgoing: &mut Outgoing, ports: &[u16], protocol: ChannelProtocol) -> Result<Bridge, SpdyError> {
    let mut bridge = Bridge { protocol, to_client: BTreeMap::new(), to_runtime: BTreeMap::new(), outcome: None };
    for (place, port) in ports.iter().enumerate() {
        let (port, request) = (port.to_string(), place.to_string());
        let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", request.as_str())];
        let channel = 2 * place as u8;
        bridge.to_client.insert(outgoing.open_stream(&headers("error"), true).await?, channel + 1);
        let data = outgoing.open_stream(&headers("data"), false).await?;
        bridge.to_client.insert(data, channel);
        bridge.to_runtime.insert(channel, data);
    }
    Ok(bridge)
}
