//! RemoteClients: clients of a server on another machine, over TLS.
use crate::Clients;
use api_meta::ClusterName;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tower::ServiceBuilder;

/// Clients of so many clusters are kept.
const KEPT: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is silent for both of these together is taken for gone, and all that waits for it fails.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be on its way in one stream, and in all of a connection: initial lists come as watches.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

type Connection = Client<hyper_rustls::HttpsConnector<HttpConnector>, Body>;

/// All clients share one HTTP/2 connection, made when it is needed and made again when it broke.
pub struct RemoteClients {
    base: String,
    connection: Connection,
    bearer: Option<HeaderValue>,
    clients: Mutex<HashMap<ClusterName, kube::Client>>,
}

impl RemoteClients {
    /// `base` is the address of a cluster: `https://192.0.2.1:6443`, or with the path of a virtual one. To its clients it is `root`.
    ///
    /// # Errors
    /// If it is no address.
    pub fn new(base: &str, tls: rustls::ClientConfig) -> Result<Self, http::uri::InvalidUri> {
        base.parse::<Uri>()?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_keepalive(Some(KEEP_ALIVE));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().enable_http2().wrap_connector(http);
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW);
        Ok(Self { base: base.trim_end_matches('/').to_owned(), connection: builder.build(connector), bearer: None, clients: Mutex::default() })
    }

    /// Sends this token with every request.
    ///
    /// # Errors
    /// If it can't stand in a header.
    pub fn with_bearer(mut self, token: &str) -> Result<Self, http::header::InvalidHeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        self.bearer = Some(value);
        Ok(self)
    }

    fn client(&self, path: &str) -> kube::Client {
        let base = format!("{}{path}", self.base).parse().expect("the base is an address, and names of clusters are path segments");
        let bearer = self.bearer.clone();
        let authorized = move |mut request: http::Request<Body>| {
            if let Some(bearer) = &bearer {
                request.headers_mut().insert(AUTHORIZATION, bearer.clone());
            }
            request
        };
        let service = ServiceBuilder::new().layer(BaseUriLayer::new(base)).map_request(authorized).service(self.connection.clone());
        kube::Client::new(service, "default")
    }
}

impl Clients for RemoteClients {
    fn cluster(&self, cluster: &ClusterName) -> kube::Client {
        let mut clients = self.clients.lock().expect("no holder of this lock panics");
        // Each has a task and a queue: clusters that nothing happens in shall not keep one.
        if clients.len() >= KEPT && !clients.contains_key(cluster) {
            clients.clear();
        }
        let path = || if cluster.is_root() { String::new() } else { format!("/clusters/{cluster}") };
        clients.entry(cluster.clone()).or_insert_with(|| self.client(&path())).clone()
    }
}
