//! Calls over real TLS: without a good token none gets as far as a service.
use clock::SystemClock;
use cloud_api::{Caller, TokenError, TokenVerifier, serve};
use http::{Request, Response};
use pki::{CertificateAuthority, LeafRequest};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;

/// Takes one token, of one caller.
struct OneToken;

impl TokenVerifier for OneToken {
    fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token == "good" { Ok(Caller { subject: "user-1".into(), ..Caller::default() }) } else { Err(TokenError::Signature) }
    }
}

/// Answers with the subject that called, and whether it was shown the token.
#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<Request<Body>> for WhoAmI {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;
    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let subject = request.extensions().get::<Caller>().map_or("nobody", |caller| &caller.subject);
        let answer = Response::builder().header("subject", subject).header("token-shown", request.headers().contains_key("authorization").to_string());
        std::future::ready(Ok(answer.body(Body::empty()).expect("the headers are plain")))
    }
}

async fn ask(address: std::net::SocketAddr, ca_pem: &str, authorization: Option<&str>) -> Response<hyper::body::Incoming> {
    let mut tls = pki::client_config(ca_pem, None).expect("a client's TLS");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.expect("the service listens");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("TLS is made");
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut request = Request::post("https://localhost/test.WhoAmI/Tell").header("content-type", "application/grpc");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    client.send_request(request.body(http_body_util::Empty::<hyper::body::Bytes>::new()).expect("a request")).await.expect("an answer")
}

#[tokio::test]
async fn only_good_tokens_reach_a_service() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = CertificateAuthority::load_or_create(directory.path(), "ca", "test", &SystemClock).expect("an authority");
    let request = LeafRequest {
        common_name: "localhost".into(),
        organizations: Vec::new(),
        dns_names: vec!["localhost".into()],
        ip_addresses: Vec::new(),
        server: true,
        client: false,
        validity: Duration::from_secs(3600),
    };
    let leaf = authority.issue(&request, &SystemClock).expect("a certificate");
    let tls = pki::server_config(&leaf.certificate_pem, &leaf.key_pem, &[], &[b"h2"]).expect("a server's TLS");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, Arc::new(tls), Routes::new(WhoAmI), Arc::new(OneToken), stop.clone()));

    let status = |answer: &Response<hyper::body::Incoming>| answer.headers().get("grpc-status").map(|value| value.to_str().expect("text").to_owned());
    for refused in [None, Some("good"), Some("Basic good"), Some("Bearer "), Some("Bearer bad")] {
        let answer = ask(address, authority.certificate_pem(), refused).await;
        assert_eq!(status(&answer).as_deref(), Some("16"), "{refused:?}");
        assert!(!answer.headers().contains_key("subject"), "{refused:?}");
    }
    for accepted in ["Bearer good", "bearer good"] {
        let answer = ask(address, authority.certificate_pem(), Some(accepted)).await;
        assert_eq!(answer.headers()["subject"], "user-1");
        assert_eq!(answer.headers()["token-shown"], "false", "a service has no use for the secret");
    }
    stop.cancel();
    serving.await.expect("serving ends");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
