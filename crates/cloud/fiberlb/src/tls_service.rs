//! TlsService: leads TLS connections to pools by the name that they ask for, as they are.
use crate::client_hello::{self, Hello};
use crate::http_service::Pools;
use crate::{RouteTable, tcp_service};
use parking_lot::RwLock;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A client that does not end its TLS handshake in this time is let go.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

pub struct TlsService {
    routes: RwLock<Arc<RouteTable>>,
    pools: Arc<dyn Pools>,
}

impl TlsService {
    pub fn new(routes: Arc<RouteTable>, pools: Arc<dyn Pools>) -> Self {
        Self { routes: RwLock::new(routes), pools }
    }

    pub fn change(&self, routes: &Arc<RouteTable>) {
        *self.routes.write() = routes.clone();
    }

    pub async fn serve(&self, mut stream: TcpStream, client: IpAddr) {
        let mut first = Vec::new();
        let Ok(Ok(name)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, name_asked_for(&mut stream, &mut first)).await else { return };
        let pool = self.routes.read().passthrough_of(name.as_deref().unwrap_or_default()).cloned();
        let Some(pool) = pool else { return };
        tcp_service::lead(&*self.pools, &pool, &first, stream, client).await;
    }
}

/// The name a client asks for, from its first bytes, which are kept. What can't be read asks for none: TLS itself will say so.
pub async fn name_asked_for(stream: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<Option<String>> {
    first.reserve(2048);
    loop {
        match client_hello::read(first) {
            Hello::Asks(name) => return Ok(name),
            Hello::Unreadable => return Ok(None),
            Hello::Begun if stream.read_buf(first).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Hello::Begun => {}
        }
    }
}
