//! HttpService: what answers a listener's HTTP connections: TLS and names that are passed through, then HTTP/1 or HTTP/2.
use crate::backends::Backends;
use crate::http_proxy;
use crate::rate_limits::RateLimits;
use crate::replayed_stream::ReplayedStream;
use crate::tcp_service;
use crate::tls::Resolver;
use crate::tls_service::{HANDSHAKE_TIMEOUT, name_asked_for};
use crate::{Certificates, PoolId, RouteTable, http1};
use clock::Clock;
use http::StatusCode;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::RwLock;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub client: SocketAddr,
    pub port: u16,
    pub tls: bool,
}

/// A client's address as pools see it.
pub fn client_address(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// Where pools are found.
pub trait Pools: Send + Sync {
    fn backends(&self, pool: &str) -> Option<Arc<Backends>>;
}

/// What is served at a listener, whatever version of HTTP is spoken.
pub struct Site {
    routes: RwLock<Arc<RouteTable>>,
    pools: Arc<dyn Pools>,
    limits: RateLimits,
    pub clock: Arc<dyn Clock>,
}

impl Site {
    /// Who serves what is asked for: `host` in lower case and without its port, `path` without the query.
    pub fn backends_for(&self, host: &str, path: &str, arrival: Arrival) -> Result<Arc<Backends>, StatusCode> {
        let routes = self.routes.read();
        // A client that found this connection's certificate good for that host too has to open one of the host's own.
        if arrival.tls && routes.passthrough_of(host).is_some() {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        }
        let route = routes.route_of(host, path).ok_or(StatusCode::NOT_FOUND)?;
        if route.limit.as_ref().is_some_and(|limit| !self.limits.allow(limit, client_address(arrival.client), tokio::time::Instant::now())) {
            return Err(StatusCode::TOO_MANY_REQUESTS);
        }
        self.pools.backends(&route.pool).ok_or(StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// Answers requests as routes say.
pub struct HttpService {
    site: Arc<Site>,
    tls: Option<(Arc<Resolver>, TlsAcceptor)>,
}

impl HttpService {
    pub fn new(routes: Arc<RouteTable>, pools: Arc<dyn Pools>, clock: Arc<dyn Clock>, tls: Option<(Arc<Resolver>, Arc<rustls::ServerConfig>)>) -> Self {
        let site = Site { routes: RwLock::new(routes), pools, limits: RateLimits::default(), clock };
        Self { site: Arc::new(site), tls: tls.map(|(resolver, config)| (resolver, TlsAcceptor::from(config))) }
    }

    /// Goes over to other routes, and other certificates if it speaks TLS; says whether it is of that kind.
    pub fn change(&self, routes: &Arc<RouteTable>, certificates: Option<&Arc<Certificates>>) -> bool {
        match (&self.tls, certificates) {
            (Some((resolver, _)), Some(certificates)) => resolver.replace(certificates.clone()),
            (None, None) => {}
            _ => return false,
        }
        *self.site.routes.write() = routes.clone();
        true
    }

    pub async fn serve(&self, mut stream: TcpStream, client: SocketAddr, stopping: CancellationToken) {
        let port = stream.local_addr().map_or(0, |address| address.port());
        let arrival = Arrival { client, port, tls: self.tls.is_some() };
        let Some((_, acceptor)) = &self.tls else { return self.answer(stream, arrival, stopping).await };
        // One time for all of it: who sends drop by drop gains none.
        let until = tokio::time::Instant::now() + HANDSHAKE_TIMEOUT;
        let mut first = Vec::new();
        let passes = self.site.routes.read().passes_any_through();
        if passes {
            let Ok(Ok(name)) = tokio::time::timeout_at(until, name_asked_for(&mut stream, &mut first)).await else { return };
            let pool: Option<PoolId> = name.and_then(|name| self.site.routes.read().passthrough_of(&name).cloned());
            if let Some(pool) = pool {
                return tcp_service::lead(&*self.site.pools, &pool, &first, stream, client_address(client)).await;
            }
        }
        let Ok(Ok(stream)) = tokio::time::timeout_at(until, acceptor.accept(ReplayedStream::new(first, stream))).await else { return };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            return self.answer_http2(stream, arrival, stopping).await;
        }
        self.answer(stream, arrival, stopping).await;
    }

    async fn answer<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S, arrival: Arrival, stopping: CancellationToken) {
        if let http1::Ended::Http2 { stream, first } = http1::serve(stream, &self.site, arrival, stopping.clone()).await {
            self.answer_http2(ReplayedStream::new(first, stream), arrival, stopping).await;
        }
    }

    async fn answer_http2<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S, arrival: Arrival, stopping: CancellationToken) {
        let service = service_fn(|request| {
            let site = self.site.clone();
            async move { Ok::<_, Infallible>(http_proxy::serve(request, arrival, &site).await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15))
            .max_header_list_size(http1::HEAD_LIMIT as u32)
            .max_concurrent_streams(128)
            .max_pending_accept_reset_streams(20)
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(1 << 20);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = stopping.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, client = %arrival.client, "a connection ended with an error");
        }
    }
}
