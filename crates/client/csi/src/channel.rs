//! Channels to drivers, and listeners for them: gRPC over unix sockets, here or where somebody leads to one.
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
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

/// A machine that went without a word is noticed after these two.
const STILL_THERE: Duration = Duration::from_secs(10);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A channel to a driver on another machine, over connections that `connect` makes: at its first use, and whenever the last one broke.
pub fn channel_over<Connecting, Connection>(connect: impl Fn() -> Connecting + Send + Sync + 'static) -> Channel
where
    Connecting: Future<Output = io::Result<Connection>> + Send + 'static,
    Connection: Read + Write + Send + Unpin + 'static,
{
    let endpoint = Endpoint::from_static("http://localhost").http2_keep_alive_interval(STILL_THERE).keep_alive_timeout(ANSWERS_WITHIN);
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| connect()))
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
