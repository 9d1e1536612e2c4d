//! What tests of cloud services that stand alone need: tokens, TLS, and a machine to call from.
use crate::SOON;
use clock::{Clock, SystemClock};
use hyper_util::rt::TokioIo;
use pki::SigningKey;
use serde_json::json;
use std::fs::File;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;
use testkit::{Ahead, Host, Network, binary, wait_until};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already needs no more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Signs tokens as the IAM service does.
pub struct Issuer(SigningKey);

impl Issuer {
    pub fn new() -> Self {
        Self(SigningKey::generate().expect("a key"))
    }

    /// The public keys, as they are published.
    pub fn jwks(&self) -> String {
        let (x, y) = self.0.coordinates();
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.0.key_id(), "x": x, "y": y}]}).to_string()
    }

    /// A member's token that ends in so many seconds.
    pub fn token(&self, org_id: &str, project_id: &str, seconds: i64) -> String {
        let header = jsonwebtoken::Header { kid: Some(self.0.key_id()), ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256) };
        let claims =
            json!({"sub": "user-1", "email": "", "org_id": org_id, "project_id": project_id, "roles": [], "exp": SystemClock.now().as_second() + seconds});
        let key = jsonwebtoken::EncodingKey::from_ec_pem(self.0.pem().as_bytes()).expect("a key");
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    }
}

/// A call with a token.
pub fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a token is header text"));
    request
}

/// How a service of some name is reached, whose authority is known, by a clock that may be ahead.
#[derive(Clone)]
pub struct Reach {
    pub address: String,
    pub name: &'static str,
    pub authority: String,
    pub ahead: Duration,
}

impl Reach {
    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let mut tls = pki::client_config(&self.authority, None).expect("a client's TLS");
        tls.alpn_protocols = vec![b"h2".to_vec()];
        tls.time_provider = Arc::new(Ahead(self.ahead));
        let stream = TcpStream::connect(&self.address).await?;
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(self.name.try_into().expect("a name"), stream).await
    }

    pub async fn channel(&self) -> Channel {
        let reach = self.clone();
        let connect = tower::service_fn(move |_| {
            let reach = reach.clone();
            async move { reach.connect().await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://service").connect_with_connector(connect).await.expect("the API is reached")
    }

    /// The certificate that is shown on a new connection.
    pub async fn shown(&self) -> Vec<u8> {
        let stream = self.connect().await.expect("the API is reached");
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).expect("a certificate was shown").to_vec()
    }
}

/// A connection over TLS to the service of this name, whose authority is `authority`.
pub async fn channel(address: &str, name: &'static str, authority: &str) -> Channel {
    Reach { address: address.to_owned(), name, authority: authority.to_owned(), ahead: Duration::ZERO }.channel().await
}

/// Runs calls from outside of the machine.
pub fn outside<T: Send + 'static>(network: &Network, calls: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{}", network.namespace())).expect("the network is there");
    let calling = std::thread::spawn(move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(calls())
    });
    calling.join().expect("the calls succeed")
}

pub fn listens(network: &Network, address: &str, port: u16) -> bool {
    let mut probe = std::process::Command::new("nsenter");
    probe.arg(format!("--net=/run/netns/{}", network.namespace())).args(["busybox", "nc", "-w", "1", address, &port.to_string()]).stdin(Stdio::null());
    probe.output().is_ok_and(|outcome| outcome.status.success())
}

/// A service on a machine of its own, with keys that tokens may be signed with.
pub struct Alone {
    pub network: Arc<Network>,
    pub host: Host,
    pub directory: tempfile::TempDir,
    /// Variables for its environment.
    pub environment: Vec<(String, String)>,
    arguments: Vec<String>,
    name: &'static str,
    port: u16,
}

impl Alone {
    pub fn new(name: &'static str, port: u16, arguments: &[&str], issuer: &Issuer) -> Self {
        let network = Network::new();
        let arguments = arguments.iter().map(|&argument| argument.into()).collect();
        let (host, directory) = (network.host(), tempfile::tempdir().expect("a directory"));
        std::fs::write(directory.path().join("jwks.json"), issuer.jwks()).expect("a file can be written");
        Self { network, host, directory, environment: Vec::new(), arguments, name, port }
    }
    pub fn start(&self) -> Running {
        let mut command = self.host.command(&binary().display().to_string());
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        command.args([self.name, "--data-dir", &path("data"), "--iam-jwks", &path("jwks.json")]).args(&self.arguments).envs(self.environment.iter().cloned());
        let running = Running(command.stdin(Stdio::null()).spawn().expect("the server's binary runs"));
        wait_until("the API listens", SOON, || !self.authority().is_empty() && listens(&self.network, &self.host.address, self.port));
        running
    }
    pub fn authority(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("data/tls/ca.crt")).unwrap_or_default()
    }
    pub fn reach(&self) -> Reach {
        let address = format!("{}:{}", self.host.address, self.port);
        Reach { address, name: self.name, authority: self.authority(), ahead: Duration::ZERO }
    }
    /// Makes calls from another machine.
    pub fn outside<T: Send + 'static>(&self, calls: impl AsyncFnOnce(Channel) -> T + Send + 'static) -> T {
        let reach = self.reach();
        outside(&self.network, async move || calls(reach.channel().await).await)
    }
}
