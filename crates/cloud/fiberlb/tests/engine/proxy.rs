//! Requests through the engine, attacks on it, and changes under load.
use crate::loopback::{codes, configuration, free, pool, started, talk};
use bytes::Bytes;
use clock::SystemClock;
use fiberlb::{BackendProtocol, Configuration, Engine, HealthCheck, Listener, PathMatch, Pool, RateLimit, Route, RouteTable};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A backend that says what it was asked: `NAME METHOD PATH host=... ` and the length of the body.
struct Backend {
    at: SocketAddrV4,
    served: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn backend(name: &'static str) -> Backend {
    backend_at(name, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await
}

async fn backend_at(name: &'static str, at: SocketAddrV4) -> Backend {
    let listener = TcpListener::bind(at).await.unwrap();
    let std::net::SocketAddr::V4(at) = listener.local_addr().unwrap() else { unreachable!() };
    let served = Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let counter = counter.clone();
            connections.spawn(async move {
                let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                    let counter = counter.clone();
                    async move {
                        counter.fetch_add(1, Ordering::SeqCst);
                        let header = |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
                        let told = ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-secret", "connection", "te"];
                        let told: String = told.iter().map(|name| format!(" {name}={}", header(name))).collect();
                        if header("upgrade") == "echo" {
                            let upgraded = hyper::upgrade::on(&mut request);
                            tokio::spawn(async move {
                                let mut io = TokioIo::new(upgraded.await.unwrap());
                                let mut text = [0; 4];
                                io.read_exact(&mut text).await.unwrap();
                                io.write_all(&text).await.unwrap();
                            });
                            let answer = hyper::Response::builder().status(101).header("upgrade", "echo").header("connection", "upgrade");
                            return Ok::<_, hyper::Error>(answer.body(Full::new(Bytes::new())).unwrap());
                        }
                        let line = format!("{name} {} {} {:?}{told}", request.method(), request.uri(), request.version());
                        let length = request.into_body().collect().await?.to_bytes().len();
                        Ok(hyper::Response::new(Full::new(Bytes::from(format!("{line} body={length}")))))
                    }
                });
                // A client that breaks off is the test's own.
                let _ = Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    Backend { at, served, task }
}

#[tokio::test]
async fn a_backend_learns_what_the_proxy_knows_and_not_what_a_client_claims() {
    let backend = backend("one").await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let answer = talk(
        at,
        "GET /x?y=1 HTTP/1.1\r\nHost: a.example.com:80\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\nX-Secret: s\r\nConnection: x-secret, close\r\nTE: trailers, gzip\r\n\r\n",
    )
    .await;
    let expected = "one GET /x?y=1 HTTP/1.1 host=a.example.com:80 x-forwarded-for=127.0.0.1 x-forwarded-proto=http x-forwarded-host=a.example.com:80 x-secret=- connection=- te=trailers body=0";
    assert!(answer.ends_with(expected), "{answer}");
    // Two requests in a row on one connection, a body in chunks, one of a known length.
    let answers = talk(
        at,
        "POST /a HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nPOST /b HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    assert_eq!(codes(&answers), ["200", "200"], "{answers}");
    assert!(answers.contains("POST /a") && answers.contains("body=3") && answers.contains("POST /b") && answers.contains("body=2"), "{answers}");
    assert_eq!(codes(&talk(at, "GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n").await), ["404"]);
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_reaches_no_backend() {
    let backend = backend("one").await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
    let long = "x".repeat(80 << 10);
    // The head after the first two lines, what follows it, and the codes answered.
    for (head, body, expected) in [
        ("Content-Length: 1\r\nContent-Length: 2", "a", &["400"][..]),
        ("Content-Length: 1\r\nContent-Length: 1", "a", &["400"]),
        ("Content-Length: 1, 1", "a", &["400"]),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n", &["400"]),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n", &["400"]),
        ("Content-Length: 1, 2", "a", &["400"]),
        ("Content-Length: -1", "", &["400"]),
        ("Content-Length: +1", "a", &["400"]),
        ("Content-Length: 0x1", "a", &["400"]),
        ("Transfer-Encoding: xchunked", "", &["400"]),
        ("Transfer-Encoding: chunked, identity", "0\r\n\r\n", &["400"]),
        ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n", &["400"]),
        ("Transfer-Encoding: identity", "", &["400"]),
        ("Transfer-Encoding : chunked", "0\r\n\r\n", &["400"]),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n", &["400"]),
        ("Host: b.example.com", "", &["400"]),
        ("X: a\r\n b", "", &["400"]),
        ("X: a\0b", "", &["400"]),
        ("X y: a", "", &["400"]),
        (": a", "", &["400"]),
        (&format!("X: {long}"), "", &["431"]),
    ] {
        let before = backend.served.load(Ordering::SeqCst);
        let answers = talk(at, &format!("POST / HTTP/1.1\r\nHost: a.example.com\r\n{head}\r\n\r\n{body}{hidden}")).await;
        assert_eq!(codes(&answers), expected, "{head:.60}: {answers}");
        assert_eq!(backend.served.load(Ordering::SeqCst), before, "{head:.60}: a backend heard of it");
        assert!(!answers.contains("hidden"), "{head:.60}: {answers}");
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x@a.example.com\r\n\r\n",
        "GET http://b.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
        "CONNECT a.example.com:80 HTTP/1.1\r\nHost: a.example.com:80\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a.example.com\r\n\r\n",
        "GE\0T / HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
    ] {
        let (before, answers) = (backend.served.load(Ordering::SeqCst), talk(at, request).await);
        assert!(codes(&answers).iter().all(|code| code.starts_with('4') || *code == "505"), "{request}: {answers}");
        assert_eq!(backend.served.load(Ordering::SeqCst), before, "{request}");
    }
}

#[tokio::test]
async fn a_protocol_that_a_client_switches_to_passes_through() {
    let backend = backend("one").await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET /ws HTTP/1.1\r\nHost: a.example.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
}

#[tokio::test]
async fn a_backend_that_declares_http2_is_spoken_to_in_it() {
    let backend = backend("one").await;
    let (_engine, at) = started(Pool { protocol: BackendProtocol::Http2, ..pool(&[backend.at]) }).await;
    let answer = talk(at, "GET /x HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("one GET http://a.example.com/x HTTP/2.0"), "{answer}");
}

#[tokio::test]
async fn dead_backends_are_passed_over_and_none_is_an_error() {
    let (one, dead) = (backend("one").await, free().await);
    let (mut engine, at) = started(pool(&[one.at, dead])).await;
    for _ in 0..10 {
        assert_eq!(codes(&talk(at, "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n").await), ["200"]);
    }
    engine.apply(&configuration(at, pool(&[dead]))).await;
    assert_eq!(codes(&talk(at, "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n").await), ["502"]);
    engine.apply(&configuration(at, pool(&[]))).await;
    assert_eq!(codes(&talk(at, "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n").await), ["503"]);
}

#[tokio::test]
async fn a_backend_that_never_answers_is_given_up_in_time() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let std::net::SocketAddr::V4(silent_at) = silent.local_addr().unwrap() else { unreachable!() };
    let (_engine, at) = started(Pool { timeout: Duration::from_millis(200), ..pool(&[silent_at]) }).await;
    assert_eq!(codes(&talk(at, "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n").await), ["504"]);
}

#[tokio::test]
async fn a_body_may_take_longer_than_an_answer() {
    let backend = backend("one").await;
    let (_engine, at) = started(Pool { timeout: Duration::from_millis(300), ..pool(&[backend.at]) }).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\nContent-Length: 10\r\n\r\n").await.unwrap();
    for _ in 0..10 {
        stream.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(codes(&answer) == ["200"] && answer.ends_with("body=10"), "{answer}");
}

#[tokio::test]
async fn a_limit_is_each_clients_own_and_told() {
    let backend = backend("one").await;
    let (mut engine, at) = (Engine::new(Arc::new(SystemClock)), free().await);
    let mut routes = RouteTable::default();
    let limit = Some(RateLimit { scope: "i".into(), per_second: 2 });
    routes.add("a.example.com", Route { path: PathMatch::Prefix("/".into()), pool: "p".into(), limit });
    let mut limited = configuration(at, pool(&[backend.at]));
    limited.listeners.insert(at, Listener::Http { routes: Arc::new(routes) });
    assert!(engine.apply(&limited).await.is_empty());
    let request = "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
    assert_eq!(codes(&talk(at, &request.repeat(4)).await), ["200", "200", "429", "429"]);
}

#[tokio::test]
async fn no_request_is_lost_while_backends_come_and_go() {
    let (one, two) = (backend("one").await, backend("two").await);
    let (mut engine, at) = started(pool(&[one.at])).await;
    let asking = tokio::spawn(async move {
        for _ in 0..200 {
            let answer = talk(at, "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n").await;
            assert_eq!(codes(&answer), ["200"], "{answer}");
        }
    });
    while !asking.is_finished() {
        engine.apply(&configuration(at, pool(&[two.at]))).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        engine.apply(&configuration(at, pool(&[one.at, two.at]))).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    asking.await.unwrap();
    assert!(one.served.load(Ordering::SeqCst) > 0 && two.served.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn a_tcp_listener_leads_to_those_that_pass_their_checks() {
    let (one, two) = (backend("one").await, backend("two").await);
    let check = HealthCheck { path: Some("/".into()), interval: Duration::from_millis(50), timeout: Duration::from_millis(200), retries: 2 };
    let (mut engine, at) = (Engine::new(Arc::new(SystemClock)), free().await);
    let mut configuration = Configuration::default();
    configuration.listeners.insert(at, Listener::Tcp { pool: "p".into(), sources: vec!["127.0.0.0/8".parse().unwrap()] });
    configuration.pools.insert("p".into(), Arc::new(Pool { health_check: Some(check), ..pool(&[one.at, two.at]) }));
    assert!(engine.apply(&configuration).await.is_empty());
    let request = "GET /asked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let names = async || {
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..6 {
            names.insert(talk(at, request).await.lines().last().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned());
        }
        names.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names().await, "one two");
    let freed = two.at;
    drop(two);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(names().await, "one");
    let _two = backend_at("two", freed).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(names().await, "one two");
    // Others than the sources get nothing.
    configuration.listeners.insert(at, Listener::Tcp { pool: "p".into(), sources: vec!["192.0.2.0/24".parse().unwrap()] });
    engine.apply(&configuration).await;
    assert_eq!(talk(at, request).await, "");
}

#[tokio::test]
async fn a_client_that_sends_its_head_drop_by_drop_is_let_go() {
    let backend = backend("one").await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let started = tokio::time::Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut ended = false;
    while started.elapsed() < Duration::from_secs(25) && !ended {
        let mut byte = [0; 256];
        ended = matches!(tokio::time::timeout(Duration::from_millis(500), stream.read(&mut byte)).await, Ok(Ok(_) | Err(_)))
            || stream.write_all(b"X").await.is_err();
    }
    assert!(ended, "it was never let go");
    assert_eq!(backend.served.load(Ordering::SeqCst), 0);
}
