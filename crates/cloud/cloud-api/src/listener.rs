//! Serves gRPC over TLS to callers whose tokens are good.
use crate::TokenVerifier;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;

/// A client that doesn't finish its TLS handshake in this time is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls in flight get when the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Open connections; who comes after them waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// Serves `routes` until `stop`, then lets calls in flight end. Each call has to carry `authorization: Bearer TOKEN`;
/// one that `verifier` doesn't know is answered `UNAUTHENTICATED`, whatever it asks for. Services find the
/// [`Caller`](crate::Caller) in the request's extensions. `tls` needs `h2` among its protocols.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, routes: Routes, verifier: Arc<dyn TokenVerifier>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others may close some.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, routes, verifier, stop) = (acceptor.clone(), routes.clone(), verifier.clone(), stop.clone());
        connections.spawn(async move {
            connection(acceptor, stream, routes, verifier, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections were cut off at the end");
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, routes: Routes, verifier: Arc<dyn TokenVerifier>, stop: CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return; // The connection is already gone.
    }
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    let service = service_fn(move |request: Request<Incoming>| answer(request, routes.clone(), verifier.clone()));
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).keep_alive_timeout(Duration::from_secs(15));
    builder.http2().max_concurrent_streams(250).max_header_list_size(64 << 10);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

async fn answer(mut request: Request<Incoming>, routes: Routes, verifier: Arc<dyn TokenVerifier>) -> Result<Response<Body>, Infallible> {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let Some(token) = token else {
        return Ok(Status::new(Code::Unauthenticated, "a bearer token is needed").into_http());
    };
    match verifier.verify(token) {
        Ok(caller) => request.extensions_mut().insert(caller),
        Err(error) => {
            // Why is for us alone: it would help a guesser.
            tracing::info!(%error, path = request.uri().path(), "a call was refused");
            return Ok(Status::new(Code::Unauthenticated, "invalid or expired token").into_http());
        }
    };
    request.headers_mut().remove(AUTHORIZATION);
    routes.oneshot(request).await
}

/// RFC 6750: the scheme's name is told in any case of letters.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
