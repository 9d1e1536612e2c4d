//! The bridge: carries bytes between a WebSocket's channels and a runtime's SPDY streams.
use super::spdy::{Event, Incoming, Outgoing, SpdyError};
use super::web_socket::{ChannelMessage, ChannelProtocol, Socket};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

/// Which streams are which channels.
pub struct Bridge {
    pub protocol: ChannelProtocol,
    /// Streams whose bytes go to the client, on these channels.
    pub to_client: BTreeMap<u32, u8>,
    /// Channels whose bytes go to the runtime, on these streams.
    pub to_runtime: BTreeMap<u8, u32>,
    /// A stream of `to_client` that is not passed on but given back as a whole: the outcome.
    pub outcome: Option<u32>,
}

/// Both sides of a WebSocket.
pub struct Client {
    pub sink: SplitSink<Socket, Message>,
    pub source: SplitStream<Socket>,
}

/// How it ended.
pub enum Ended {
    /// The runtime's streams all ended; with what came on the outcome's.
    Runtime(Result<Vec<u8>, SpdyError>),
    /// The client went away.
    Client,
}

const LARGEST_OUTCOME: usize = 1 << 20;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Bridge {
    /// Carries bytes until one side has nothing more to say.
    pub async fn run<Io: AsyncRead>(&self, client: &mut Client, incoming: &mut Incoming<Io>, outgoing: &Outgoing) -> Ended {
        // Two directions that never wait for each other: a full one must not hold up the other.
        tokio::select! {
            ended = self.carry_to_client(incoming, &mut client.sink) => ended,
            () = self.carry_to_runtime(&mut client.source, outgoing) => Ended::Client,
        }
    }

    async fn carry_to_client<Io: AsyncRead>(&self, incoming: &mut Incoming<Io>, sink: &mut SplitSink<Socket, Message>) -> Ended {
        let (mut open, mut outcome) = (self.to_client.clone(), Vec::new());
        while !open.is_empty() {
            let (stream, data, end) = match incoming.next().await {
                Ok(Some(Event::Data { stream, data, end })) => (stream, data, end),
                Ok(Some(Event::Reset { stream, .. })) => (stream, Bytes::new(), true),
                Ok(Some(Event::Opened { .. })) => continue,
                Ok(None) => break,
                Err(error) => return Ended::Runtime(Err(error)),
            };
            if self.outcome == Some(stream) {
                if outcome.len() + data.len() <= LARGEST_OUTCOME {
                    outcome.extend_from_slice(&data);
                }
            } else if let Some(channel) = open.get(&stream).filter(|_| !data.is_empty())
                && sink.send(self.protocol.encode(*channel, &data)).await.is_err()
            {
                return Ended::Client;
            }
            if end {
                open.remove(&stream);
            }
        }
        Ended::Runtime(Ok(outcome))
    }

    async fn carry_to_runtime(&self, source: &mut SplitStream<Socket>, outgoing: &Outgoing) {
        while let Some(Ok(message)) = source.next().await {
            if message.is_close() {
                return;
            }
            let (channel, data, end) = match self.protocol.decode(message) {
                Some(ChannelMessage::Data { channel, data }) => (channel, data, false),
                Some(ChannelMessage::Close { channel }) => (channel, Bytes::new(), true),
                None => continue,
            };
            let Some(stream) = self.to_runtime.get(&channel) else { continue };
            if (end || !data.is_empty()) && outgoing.send_data(*stream, data, end).await.is_err() {
                // The other direction learns why, and tells the client.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Client {
    pub fn new(socket: Socket) -> Self {
        let (sink, source) = socket.split();
        Self { sink, source }
    }

    pub async fn send(&mut self, message: Message) -> Result<(), SocketError> {
        self.sink.send(message).await
    }

    /// Says goodbye, and waits for the client's: it may still be reading.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if self.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        let goodbye = async { while let Some(Ok(_)) = self.source.next().await {} };
        // A client that does not answer is left.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}
