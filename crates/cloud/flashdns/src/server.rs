//! The server: sockets in, answers out. Our own names are answered at once; others wait for upstream beside it.
use crate::engine::{Engine, MAX_UDP_PAYLOAD, Outcome};
use crate::error::Error;
use crate::forwarder::Forwarder;
use crate::hosted::HostedZones;
use crate::kubernetes;
use crate::metrics::{METRICS, Transport};
use crate::rate_limits::RateLimits;
use crate::settings::DnsSettings;
use crate::udp_port::UdpPort;
use crate::views::{View, Views};
use crate::zone_object::ZoneFollower;
use crate::zones::Zones;
use api_cache::{HostedClusters, Source};
use clock::{Clock, SystemClock};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
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
    views: Views,
    forwarder: Forwarder,
    limits: RateLimits,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// Serves a node's clusters until `shutdown`. Names answer as soon as the Services and EndpointSlices are known; until then
/// nobody is answered, as a name that is only not known yet must not be denied.
///
/// # Errors
/// Settings that can't be right, and addresses that can't be listened on.
pub async fn run(settings: DnsSettings, source: Arc<dyn Source>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    settings.check()?;
    let clusters = settings.virtual_cluster_cidr.map(|range| (range, HostedClusters::start(&*source, range)));
    let server = Server::new(settings, clusters.clone());
    let sockets = server.bind().await?;
    tokio::pin!(shutdown);
    // Dropped at the end, and all of it ends with it.
    let mut tasks = JoinSet::new();
    let known = async {
        let follower = kubernetes::Follower::start(server.engine.clone(), &*source).await;
        let zones = ZoneFollower::start(server.engine.clone(), &*source).await;
        if let Some((_, clusters)) = clusters {
            clusters.synced().await;
        }
        (follower, zones)
    };
    let (follower, zones) = tokio::select! {
        () = &mut shutdown => return Ok(()),
        known = known => known,
    };
    tasks.spawn(follower.run());
    server.serve(sockets, &mut tasks);
    shutdown.await;
    drop(zones);
    Ok(())
}

/// Serves zones alone until `shutdown`, with no cluster's names.
///
/// # Errors
/// As [`run`].
pub async fn run_alone(mut settings: DnsSettings, mut zones: watch::Receiver<Arc<Zones>>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    settings.domain.clear();
    settings.check()?;
    let server = Server::new(settings, None);
    let sockets = server.bind().await?;
    let mut tasks = JoinSet::new();
    server.serve(sockets, &mut tasks);
    let following = async {
        loop {
            let latest = zones.borrow_and_update().clone();
            server.engine.host(HostedZones::new(Zones::clone(&latest)));
            if zones.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = following => {}
    }
    Ok(())
}

type Clusters = Option<(ipnet::Ipv4Net, Arc<HostedClusters>)>;

impl Server {
    fn new(settings: DnsSettings, clusters: Clusters) -> Arc<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let forwarder = Forwarder::new(settings.upstreams.clone(), settings.upstream_timeout, clock.clone()).with_stubs(settings.stubs.clone());
        Arc::new(Self {
            views: Views::new(settings.listen.clone(), clusters),
            limits: RateLimits::new(settings.queries_per_second, clock),
            engine: Arc::new(Engine::new(settings)),
            forwarder,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    async fn bind(&self) -> Result<Vec<(SocketAddr, UdpPort, TcpListener)>, Error> {
        let mut sockets = Vec::new();
        for address in self.views.addresses() {
            let failed = |source| Error::Listen { address, source };
            let udp = UdpPort::bind(address).await.map_err(failed)?;
            let tcp = TcpListener::bind(address).await.map_err(failed)?;
            sockets.push((address, udp, tcp));
        }
        Ok(sockets)
    }

    fn serve(self: &Arc<Self>, sockets: Vec<(SocketAddr, UdpPort, TcpListener)>, tasks: &mut JoinSet<()>) {
        for (address, udp, tcp) in sockets {
            tracing::info!(%address, "answering DNS");
            tasks.spawn(self.clone().serve_udp(Arc::new(udp), address.port()));
            tasks.spawn(self.clone().serve_tcp(tcp));
        }
    }

    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpPort>, port: u16) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut waiting = JoinSet::new();
        loop {
            while waiting.try_join_next().is_some() {}
            let (length, client, asked) = match socket.receive(&mut buffer).await {
                Ok(received) => received,
                // An earlier answer met a closed port; the socket is fine.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::warn!(%error, "a DNS question could not be received");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let view = self.views.at(asked, port);
            // To answer that somebody asks too much would be as much work, and reach whoever's address was forged.
            if view == View::Nobody || !self.limits.allows(client.ip()) {
                continue;
            }
            let began = self.limits.now();
            let request = match decode(&buffer[..length]) {
                Ok(request) => request,
                Err(None) => continue,
                Err(Some(reply)) => {
                    METRICS.malformed();
                    send(&socket, &reply, MIN_UDP_PAYLOAD, client, asked).await;
                    continue;
                }
            };
            METRICS.asked(Transport::Udp, client.ip(), &request);
            let limit = request.edns.as_ref().map_or(MIN_UDP_PAYLOAD, |edns| edns.max_payload().clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD));
            match self.answer(&view, &request) {
                Outcome::Reply(reply) => {
                    METRICS.answered(&reply, self.limits.now().saturating_duration_since(began));
                    send(&socket, &reply, limit, client, asked).await;
                }
                outcome => match self.waiting.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (server, socket) = (self.clone(), socket.clone());
                        waiting.spawn(async move {
                            let reply = server.complete(outcome, &request).await;
                            METRICS.answered(&reply, server.limits.now().saturating_duration_since(began));
                            send(&socket, &reply, limit, client, asked).await;
                            drop(permit);
                        });
                    }
                    Err(_) => send(&socket, &self.engine.reply(&request, ResponseCode::ServFail), limit, client, asked).await,
                },
            }
        }
    }

    fn answer(&self, view: &View, request: &Message) -> Outcome {
        match view {
            View::Cluster(cluster) => self.engine.answer(cluster, request),
            View::Unknown | View::Nobody => Outcome::Reply(self.engine.reply(request, ResponseCode::ServFail)),
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut clients = JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            // The semaphore is never closed.
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    clients.spawn(async move {
                        if let Err(error) = server.serve_stream(stream).await {
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

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        let (asked, client) = (stream.local_addr()?, stream.peer_addr()?.ip());
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
            // Looked up for each question: while a connection lasts, its cluster may come or go.
            let view = self.views.at(asked.ip(), asked.port());
            if view == View::Nobody {
                return Ok(());
            }
            let began = self.limits.now();
            let reply = match decode(&buffer) {
                Ok(request) if !self.limits.allows(client) => self.engine.reply(&request, ResponseCode::Refused),
                Ok(request) => {
                    METRICS.asked(Transport::Tcp, client, &request);
                    let reply = match self.answer(&view, &request) {
                        Outcome::Reply(reply) => reply,
                        outcome => self.complete(outcome, &request).await,
                    };
                    METRICS.answered(&reply, self.limits.now().saturating_duration_since(began));
                    reply
                }
                Err(Some(reply)) => {
                    METRICS.malformed();
                    *reply
                }
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

async fn send(socket: &UdpPort, reply: &Message, limit: u16, client: SocketAddr, from: IpAddr) {
    if let Some(bytes) = encode(reply, limit)
        && let Err(error) = socket.send(&bytes, client, from).await
    {
        tracing::debug!(%error, %client, "a DNS answer could not be sent");
    }
}
