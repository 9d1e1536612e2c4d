//! The service proxy: Services, EndpointSlices and host ports of Pods become nftables maps.

mod apply;
mod conntrack;
mod endpoints;
mod error;
mod health_ports;
mod plan;
mod proxy;
mod ruleset;
mod script;
mod settings;
mod tables;

pub use apply::teardown;
pub use error::Error;
pub use plan::{Backend, Frontend, Protocol, Rules, Target, Translation, host_port_rules, service_rules};
pub use proxy::run;
pub use ruleset::{Forgotten, Owner, Ruleset};
pub use settings::ProxySettings;
