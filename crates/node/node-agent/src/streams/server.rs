//! The server: accepts TLS connections and hands their requests to the handler.
use super::backend::StreamsBackend;
use super::error::StreamsError;
use super::handler::Handler;
use clock::Clock;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How the server is reached and whom it trusts.
#[derive(Clone)]
pub struct StreamsSettings {
    /// Upstream's port is 10250.
    pub address: SocketAddr,
    /// The serving certificate with its chain.
    pub serving: Arc<pki::Renewable>,
    /// The authority of client certificates: the cluster's.
    pub client_ca_pem: String,
}

/// A bound server.
pub struct StreamsServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    backend: Arc<dyn StreamsBackend>,
    clock: Arc<dyn Clock>,
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A pause after a failed accept, such as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(5);

impl StreamsServer {
    /// Binds the address and reads the certificates.
    pub async fn bind(settings: StreamsSettings, backend: Arc<dyn StreamsBackend>, clock: Arc<dyn Clock>) -> Result<Self, StreamsError> {
        // Upgrades need HTTP/1.1.
        let tls = pki::server_config_renewable(settings.serving, &[&settings.client_ca_pem], &[b"http/1.1"])?;
        let address = settings.address;
        let listener = TcpListener::bind(address).await.map_err(|cause| StreamsError::Bind { address, cause })?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)), backend, clock })
    }

    /// The address it listens on, with the port the system chose if the settings left that open.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then lets short answers end and cuts streams off.
    pub async fn run(self, shutdown: CancellationToken) {
        let handler = Arc::new(Handler { backend: self.backend, clock: self.clock, shutdown: shutdown.clone() });
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, self.acceptor.clone(), handler.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the kubelet server can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        // What takes longer is dropped with the runtime.
        let _ = tokio::time::timeout(GRACE, connections.wait()).await;
    }
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, handler: Arc<Handler>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is gone before it began");
        return;
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake with the kubelet server failed"),
        Err(_) => return tracing::debug!("a TLS handshake with the kubelet server took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let subject = match certificate.map(|certificate| pki::subject_of(certificate)).transpose() {
        Ok(subject) => Arc::new(subject),
        Err(error) => return tracing::debug!(%error, "a client certificate has no readable subject"),
    };
    let shutdown = handler.shutdown.clone();
    let service = service_fn(move |request| {
        let (handler, subject) = (handler.clone(), subject.clone());
        async move { Ok::<_, Infallible>(handler.handle(request, (*subject).as_ref()).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the kubelet server broke");
    }
}
