//! TcpService: leads connections to a pool, whatever they carry.
use crate::PoolId;
use crate::http_service::Pools;
use crate::proxy_header::Ends;
use ipnet::Ipv4Net;
use parking_lot::RwLock;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub struct TcpService {
    target: RwLock<(PoolId, Vec<Ipv4Net>)>,
    pools: Arc<dyn Pools>,
}

impl TcpService {
    pub fn new(pool: PoolId, sources: Vec<Ipv4Net>, pools: Arc<dyn Pools>) -> Self {
        Self { target: RwLock::new((pool, sources)), pools }
    }

    pub fn change(&self, pool: &PoolId, sources: &[Ipv4Net]) {
        *self.target.write() = (pool.clone(), sources.to_vec());
    }

    pub async fn serve(&self, stream: TcpStream, client: IpAddr) {
        let pool = {
            let target = self.target.read();
            let IpAddr::V4(address) = client else { return };
            if !target.1.is_empty() && !target.1.iter().any(|range| range.contains(&address)) {
                return;
            }
            target.0.clone()
        };
        lead(&*self.pools, &pool, &[], stream, client).await;
    }
}

/// Leads a connection to a pool; `first` is what was read of it already.
pub async fn lead(pools: &dyn Pools, pool: &PoolId, first: &[u8], mut stream: TcpStream, client: IpAddr) {
    let Some(backends) = pools.backends(pool) else { return };
    let Some((_busy, mut backend)) = backends.connect(client).await else { return };
    let header = backends.pool().proxy_protocol.map(|protocol| protocol.header(ends(&stream))).unwrap_or_default();
    let copied = async {
        backend.write_all(&[&header, first].concat()).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut backend).await
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

fn ends(stream: &TcpStream) -> Option<Ends> {
    Some(Ends { client: ipv4(stream.peer_addr().ok()?)?, listener: ipv4(stream.local_addr().ok()?)? })
}

fn ipv4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, address.port())),
        IpAddr::V6(_) => None,
    }
}
