//! FiberLB: external addresses for Services and Ingresses, and the proxies behind them.

mod address_pool;
mod allocation;

mod annotations;
mod announcement;
mod backends;
mod client_hello;
mod engine;
mod error;
mod guarded_stream;
mod health;
mod host_table;
mod http_body;
mod http_connections;
mod http_proxy;
mod ingress_annotations;
mod ingress_plan;
pub mod kubernetes;
mod listening;
mod metrics;
mod model;
mod node;
mod node_network;
mod plan;
pub mod proto;
mod rate_limits;
mod records;
mod replayed_stream;
mod request_framing;
mod route_table;
mod server;
mod settings;
mod tls;

pub use address_pool::AddressPool;
pub use engine::Engine;
pub use error::Error;
pub use host_table::HostTable;
pub use model::{Algorithm, BackendProtocol, Certificates, Configuration, HealthCheck, Listener, Member, Pool, PoolId};
pub use node::run;
pub use node_network::teardown;
pub use plan::BALANCES;
pub use rate_limits::RateLimit;
pub use route_table::{PathMatch, Route, RouteTable};
pub use server::{LoadBalancers, ServiceSettings, serve};
pub use settings::{ControllerSettings, DEFAULT_DEVICE, DEFAULT_TABLE, NodeSettings};
pub use tls::certified_key;
