//! Tunnels to the server: connections of pods to their cluster's API, taken in on their node and led on.
use api_meta::{ClusterName, TUNNEL_PATH, TUNNEL_PROTOCOL};
use http::{HeaderValue, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use rustls::pki_types::ServerName;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

const LIMIT: Duration = Duration::from_secs(10);
/// A pause after a failed accept, such as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where tunnels lead, and as whom.
#[derive(Clone)]
pub struct Tunnels {
    host: String,
    port: u16,
    /// The path of the cluster that is `root` here.
    path: String,
    tls: TlsConnector,
}

impl Tunnels {
    /// `base` is the address of a cluster, as for [`RemoteClients`](crate::RemoteClients).
    pub fn new(base: &str, mut tls: rustls::ClientConfig) -> Option<Self> {
        let uri: http::Uri = base.parse().ok()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Self {
            host: uri.host()?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(443),
            path: uri.path().trim_end_matches('/').to_owned(),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// Leads every connection on to the cluster that the address it asked for means, until dropped.
    pub async fn serve(self, listener: TcpListener, cluster_at: impl Fn(IpAddr) -> Option<ClusterName>) {
        loop {
            let (stream, arrived) = match listener.accept().await.and_then(|(stream, _)| Ok((stream.local_addr()?.ip(), stream))) {
                Ok((arrived, stream)) => (stream, arrived),
                Err(error) => {
                    tracing::debug!(%error, "a connection to a cluster's address was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(cluster) = cluster_at(arrived) else { continue };
            let tunnels = self.clone();
            tokio::spawn(async move {
                if let Err(error) = tunnels.lead(stream, &cluster).await {
                    tracing::debug!(%error, %cluster, "a connection to the cluster's API broke off");
                }
            });
        }
    }

    async fn lead(&self, mut pod: TcpStream, cluster: &ClusterName) -> io::Result<()> {
        pod.set_nodelay(true)?;
        let opening = tokio::time::timeout(LIMIT, self.open(cluster)).await;
        let mut server = TokioIo::new(opening.map_err(|_| io::ErrorKind::TimedOut)??);
        tokio::io::copy_bidirectional(&mut pod, &mut server).await.map(drop)
    }

    async fn open(&self, cluster: &ClusterName) -> io::Result<hyper::upgrade::Upgraded> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let stream = self.tls.connect(name, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        let inside = if cluster.is_root() { String::new() } else { format!("/clusters/{cluster}") };
        let request = Request::get(format!("{}{inside}{TUNNEL_PATH}", self.path))
            .header(header::HOST, &self.host)
            .header(header::CONNECTION, HeaderValue::from_static("Upgrade"))
            .header(header::UPGRADE, HeaderValue::from_static(TUNNEL_PROTOCOL))
            .body(Body::empty())
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(io::Error::other(format!("the server answered {}", answer.status())));
        }
        hyper::upgrade::on(answer).await.map_err(io::Error::other)
    }
}
