//! The access log: a line for each request answered, for who asks for it (`fiberlb::access` at debug).
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

/// What a line tells of the request.
#[derive(Debug)]
pub struct AccessLine {
    pub client: IpAddr,
    pub method: String,
    pub host: String,
    pub uri: String,
    pub version: http::Version,
}

impl AccessLine {
    /// Makes one if anybody will read it.
    pub fn if_wanted(make: impl FnOnce() -> Self) -> Option<Self> {
        tracing::enabled!(target: "fiberlb::access", tracing::Level::DEBUG).then(make)
    }

    pub fn write(&self, status: u16, backend: Option<SocketAddrV4>, took: Duration) {
        let Self { client, method, host, uri, version } = self;
        let backend = backend.map(|at| at.to_string()).unwrap_or_default();
        tracing::debug!(target: "fiberlb::access", %client, %method, host, %uri, ?version, status, backend, ?took, "served");
    }
}
