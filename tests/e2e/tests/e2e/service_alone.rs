//! What tests of cloud services that stand alone need: tokens, TLS, and a machine to call from.
use clock::{Clock, SystemClock};
use hyper_util::rt::TokioIo;
use pki::SigningKey;
use serde_json::json;
use std::fs::File;
use std::process::{Child, Stdio};
use std::sync::Arc;
use testkit::Network;
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

/// A connection over TLS to the service of this name, whose authority is `authority`.
pub async fn channel(address: &str, name: &'static str, authority: &str) -> Channel {
    let mut tls = pki::client_config(authority, None).expect("a client's TLS");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, address) = (tokio_rustls::TlsConnector::from(Arc::new(tls)), address.to_owned());
    let connect = tower::service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            connector.connect(name.try_into().expect("a name"), stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://service").connect_with_connector(connect).await.expect("the API is reached")
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
