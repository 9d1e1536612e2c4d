//! Listening: one address's socket, its connections, and what serves them.
use crate::http_service::{HttpService, client_address};
use crate::metrics::OpenConnection;
use crate::tcp_service::TcpService;
use crate::tls_service::TlsService;
use crate::workers::Workers;
use crate::{Error, Listener};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// So many connections are served at once by a listener; more have to wait in the kernel.
const CONNECTIONS: usize = 16_384;
/// How long connections get to end when their listener stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is done with connections.
#[derive(Clone)]
pub(crate) enum Serving {
    Tcp(Arc<TcpService>),
    Tls(Arc<TlsService>),
    Http(Arc<HttpService>, Arc<Workers>),
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
            (Serving::Tcp(service), Listener::Tcp { pool, sources }) => service.change(pool, sources),
            (Serving::Tls(service), Listener::Tls { routes }) => service.change(routes),
            (Serving::Http(service, _), Listener::Http { routes }) => return service.change(routes, None),
            (Serving::Http(service, _), Listener::Https { routes, certificates }) => return service.change(routes, Some(certificates)),
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
        let counted = (place, OpenConnection::new());
        match &serving {
            Serving::Tcp(service) => {
                let service = service.clone();
                connections.spawn(async move {
                    let _counted = counted;
                    service.serve(stream, client_address(peer)).await;
                });
            }
            Serving::Tls(service) => {
                let service = service.clone();
                connections.spawn(async move {
                    let _counted = counted;
                    service.serve(stream, client_address(peer)).await;
                });
            }
            Serving::Http(service, workers) => {
                // A socket belongs to the thread that reads it.
                let Ok(stream) = stream.into_std() else { continue };
                let (service, stop) = (service.clone(), stop.clone());
                workers.spawn(connections.track_future(async move {
                    let _counted = counted;
                    match TcpStream::from_std(stream) {
                        Ok(stream) => service.serve(stream, peer, stop).await,
                        Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
                    }
                }));
            }
        }
    }
}
