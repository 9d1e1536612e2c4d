//! FlashDNS: names of Services, endpoints and pods, zones made by its API, and everything else from upstream.
//!
//! <https://github.com/kubernetes/dns/blob/master/docs/specification.md>

mod api;
mod engine;
mod error;
mod forwarder;
mod hosted;
pub mod kubernetes;
mod metrics;
mod plan;
pub mod proto;
mod rate_limits;
mod record;
mod server;
mod settings;
mod udp_port;
mod views;
mod zone;
mod zone_keeper;
mod zone_name;
mod zone_object;
mod zones;

pub use api::DnsZones;
pub use engine::{Engine, Outcome};
pub use error::Error;
pub use hosted::HostedZones;
pub use plan::records;
pub use record::{Record, RecordData};
pub use server::{run, run_alone};
pub use settings::{DnsSettings, Listener, StubDomain, name_server, upstreams_of};
pub use zone::{Found, Zone};
pub use zone_keeper::{KeepError, Version, ZoneFile, ZoneKeeper};
pub use zone_object::{ZONES, ZoneObject};
pub use zones::{Delegation, ZoneRules, Zones};
