//! What backends see of those who connect: names that are passed through, the PROXY protocol, TLS of their own.
use crate::loopback::{configuration, free, pool, started, talk};
use clock::SystemClock;
use fiberlb::{BackendTls, Configuration, Engine, HealthCheck, Listener, Pool, ProxyProtocol, RouteTable};
use pki::{CertificateAuthority, LeafRequest};
use rustls_pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const ONE: &str = "one.example.com";
const TWO: &str = "two.example.com";

async fn listener() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let SocketAddr::V4(at) = listener.local_addr().unwrap() else { unreachable!() };
    (listener, at)
}

fn acceptor(authority: &CertificateAuthority, name: &str) -> TlsAcceptor {
    let request = LeafRequest {
        common_name: name.into(),
        organizations: Vec::new(),
        dns_names: vec![name.into()],
        ip_addresses: Vec::new(),
        server: true,
        client: false,
        validity: Duration::from_hours(1),
    };
    let issued = authority.issue(&request, &SystemClock).unwrap();
    TlsAcceptor::from(Arc::new(pki::server_config(&issued.certificate_pem, &issued.key_pem, &[], &[b"http/1.1"]).unwrap()))
}

/// A TLS server that first takes so many bytes that are no TLS, and says these, and its name, to who comes.
async fn tls_server(authority: &CertificateAuthority, name: &'static str, first: usize) -> SocketAddrV4 {
    let (acceptor, (listener, at)) = (acceptor(authority, name), listener().await);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut header = vec![0; first];
                // A client that breaks off is the test's own.
                let Ok(_) = stream.read_exact(&mut header).await else { return };
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.write_all(&[&header, name.as_bytes()].concat()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    at
}

/// What a TLS client hears that asks for a name, and the address it has.
async fn hears(authority: &CertificateAuthority, at: SocketAddrV4, name: &str) -> std::io::Result<(Vec<u8>, SocketAddrV4)> {
    let connector = TlsConnector::from(Arc::new(pki::client_config(authority.certificate_pem(), None).unwrap()));
    let stream = TcpStream::connect(at).await?;
    let SocketAddr::V4(own) = stream.local_addr()? else { unreachable!() };
    let mut stream = connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await?;
    Ok((heard, own))
}

async fn serving(listener: Listener, pools: Vec<(&str, Pool)>) -> (Engine, SocketAddrV4) {
    let (mut engine, at) = (Engine::new(Arc::new(SystemClock)), free().await);
    let mut configuration = Configuration::default();
    configuration.listeners.insert(at, listener);
    configuration.pools.extend(pools.into_iter().map(|(id, pool)| (id.into(), Arc::new(pool))));
    let errors = engine.apply(&configuration).await;
    assert!(errors.is_empty(), "{errors:?}");
    (engine, at)
}

#[tokio::test]
async fn a_tls_listener_leads_by_name_and_ends_nothing() {
    let authority = CertificateAuthority::generate("test", &SystemClock).unwrap();
    let told = ProxyProtocol::V2.header(None).len() + 12;
    let (one, two) = (tls_server(&authority, ONE, 0).await, tls_server(&authority, TWO, told).await);
    let mut routes = RouteTable::default();
    routes.pass_through(ONE, "one".into());
    let pools = || vec![("one", pool(&[one])), ("two", Pool { proxy_protocol: Some(ProxyProtocol::V2), ..pool(&[two]) })];
    let (mut engine, at) = serving(Listener::Tls { routes: Arc::new(routes.clone()) }, pools()).await;
    assert_eq!(hears(&authority, at, ONE).await.unwrap().0, ONE.as_bytes());
    hears(&authority, at, TWO).await.expect_err("nobody has the name");

    // The same socket leads on what no host takes, and says who comes before anything else.
    routes.pass_rest_through("two".into());
    let mut changed = Configuration::default();
    changed.listeners.insert(at, Listener::Tls { routes: Arc::new(routes) });
    changed.pools.extend(pools().into_iter().map(|(id, pool)| (id.into(), Arc::new(pool))));
    assert!(engine.apply(&changed).await.is_empty());
    let (heard, own) = hears(&authority, at, TWO).await.unwrap();
    let (header, name) = heard.split_at(told);
    assert_eq!((&header[..16], name), (&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], TWO.as_bytes()));
    assert_eq!(header[16..24], [own.ip().octets(), at.ip().octets()].concat());
    assert_eq!(header[24..], [own.port().to_be_bytes(), at.port().to_be_bytes()].concat());
    assert_eq!(hears(&authority, at, ONE).await.unwrap().0, ONE.as_bytes(), "who was not asked for is not told");
}

#[tokio::test]
async fn a_backend_is_told_who_connects_and_that_a_check_is_nobody() {
    let (backend, at_backend) = listener().await;
    let check = HealthCheck { path: Some("/".into()), interval: Duration::from_secs(3600), timeout: Duration::from_secs(30), retries: 1 };
    let told = Pool { proxy_protocol: Some(ProxyProtocol::V1), health_check: Some(check), ..pool(&[at_backend]) };
    let (_engine, at) = serving(Listener::Tcp { pool: "p".into(), sources: Vec::new() }, vec![("p", told)]).await;
    let mut line = vec![0; 20];
    let (mut checked, _) = backend.accept().await.unwrap();
    checked.read_exact(&mut line).await.unwrap();
    assert_eq!(line, b"PROXY UNKNOWN\r\nGET /");

    let mut client = TcpStream::connect(at).await.unwrap();
    let own = client.local_addr().unwrap();
    client.write_all(b"hello").await.unwrap();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", own.port(), at.port());
    let (mut led, _) = backend.accept().await.unwrap();
    let mut heard = vec![0; expected.len()];
    led.read_exact(&mut heard).await.unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), expected);
    led.write_all(b"welcome").await.unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"welcome");
}

/// Answers each request over TLS with what its body was; counts connections.
async fn https_server(authority: &CertificateAuthority, name: &str) -> (SocketAddrV4, Arc<AtomicUsize>) {
    let (acceptor, (listener, at), connections) = (acceptor(authority, name), listener().await, Arc::new(AtomicUsize::new(0)));
    let counter = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counter) = (acceptor.clone(), counter.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                let echo = hyper::service::service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                    Ok::<_, hyper::Error>(hyper::Response::new(request.into_body()))
                });
                let serving = hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), echo);
                // A client that breaks off is the test's own.
                let _ = serving.await;
            });
        }
    });
    (at, connections)
}

async fn posts(at: SocketAddrV4, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        writing.write_all(head.as_bytes()).await.unwrap();
        // It may be refused before all is written.
        let _ = writing.write_all(body).await;
    };
    let (_, read) = tokio::join!(sending, reading.read_to_end(&mut answer));
    read.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..12].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

#[tokio::test]
async fn requests_go_over_tls_to_who_can_show_whom_they_are() {
    let (authority, stranger) = (CertificateAuthority::generate("test", &SystemClock).unwrap(), CertificateAuthority::generate("x", &SystemClock).unwrap());
    let (backend, connections) = https_server(&authority, ONE).await;
    let tls = |authority: Option<&CertificateAuthority>, name: Option<&str>| {
        Some(BackendTls::new(authority.map(CertificateAuthority::certificate_pem), name, false).unwrap())
    };
    let sealed = |tls| Pool { tls, timeout: Duration::from_secs(60), ..pool(&[backend]) };
    let (mut engine, at) = started(sealed(tls(Some(&authority), Some(ONE)))).await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (line, echoed) = posts(at, &body).await;
    assert_eq!(line, "HTTP/1.1 200");
    assert!(echoed == body, "{} bytes came back of {}", echoed.len(), body.len());
    // One connection serves many requests.
    let before = connections.load(Ordering::SeqCst);
    let request = "POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 5\r\n\r\nhello";
    let answers = talk(at, &request.repeat(5)).await;
    assert_eq!(answers.matches("hello").count(), 5, "{answers}");
    assert!(connections.load(Ordering::SeqCst) <= before + 1, "{} connections", connections.load(Ordering::SeqCst));

    // Whose certificate is another's, or for another name, gets no request.
    for (tls, code) in [
        (tls(Some(&stranger), Some(ONE)), "HTTP/1.1 502"),
        (tls(Some(&authority), Some(TWO)), "HTTP/1.1 502"),
        (tls(Some(&authority), None), "HTTP/1.1 502"),
        (tls(None, None), "HTTP/1.1 200"),
        (None, "HTTP/1.1 502"),
        (tls(Some(&authority), Some(ONE)), "HTTP/1.1 200"),
    ] {
        assert!(engine.apply(&configuration(at, sealed(tls.clone()))).await.is_empty());
        assert_eq!(posts(at, b"hello").await.0, code, "{tls:?}");
    }
}
