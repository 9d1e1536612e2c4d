//! Runtime streams: connections to the URLs that the runtime gives for Exec, Attach and PortForward.
use super::error::Refusal;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// Which of the protocols on top of SPDY a client can speak; repeated, best first.
pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
pub const SPDY: &str = "SPDY/3.1";

/// A connection on which SPDY frames follow.
pub struct RuntimeStream {
    pub io: TokioIo<Upgraded>,
    /// The one of the protocols that the runtime chose.
    pub protocol: Option<HeaderValue>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_REFUSAL: usize = 64 * 1024;

/// Connects and upgrades to SPDY/3.1.
///
/// # Errors
/// The runtime's own refusal, or 500 when it can't be reached.
pub async fn connect(url: &str, protocols: &[HeaderValue]) -> Result<RuntimeStream, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::internal(format!("error dialing backend: {error}"));
    let uri: Uri = url.parse().map_err(|error| failed(&error))?;
    if uri.scheme_str() != Some("http") {
        return Err(failed(&format!("the runtime's stream {url:?} is not plain HTTP")));
    }
    let authority = uri.authority().ok_or_else(|| failed(&format!("the runtime's stream {url:?} has no host")))?.clone();
    let address = if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, authority.as_str())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, SPDY)
        .header(CONTENT_LENGTH, 0);
    for protocol in protocols {
        request = request.header(STREAM_PROTOCOL, protocol);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let upgrade = async {
        let stream = TcpStream::connect(&address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the runtime's streams failed");
            }
        });
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST_REFUSAL).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(Refusal::new(status, String::from_utf8_lossy(&body)));
        }
        let protocol = response.headers().get(STREAM_PROTOCOL).cloned();
        let io = TokioIo::new(hyper::upgrade::on(response).await.map_err(|error| failed(&error))?);
        Ok(RuntimeStream { io, protocol })
    };
    tokio::time::timeout(CONNECT_TIMEOUT, upgrade).await.map_err(|_| failed(&"the runtime does not answer"))?
}
