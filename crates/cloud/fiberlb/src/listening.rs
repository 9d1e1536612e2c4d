//! Listening: one address's socket, its connections, and what serves them.
use crate::client_hello::{self, Hello};
use crate::guarded_stream::GuardedStream;
use crate::http_proxy::{self, Arrival, Pools, client_address};
use crate::metrics::OpenConnection;
use crate::rate_limits::RateLimits;
use crate::replayed_stream::ReplayedStream;
use crate::tls::Resolver;
use crate::{Error, Listener, PoolId, RouteTable};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use ipnet::Ipv4Net;
use parking_lot::RwLock;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A client that does not end its TLS handshake, or send a request's whole head, in this time is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest head of a request; larger ones are answered with 431.
const HEAD_LIMIT: usize = 64 << 10;
/// So many connections are served at once by a listener; more have to wait in the kernel.
const CONNECTIONS: usize = 16_384;
/// How long connections get to end when their listener stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is done with connections.
#[derive(Clone)]
pub(crate) enum Serving {
    Tcp(Arc<TcpService>),
    Http(Arc<HttpService>),
}

/// Leads connections to a pool.
pub(crate) struct TcpService {
    target: RwLock<(PoolId, Vec<Ipv4Net>)>,
    pools: Arc<dyn Pools>,
}

impl TcpService {
    pub fn new(pool: PoolId, sources: Vec<Ipv4Net>, pools: Arc<dyn Pools>) -> Self {
        Self { target: RwLock::new((pool, sources)), pools }
    }

    async fn serve(&self, stream: TcpStream, client: IpAddr) {
        let pool = {
            let target = self.target.read();
            let IpAddr::V4(address) = client else { return };
            if !target.1.is_empty() && !target.1.iter().any(|range| range.contains(&address)) {
                return;
            }
            target.0.clone()
        };
        lead(&*self.pools, &pool, &[], stream, client).await;
    }
}

/// Leads a connection to a pool; `first` is what was read of it already.
async fn lead(pools: &dyn Pools, pool: &PoolId, first: &[u8], mut stream: TcpStream, client: IpAddr) {
    let Some(backends) = pools.backends(pool) else { return };
    let Some((_busy, mut backend)) = backends.connect(client).await else { return };
    let copied = async {
        backend.write_all(first).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut backend).await
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Answers requests as routes say.
pub(crate) struct HttpService {
    routes: RwLock<Arc<RouteTable>>,
    pools: Arc<dyn Pools>,
    limits: RateLimits,
    tls: Option<(Arc<Resolver>, TlsAcceptor)>,
}

impl HttpService {
    pub fn new(routes: Arc<RouteTable>, pools: Arc<dyn Pools>, tls: Option<(Arc<Resolver>, Arc<rustls::ServerConfig>)>) -> Self {
        Self { routes: RwLock::new(routes), pools, limits: RateLimits::default(), tls: tls.map(|(resolver, config)| (resolver, TlsAcceptor::from(config))) }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, client: SocketAddr, graceful: CancellationToken) {
        let port = stream.local_addr().map_or(0, |address| address.port());
        let arrival = Arrival { client, port, tls: self.tls.is_some() };
        let Some((_, acceptor)) = &self.tls else { return self.answer(stream, arrival, graceful).await };
        // One time for all of it: who sends drop by drop gains none.
        let until = tokio::time::Instant::now() + HANDSHAKE_TIMEOUT;
        let mut first = Vec::new();
        let passes = self.routes.read().passes_any_through();
        if passes {
            let Ok(Ok(name)) = tokio::time::timeout_at(until, name_asked_for(&mut stream, &mut first)).await else { return };
            let pool = name.and_then(|name| self.routes.read().passthrough_of(&name).cloned());
            if let Some(pool) = pool {
                return lead(&*self.pools, &pool, &first, stream, client_address(client)).await;
            }
        }
        let Ok(Ok(stream)) = tokio::time::timeout_at(until, acceptor.accept(ReplayedStream::new(first, stream))).await else { return };
        self.clone().answer(stream, arrival, graceful).await;
    }

    async fn answer<S>(self: Arc<Self>, stream: S, arrival: Arrival, graceful: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(move |request| {
            let this = self.clone();
            async move {
                let routes = this.routes.read().clone();
                Ok::<_, Infallible>(http_proxy::serve(request, arrival, &routes, &*this.pools, &this.limits).await)
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LIMIT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15))
            .max_header_list_size(HEAD_LIMIT as u32)
            .max_concurrent_streams(128)
            .max_pending_accept_reset_streams(20)
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(1 << 20);
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(GuardedStream::new(stream)), service);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = graceful.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, client = %arrival.client, "a connection ended with an error");
        }
    }
}

/// The name a client asks for, from its first bytes, which are kept. What can't be read asks for none: TLS itself will say so.
async fn name_asked_for(stream: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<Option<String>> {
    first.reserve(2048);
    loop {
        match client_hello::read(first) {
            Hello::Asks(name) => return Ok(name),
            Hello::Unreadable => return Ok(None),
            Hello::Begun if stream.read_buf(first).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Hello::Begun => {}
        }
    }
}

/// A socket that takes connections until it is stopped or dropped; then those under way go on until they end.
pub(crate) struct Listening {
    serving: Serving,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Listening {
    pub async fn start(address: SocketAddrV4, serving: Serving) -> Result<Self, Error> {
        let listener = bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
        tokio::spawn(accept(listener, serving.clone(), connections.clone(), stop.clone()));
        tracing::info!(%address, "a load balancer listens");
        Ok(Self { serving, connections, stop })
    }

    /// Goes over to another listener of the same kind; says whether it is.
    pub fn change(&self, listener: &Listener) -> bool {
        match (&self.serving, listener) {
            (Serving::Tcp(service), Listener::Tcp { pool, sources }) => *service.target.write() = (pool.clone(), sources.clone()),
            (Serving::Http(service), Listener::Http { routes }) if service.tls.is_none() => *service.routes.write() = routes.clone(),
            (Serving::Http(service), Listener::Https { routes, certificates }) => {
                let Some((resolver, _)) = &service.tls else { return false };
                resolver.replace(certificates.clone());
                *service.routes.write() = routes.clone();
            }
            _ => return false,
        }
        true
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.connections.wait()).await.is_err() {
            tracing::debug!(left = self.connections.len(), "connections were cut off at the end");
        }
    }
}

async fn bind(address: SocketAddrV4) -> std::io::Result<TcpListener> {
    // A listener that just went has not always closed its socket yet.
    let mut tries = 0;
    loop {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        match socket.bind(SocketAddr::V4(address)).and_then(|()| socket.listen(4096)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries < 10 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn accept(listener: TcpListener, serving: Serving, connections: TaskTracker, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.expect("nobody closes it"),
            () = stop.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others may close some.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (serving, stop) = (serving.clone(), stop.clone());
        connections.spawn(async move {
            let _counted = (place, OpenConnection::new());
            match serving {
                Serving::Tcp(service) => service.serve(stream, client_address(peer)).await,
                Serving::Http(service) => service.serve(stream, peer, stop).await,
            }
        });
    }
}
