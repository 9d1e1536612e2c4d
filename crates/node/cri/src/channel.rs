//! A gRPC channel over a unix socket, which connects again by itself when the runtime restarts.
use crate::CriError;
use hyper_util::rt::TokioIo;
use std::path::Path;
use tonic::transport::{Channel, Endpoint, Uri};

/// Opens a channel to a socket given as a path or as `unix:///path`.
pub async fn connect(socket: &Path) -> Result<Channel, CriError> {
    let socket = without_scheme(socket);
    // The address is never looked at: the connector below always dials the socket.
    let endpoint = Endpoint::from_static("http://localhost").http2_adaptive_window(true);
    let path = socket.clone();
    endpoint
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|source| CriError::Connect { socket, source })
}

fn without_scheme(socket: &Path) -> std::path::PathBuf {
    match socket.to_str().and_then(|text| text.strip_prefix("unix://")) {
        Some(path) => path.into(),
        None => socket.to_owned(),
    }
}
