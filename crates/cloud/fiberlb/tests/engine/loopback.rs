//! An engine on loopback, in front of one pool, and what is said to it.
use clock::SystemClock;
use fiberlb::{Algorithm, BackendProtocol, Configuration, Engine, Listener, Member, PathMatch, Pool, Route, RouteTable};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub fn pool(members: &[SocketAddrV4]) -> Pool {
    let mut members: Vec<Member> = members.iter().map(|at| Member { at: *at, weight: 1 }).collect();
    members.sort();
    Pool {
        algorithm: Algorithm::RoundRobin,
        members,
        health_check: None,
        protocol: BackendProtocol::Http1,
        tls: None,
        proxy_protocol: None,
        mark: 0,
        timeout: Duration::from_secs(2),
    }
}

/// A port that was free a moment ago.
pub async fn free() -> SocketAddrV4 {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap() {
        std::net::SocketAddr::V4(at) => at,
        std::net::SocketAddr::V6(_) => unreachable!(),
    }
}

pub fn configuration(at: SocketAddrV4, pool: Pool) -> Configuration {
    let mut routes = RouteTable::default();
    routes.add("a.example.com", Route { path: PathMatch::Prefix("/".into()), pool: "p".into(), limit: None });
    let mut configuration = Configuration::default();
    configuration.listeners.insert(at, Listener::Http { routes: Arc::new(routes) });
    configuration.pools.insert("p".into(), Arc::new(pool));
    configuration
}

pub async fn started(pool: Pool) -> (Engine, SocketAddrV4) {
    let (mut engine, at) = (Engine::new(Arc::new(SystemClock)), free().await);
    let errors = engine.apply(&configuration(at, pool)).await;
    assert!(errors.is_empty(), "{errors:?}");
    (engine, at)
}

/// All that is answered to these bytes, until the connection ends or falls silent.
pub async fn talk(at: SocketAddrV4, text: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    // It may be refused before all is written.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    while let Ok(Ok(read)) = tokio::time::timeout(Duration::from_millis(700), stream.read_buf(&mut answer)).await
        && read > 0
    {}
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn codes(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").filter_map(|rest| rest.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))).collect()
}
