//! The server: sockets in, answers out. Our own names are answered at once; others wait for upstream beside it.
use crate::engine::{Engine, MAX_UDP_PAYLOAD, Outcome};
use crate::error::Error;
use crate::forwarder::Forwarder;
use crate::kubernetes;
use crate::settings::{DnsSettings, Listener};
use api_cache::Source;
use api_meta::ClusterName;
use clock::SystemClock;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Questions that may wait for upstream at once; more are answered SERVFAIL.
const MAX_WAITING: usize = 2048;
/// TCP clients at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// How long a TCP client may be silent (RFC 7766 leaves it to us).
const IDLE: Duration = Duration::from_secs(10);
/// The least every client takes over UDP.
const MIN_UDP_PAYLOAD: u16 = 512;
const HEADER: usize = 12;

struct Server {
    engine: Arc<Engine>,
    forwarder: Forwarder,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// Serves until `shutdown`. Names answer as soon as the Services and EndpointSlices are known; until then nobody is
/// answered, as a name that is only not known yet must not be denied.
///
/// # Errors
/// Settings that can't be right, and addresses that can't be listened on.
pub async fn run(settings: DnsSettings, source: Arc<dyn Source>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    settings.check()?;
    let mut sockets = Vec::new();
    for listener in &settings.listen {
        let failed = |source| Error::Listen { address: listener.address, source };
        let udp = UdpSocket::bind(listener.address).await.map_err(failed)?;
        let tcp = TcpListener::bind(listener.address).await.map_err(failed)?;
        sockets.push((listener.clone(), udp, tcp));
    }
    let forwarder = Forwarder::new(settings.upstreams.clone(), settings.upstream_timeout, Arc::new(SystemClock));
    let server = Arc::new(Server {
        engine: Arc::new(Engine::new(settings)),
        forwarder,
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    });
    tokio::pin!(shutdown);
    // Dropped at the end, and all of it ends with it.
    let mut tasks = JoinSet::new();
    let follower = tokio::select! {
        () = &mut shutdown => return Ok(()),
        follower = kubernetes::Follower::start(server.engine.clone(), &*source) => follower,
    };
    tasks.spawn(follower.run());
    for (Listener { address, cluster }, udp, tcp) in sockets {
        tracing::info!(%address, %cluster, "answering DNS");
        tasks.spawn(server.clone().serve_udp(Arc::new(udp), cluster.clone()));
        tasks.spawn(server.clone().serve_tcp(tcp, cluster));
    }
    shutdown.await;
    Ok(())
}

impl Server {
    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>, cluster: ClusterName) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut waiting = JoinSet::new();
        loop {
            while waiting.try_join_next().is_some() {}
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An earlier answer met a closed port; the socket is fine.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::warn!(%error, "a DNS question could not be received");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let request = match decode(&buffer[..length]) {
                Ok(request) => request,
                Err(None) => continue,
                Err(Some(reply)) => {
                    send(&socket, &reply, MIN_UDP_PAYLOAD, client).await;
                    continue;
                }
            };
            let limit = request.edns.as_ref().map_or(MIN_UDP_PAYLOAD, |edns| edns.max_payload().clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD));
            match self.engine.answer(&cluster, &request) {
                Outcome::Reply(reply) => send(&socket, &reply, limit, client).await,
                outcome => match self.waiting.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (server, socket) = (self.clone(), socket.clone());
                        waiting.spawn(async move {
                            let reply = server.complete(outcome, &request).await;
                            send(&socket, &reply, limit, client).await;
                            drop(permit);
                        });
                    }
                    Err(_) => send(&socket, &self.engine.reply(&request, ResponseCode::ServFail), limit, client).await,
                },
            }
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener, cluster: ClusterName) {
        let mut clients = JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            // The semaphore is never closed.
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (server, cluster) = (self.clone(), cluster.clone());
                    clients.spawn(async move {
                        if let Err(error) = server.serve_stream(stream, &cluster).await {
                            tracing::debug!(%error, "a DNS client over TCP went away");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a DNS client over TCP could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream, cluster: &ClusterName) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        loop {
            let length = match timeout(IDLE, stream.read_u16()).await {
                Ok(Ok(length)) => length,
                // The client is done, or has said nothing for long.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            };
            buffer.resize(usize::from(length), 0);
            timeout(IDLE, stream.read_exact(&mut buffer)).await??;
            let reply = match decode(&buffer) {
                Ok(request) => match self.engine.answer(cluster, &request) {
                    Outcome::Reply(reply) => reply,
                    outcome => self.complete(outcome, &request).await,
                },
                Err(Some(reply)) => *reply,
                Err(None) => return Ok(()),
            };
            let Some(bytes) = encode(&reply, u16::MAX) else { return Ok(()) };
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())).await??;
        }
    }

    /// Gets from upstream what the engine lacks.
    async fn complete(&self, outcome: Outcome, request: &Message) -> Message {
        let (mut reply, query) = match outcome {
            Outcome::Reply(reply) => return reply,
            Outcome::Ask => (self.engine.reply(request, ResponseCode::NoError), request.queries[0].clone()),
            Outcome::Follow(reply, query) => (reply, query),
        };
        match self.forwarder.ask(&query, request).await {
            Some(answer) => {
                reply.metadata.response_code = answer.metadata.response_code;
                reply.metadata.authentic_data = answer.metadata.authentic_data && reply.answers.is_empty();
                reply.add_answers(answer.answers);
                reply.add_authorities(answer.authorities);
                reply.add_additionals(answer.additionals);
                reply
            }
            None => self.engine.reply(request, ResponseCode::ServFail),
        }
    }
}

/// A question, or what to say to one that can't be understood; `Err(None)`: nothing, for it is no question at all.
fn decode(bytes: &[u8]) -> Result<Message, Option<Box<Message>>> {
    match Message::from_vec(bytes) {
        // To answer an answer would let two servers talk forever.
        Ok(message) if message.metadata.message_type == MessageType::Response => Err(None),
        Ok(message) => Ok(message),
        Err(_) if bytes.len() < HEADER || bytes[2] & 0x80 != 0 => Err(None),
        Err(_) => Err(Some(Box::new(Message::error_msg(u16::from_be_bytes([bytes[0], bytes[1]]), OpCode::Query, ResponseCode::FormErr)))),
    }
}

/// A reply of at most `limit` bytes: one that is longer only says so, and the client asks again over TCP.
fn encode(reply: &Message, limit: u16) -> Option<Vec<u8>> {
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= usize::from(limit) => Some(bytes),
        Ok(_) => reply.truncate().to_vec().ok(),
        Err(error) => {
            tracing::warn!(%error, "a DNS answer could not be encoded");
            None
        }
    }
}

async fn send(socket: &UdpSocket, reply: &Message, limit: u16, client: std::net::SocketAddr) {
    if let Some(bytes) = encode(reply, limit)
        && let Err(error) = socket.send_to(&bytes, client).await
    {
        tracing::debug!(%error, %client, "a DNS answer could not be sent");
    }
}
