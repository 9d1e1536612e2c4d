//! The HTTPS listener: TLS, HTTP/1.1 and HTTP/2, graceful end.
use crate::server::{ApiServer, Connection, Requester, Sender};
use crate::shares::{OnAccount, Payer};
use api_auth::PeerCertificate;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A client that doesn't finish its TLS handshake in this time is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that doesn't send a request's head in this time is let go too, also one that has nothing more to ask.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, its path included; Go's limit.
const HEADER_LIMIT: usize = 1 << 20;
/// How long requests in flight get when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How connections come in, whichever way they come.
#[derive(Clone)]
pub(crate) struct Door {
    acceptor: TlsAcceptor,
    graceful: CancellationToken,
    pub connections: TaskTracker,
}

impl Door {
    /// Serves one connection to its end, on the account of whoever asks by it.
    pub async fn enter<S>(self, server: Arc<ApiServer>, stream: S, peer: SocketAddr, arrived: IpAddr)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let payer = Payer::new(server.shares.clone(), peer.ip());
        payer.clone().drive(self.serve(server, stream, (peer, arrived, payer))).await;
    }

    async fn serve<S>(self, server: Arc<ApiServer>, stream: S, (peer, arrived, payer): (SocketAddr, IpAddr, Arc<Payer>))
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await else { return };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|der| PeerCertificate::new(der));
        let name = stream.get_ref().1.server_name().map(Into::into);
        let connection = Connection { peer, arrived, name, payer };
        requests(server, stream, Requester::Peer { certificate }, connection, self.graceful).await;
    }
}

/// Serves until `shutdown`, then lets requests in flight end.
pub async fn serve(server: Arc<ApiServer>, listener: TcpListener, tls: Arc<rustls::ServerConfig>, shutdown: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let graceful = CancellationToken::new();
    let door = Door { acceptor, graceful: graceful.clone(), connections: connections.clone() };
    // A server serves once.
    let _ = server.door.set(door.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
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
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the connection is already gone");
            continue;
        }
        let Ok(arrived) = stream.local_addr().map(|address| address.ip()) else { continue };
        let (server, door) = (server.clone(), door.clone());
        connections.spawn(door.enter(server, stream, peer, arrived));
    }
    drop(listener);
    graceful.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections were cut off at the end");
    }
}

async fn requests<S>(server: Arc<ApiServer>, stream: S, requester: Requester, connection: Connection, graceful: CancellationToken)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let streams = OnAccount(connection.payer.clone());
    let sender = Arc::new(Sender { requester, connection: Some(connection) });
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let server = server.clone();
        request.extensions_mut().insert(sender.clone());
        async move { Ok::<_, Infallible>(server.handle(request).await) }
    });
    let mut builder = Builder::new(streams);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15))
        .max_header_list_size(HEADER_LIMIT as u32)
        .max_concurrent_streams(250)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = graceful.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
