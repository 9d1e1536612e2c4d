//! FlashDNS: names of Services, endpoints and pods, served from memory, and everything else from upstream.
//!
//! <https://github.com/kubernetes/dns/blob/master/docs/specification.md>

mod engine;
mod error;
mod forwarder;
pub mod kubernetes;
mod plan;
mod record;
mod server;
mod settings;
mod udp_port;
mod views;
mod zone;

pub use engine::{Engine, Outcome};
pub use error::Error;
pub use plan::records;
pub use record::{Record, RecordData};
pub use server::run;
pub use settings::{DnsSettings, Listener, upstreams_of};
pub use zone::{Found, Zone};
