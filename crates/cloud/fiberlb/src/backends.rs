//! Backends: one pool at run time: who lives, who is busy, whose turn it is, and how a connection to one is made.
use crate::backend_stream::BackendStream;
use crate::http_connections::HttpConnections;
use crate::http1::IdleConnections;
use crate::{Algorithm, Member, Pool};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// A member that does not take a connection in this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// After a connection that failed, a member is asked last for this long.
const AVOIDED_MILLISECONDS: u32 = 1000;

/// One member at run time.
#[derive(Debug)]
pub struct Backend {
    pub at: SocketAddrV4,
    /// What the health check found; true where there is none.
    pub healthy: AtomicBool,
    /// Connections or requests under way.
    pub active: AtomicUsize,
    /// Failed to connect until this many milliseconds after the process's start.
    avoided_until: AtomicU32,
    /// Of HTTP/1 clients.
    pub idle: IdleConnections,
    /// Of HTTP/2 clients.
    pub connections: HttpConnections,
}

/// Counts something under way at a backend for as long as it is kept.
#[derive(Debug)]
pub struct Busy(Arc<Backend>);

impl Busy {
    pub fn new(backend: &Arc<Backend>) -> Self {
        backend.active.fetch_add(1, Ordering::Relaxed);
        Self(backend.clone())
    }
    pub fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct State {
    pool: Arc<Pool>,
    /// As many as the pool has members, in their order.
    backends: Vec<Arc<Backend>>,
}

#[derive(Debug)]
pub struct Backends {
    state: RwLock<State>,
    turn: AtomicUsize,
}

impl Backends {
    pub fn new(pool: Arc<Pool>) -> Self {
        let backends = Self { state: RwLock::new(State { pool: pool.clone(), backends: Vec::new() }), turn: AtomicUsize::new(0) };
        backends.update(pool);
        backends
    }

    /// Members that stay keep what is known of them. Those that go serve what they have begun.
    pub fn update(&self, pool: Arc<Pool>) {
        let mut state = self.state.write();
        let mut known: HashMap<SocketAddrV4, Arc<Backend>> = state.backends.drain(..).map(|backend| (backend.at, backend)).collect();
        if pool.tls != state.pool.tls {
            // Connections that wait are of the other kind.
            known.clear();
        }
        let checked = pool.health_check.is_some();
        state.backends = pool.members.iter().map(|member| known.remove(&member.at).unwrap_or_else(|| Arc::new(Backend::new(member.at)))).collect();
        if !checked {
            state.backends.iter().for_each(|backend| backend.healthy.store(true, Ordering::Relaxed));
        }
        state.pool = pool;
    }

    pub fn pool(&self) -> Arc<Pool> {
        self.state.read().pool.clone()
    }
    pub fn all(&self) -> Vec<Arc<Backend>> {
        self.state.read().backends.clone()
    }

    /// The member whose turn it is, but none of those that were tried already. Members that are ill are taken only when
    /// there is no other: then the check may be what is wrong.
    pub fn pick(&self, client: IpAddr, tried: &[SocketAddrV4]) -> Option<Arc<Backend>> {
        let state = self.state.read();
        let may = |member: &Member| member.weight > 0 && !tried.contains(&member.at);
        let both = || state.pool.members.iter().zip(&state.backends).filter(|(member, _)| may(member));
        let now = milliseconds();
        for level in [0, 1, 2] {
            let fits = |backend: &Backend| {
                let (healthy, avoided) = (backend.healthy.load(Ordering::Relaxed), backend.avoided_until.load(Ordering::Relaxed) > now);
                match level {
                    0 => healthy && !avoided,
                    1 => healthy,
                    _ => true,
                }
            };
            let total: u64 = both().filter(|(_, backend)| fits(backend)).map(|(member, _)| u64::from(member.weight)).sum();
            if total == 0 {
                continue;
            }
            let candidates = both().filter(|(_, backend)| fits(backend));
            return match state.pool.algorithm {
                Algorithm::RoundRobin => {
                    // By weight, one after another: a weight of two is two turns of the round.
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed) as u64 % total;
                    in_turn(candidates, turn)
                }
                Algorithm::LeastConnections => {
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                    let count = candidates.clone().count();
                    let load = |(member, backend): &(&Member, &Arc<Backend>)| backend.active.load(Ordering::Relaxed) as u64 * 1000 / u64::from(member.weight);
                    // Of equals, another each time.
                    candidates.cycle().skip(turn % count).take(count).min_by_key(load).map(|(_, backend)| backend.clone())
                }
                // The highest of weighted hashes: a member that goes moves its own clients alone.
                Algorithm::IpHash => {
                    candidates.max_by(|left, right| score(client, left.0).total_cmp(&score(client, right.0))).map(|(_, backend)| backend.clone())
                }
            };
        }
        None
    }

    /// Connects to a member, to others when that fails.
    pub async fn connect(&self, client: IpAddr) -> Option<(Busy, TcpStream)> {
        let (mut tried, mark) = (Vec::new(), self.pool().mark);
        while let Some(backend) = self.pick(client, &tried) {
            let busy = Busy::new(&backend);
            match backend.connect(mark).await {
                Ok(stream) => return Some((busy, stream)),
                Err(error) => tracing::debug!(backend = %backend.at, %error, "a member takes no connection"),
            }
            tried.push(backend.at);
        }
        None
    }
}

fn in_turn<'a>(candidates: impl Iterator<Item = (&'a Member, &'a Arc<Backend>)>, turn: u64) -> Option<Arc<Backend>> {
    let mut before = 0;
    for (member, backend) in candidates {
        before += u64::from(member.weight);
        if turn < before {
            return Some(backend.clone());
        }
    }
    None
}

fn score(client: IpAddr, member: &Member) -> f64 {
    let mut hash = Sha256::new();
    match client {
        IpAddr::V4(address) => hash.update(address.octets()),
        IpAddr::V6(address) => hash.update(address.octets()),
    }
    hash.update(member.at.ip().octets());
    hash.update(member.at.port().to_be_bytes());
    let digest = hash.finalize();
    let number = u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer than that"));
    // In (0, 1): rendezvous hashing with weights.
    let share = (number as f64 + 1.0) / (u64::MAX as f64 + 2.0);
    f64::from(member.weight) / -share.ln()
}

impl Backend {
    fn new(at: SocketAddrV4) -> Self {
        Self {
            at,
            healthy: AtomicBool::new(true),
            active: AtomicUsize::new(0),
            avoided_until: AtomicU32::new(0),
            idle: IdleConnections::default(),
            connections: HttpConnections::default(),
        }
    }

    /// A new connection, whose packets bear the mark.
    pub async fn connect(&self, mark: u32) -> io::Result<TcpStream> {
        self.in_time(connect(self.at, mark)).await
    }

    /// A new connection for requests, as the pool has them sent.
    pub async fn open(&self, pool: &Pool) -> io::Result<BackendStream> {
        self.in_time(open(self.at, pool)).await
    }

    /// What fails is remembered for a moment.
    async fn in_time<T>(&self, connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let outcome = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let until = if outcome.is_err() { milliseconds() + AVOIDED_MILLISECONDS } else { 0 };
        self.avoided_until.store(until, Ordering::Relaxed);
        outcome
    }
}

/// A connection whose packets travel in the name of the cluster that the mark means.
pub async fn connect(to: SocketAddrV4, mark: u32) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if mark != 0 {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &mark)?;
    }
    let stream = socket.connect(SocketAddr::V4(to)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same for requests.
pub async fn open(to: SocketAddrV4, pool: &Pool) -> io::Result<BackendStream> {
    let stream = connect(to, pool.mark).await?;
    match &pool.tls {
        None => Ok(BackendStream::Plain(stream)),
        Some(tls) => Ok(BackendStream::Tls(Box::new(tls.connect(to, stream).await?))),
    }
}

/// Since the first call: a clock that fits into an atomic, for some fifty days.
fn milliseconds() -> u32 {
    static START: std::sync::LazyLock<tokio::time::Instant> = std::sync::LazyLock::new(tokio::time::Instant::now);
    START.elapsed().as_millis() as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendProtocol;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn member(last: u8, weight: u32) -> Member {
        Member { at: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 80), weight }
    }
    fn backends(algorithm: Algorithm, members: Vec<Member>) -> Backends {
        let pool = Pool {
            algorithm,
            members,
            health_check: None,
            protocol: BackendProtocol::Http1,
            tls: None,
            proxy_protocol: None,
            mark: 0,
            timeout: Duration::from_secs(1),
        };
        Backends::new(Arc::new(pool))
    }
    fn picks(backends: &Backends, clients: impl Iterator<Item = u8>) -> BTreeMap<u8, usize> {
        let mut counts = BTreeMap::new();
        for client in clients {
            let picked = backends.pick(IpAddr::V4(Ipv4Addr::new(192, 0, 2, client)), &[]).unwrap();
            *counts.entry(picked.at.ip().octets()[3]).or_default() += 1;
        }
        counts
    }

    #[tokio::test]
    async fn turns_go_by_weight_and_a_weight_of_nothing_drains() {
        let backends = backends(Algorithm::RoundRobin, vec![member(1, 1), member(2, 3), member(3, 0)]);
        assert_eq!(picks(&backends, 0..40), BTreeMap::from([(1, 10), (2, 30)]));
    }

    #[tokio::test]
    async fn the_least_busy_is_picked() {
        let backends = backends(Algorithm::LeastConnections, vec![member(1, 1), member(2, 1), member(3, 1)]);
        let all = backends.all();
        let _busy = [Busy::new(&all[0]), Busy::new(&all[0]), Busy::new(&all[1])];
        assert_eq!(picks(&backends, 0..10), BTreeMap::from([(3, 10)]));
    }

    #[tokio::test]
    async fn a_client_stays_with_its_member_and_only_those_of_one_that_goes_move() {
        let four = vec![member(1, 1), member(2, 1), member(3, 1), member(4, 1)];
        let backends = backends(Algorithm::IpHash, four.clone());
        let chosen = |backends: &Backends| (0..200).map(|n| backends.pick(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)), &[]).unwrap().at).collect::<Vec<_>>();
        let before = chosen(&backends);
        assert_eq!(before, chosen(&backends));
        assert!(picks(&backends, 0..200).values().all(|count| *count > 20), "everybody gets some");
        let pool = Pool { members: four[..3].to_vec(), ..(*backends.pool()).clone() };
        backends.update(Arc::new(pool));
        for (was, is) in before.iter().zip(chosen(&backends)) {
            assert!(was.ip().octets()[3] == 4 || *was == is);
        }
    }

    #[tokio::test]
    async fn the_ill_are_left_out_unless_all_are() {
        let backends = backends(Algorithm::RoundRobin, vec![member(1, 1), member(2, 1)]);
        let all = backends.all();
        all[0].healthy.store(false, Ordering::Relaxed);
        assert_eq!(picks(&backends, 0..10), BTreeMap::from([(2, 10)]));
        all[1].healthy.store(false, Ordering::Relaxed);
        assert_eq!(picks(&backends, 0..10), BTreeMap::from([(1, 5), (2, 5)]));
        assert!(backends.pick(IpAddr::V4(Ipv4Addr::LOCALHOST), &[all[0].at, all[1].at]).is_none());
    }
}
