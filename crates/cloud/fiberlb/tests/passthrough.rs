//! TLS that is passed through and TLS that is ended, at one listener on loopback: names, client certificates, slow clients.
#![allow(clippy::unwrap_used, reason = "a test may")]
use clock::SystemClock;
use fiberlb::{Algorithm, BackendProtocol, Certificates, Configuration, Engine, Listener, Member, PathMatch, Pool, Route, RouteTable, certified_key};
use pki::{CertificateAuthority, Issued, LeafRequest};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const API: &str = "api.example.com";
const WEB: &str = "web.example.com";

fn issue(authority: &CertificateAuthority, name: &str, client: bool) -> Issued {
    let request = LeafRequest {
        common_name: name.into(),
        organizations: Vec::new(),
        dns_names: if client { Vec::new() } else { vec![name.into()] },
        ip_addresses: Vec::new(),
        server: !client,
        client,
        validity: Duration::from_hours(1),
    };
    authority.issue(&request, &SystemClock).unwrap()
}

async fn listener() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let SocketAddr::V4(at) = listener.local_addr().unwrap() else { unreachable!() };
    (listener, at)
}

/// Takes certificates of its authority and none, says how long the client's is, and says again what it is told until that ends.
async fn api(authority: &CertificateAuthority) -> SocketAddrV4 {
    let own = issue(authority, API, false);
    let config = pki::server_config(&own.certificate_pem, &own.key_pem, &[authority.certificate_pem()], &[]).unwrap();
    let (acceptor, (listener, at)) = (TlsAcceptor::from(Arc::new(config)), listener().await);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let length = stream.get_ref().1.peer_certificates().map_or(0, |chain| chain[0].len());
                let (mut reading, mut writing) = tokio::io::split(stream);
                writing.write_u32(u32::try_from(length).unwrap()).await.unwrap();
                // A client that breaks off is the test's own.
                let _ = tokio::io::copy(&mut reading, &mut writing).await;
                let _ = writing.shutdown().await;
            });
        }
    });
    at
}

/// Answers any request with its own name.
async fn web() -> SocketAddrV4 {
    let (listener, at) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nweb").await;
            });
        }
    });
    at
}

/// The authority of all certificates, and an engine that passes `api.example.com` through and ends TLS for `web.example.com`.
async fn started() -> (CertificateAuthority, Engine, SocketAddrV4) {
    let authority = CertificateAuthority::generate("test", &SystemClock).unwrap();
    let (api, web) = (api(&authority).await, web().await);
    let (free, at) = listener().await;
    drop(free);
    let mut routes = RouteTable::default();
    routes.pass_through(API, "api".into());
    routes.add(WEB, Route { path: PathMatch::Prefix("/".into()), pool: "web".into(), limit: None });
    let own = issue(&authority, WEB, false);
    let certified = certified_key(own.certificate_pem.as_bytes(), own.key_pem.as_bytes(), &pki::provider()).unwrap();
    let certificates = Arc::new(Certificates { only: Some(Arc::new(certified)), ..Certificates::default() });
    let mut configuration = Configuration::default();
    configuration.listeners.insert(at, Listener::Https { routes: Arc::new(routes), certificates });
    for (id, member) in [("api", api), ("web", web)] {
        let (algorithm, members) = (Algorithm::RoundRobin, vec![Member { at: member, weight: 1 }]);
        let pool = Pool {
            algorithm,
            members,
            health_check: None,
            protocol: BackendProtocol::Http1,
            tls: None,
            proxy_protocol: None,
            mark: 0,
            timeout: Duration::from_secs(5),
        };
        configuration.pools.insert(id.into(), Arc::new(pool));
    }
    let mut engine = Engine::new(Arc::new(SystemClock));
    let errors = engine.apply(&configuration).await;
    assert!(errors.is_empty(), "{errors:?}");
    (authority, engine, at)
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(name: &str, config: &ClientConfig, stream: S) -> std::io::Result<TlsStream<S>> {
    TlsConnector::from(Arc::new(config.clone())).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// A connection whose client is heard a byte at a time.
async fn in_drops(at: SocketAddrV4) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(64);
    let stream = TcpStream::connect(at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (tokio::io::split(far), stream.into_split());
    tokio::spawn(async move {
        while let Ok(byte) = from_client.read_u8().await {
            if to_server.write_u8(byte).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    near
}

async fn asks_for_page<S: AsyncRead + AsyncWrite + Unpin>(mut stream: TlsStream<S>, host: &str) -> String {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    // What did not fit is sent by nobody else.
    stream.flush().await.unwrap();
    let mut answer = String::new();
    // It may end without TLS's own goodbye.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn a_name_leads_to_its_own_server_untouched_and_all_others_are_ended_here() {
    let (authority, _engine, at) = started().await;
    let own = issue(&authority, "me", true);
    let with = pki::client_config(authority.certificate_pem(), Some((&own.certificate_pem, &own.key_pem))).unwrap();
    let without = pki::client_config(authority.certificate_pem(), None).unwrap();
    let tcp = || async { TcpStream::connect(at).await.unwrap() };

    // The server itself sees the client's certificate, and the client the server's: nobody is between them.
    let mut stream = connect("API.example.com", &with, tcp().await).await.unwrap();
    let length = stream.read_u32().await.unwrap();
    assert_eq!(usize::try_from(length).unwrap(), pki::der_of(&own.certificate_pem).unwrap().len());
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let written = sent.clone();
    let sending = tokio::spawn(async move {
        writing.write_all(&written).await.unwrap();
        writing.shutdown().await.unwrap();
        // Dropped, it would take the other half with it.
        writing
    });
    let mut got = Vec::new();
    reading.read_to_end(&mut got).await.unwrap();
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
    drop(sending.await.unwrap());
    // Who shows none comes as nobody, and who shows a stranger's is refused by that server, not here.
    assert_eq!(connect(API, &without, tcp().await).await.unwrap().read_u32().await.unwrap(), 0);
    let stranger = issue(&CertificateAuthority::generate("another", &SystemClock).unwrap(), "me", true);
    let stranger = pki::client_config(authority.certificate_pem(), Some((&stranger.certificate_pem, &stranger.key_pem))).unwrap();
    let refused = async { connect(API, &stranger, tcp().await).await?.read_u32().await };
    refused.await.unwrap_err();

    assert!(asks_for_page(connect(WEB, &without, tcp().await).await.unwrap(), WEB).await.ends_with("web"));
    // A connection for one host is no way to another that is passed through.
    let misdirected = asks_for_page(connect(WEB, &without, tcp().await).await.unwrap(), API).await;
    assert!(misdirected.starts_with("HTTP/1.1 421 "), "{misdirected}");
    // What is no TLS is told so.
    let mut plain = tcp().await;
    plain.write_all(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer[0] == 21, "{}", String::from_utf8_lossy(&answer));

    // However the hello is cut up.
    assert!(connect(API, &with, in_drops(at).await).await.unwrap().read_u32().await.is_ok());
    assert!(asks_for_page(connect(WEB, &without, in_drops(at).await).await.unwrap(), WEB).await.ends_with("web"));
}

#[tokio::test]
async fn who_never_ends_a_hello_is_let_go_and_keeps_nobody_waiting() {
    let (authority, _engine, at) = started().await;
    let config = pki::client_config(authority.certificate_pem(), None).unwrap();
    let started = tokio::time::Instant::now();
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..200 {
        slow.spawn(async move {
            let mut stream = TcpStream::connect(at).await.unwrap();
            // Half of them send nothing at all, the others a hello of twelve thousand bytes, one at a time.
            for byte in [1, 0, 0x30, 0].into_iter().chain(std::iter::repeat(0)) {
                if number % 2 == 0 && stream.write_all(&[22, 3, 1, 0, 1, byte]).await.is_err() {
                    return;
                }
                let mut byte = [0; 1];
                if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut byte)).await {
                    return;
                }
            }
        });
    }
    for _ in 0..10 {
        let asked = tokio::time::Instant::now();
        let page = asks_for_page(connect(WEB, &config, TcpStream::connect(at).await.unwrap()).await.unwrap(), WEB).await;
        assert!(page.ends_with("web") && asked.elapsed() < Duration::from_secs(2), "{page}");
    }
    tokio::time::timeout(Duration::from_secs(20), slow.join_all()).await.unwrap();
    assert!(started.elapsed() > Duration::from_secs(5), "a hello has its time");
}
