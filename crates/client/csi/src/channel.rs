//! Channels to drivers, and listeners for them: gRPC over unix sockets.
use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// A channel to the socket given as a path or as `unix:///path`. It connects at its first use, and again whenever the driver came back.
pub fn channel(socket: &Path) -> Channel {
    let socket = without_scheme(socket);
    // The address is never looked at: the connector below always dials the socket.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }))
}

/// Listens on a socket; one that an earlier run left is taken over.
///
/// # Errors
/// When the directory or the socket can't be made.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    let socket = without_scheme(socket);
    if let Some(parent) = socket.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(&socket)
}

fn without_scheme(socket: &Path) -> PathBuf {
    match socket.to_str().and_then(|text| text.strip_prefix("unix://")) {
        Some(path) => path.into(),
        None => socket.to_owned(),
    }
}
