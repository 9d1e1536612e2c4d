//! What tests against real servers need: a running k8shost, kubectl and helm, hosts of their own, images.
#[cfg(feature = "api")]
mod aggregated;
#[cfg(feature = "api")]
mod api;
mod background;
mod cluster;
mod command;
mod host;
pub mod image;
pub mod images;
#[cfg(feature = "api")]
pub mod inside;
mod machine;
mod moved_clock;
#[cfg(feature = "api")]
mod provider;
mod remains;
mod server;

#[cfg(feature = "api")]
pub use aggregated::{Aggregated, Asked};
#[cfg(feature = "api")]
pub use api::{Ahead, Api, Ask, Connection, Reply, Watch};
pub use background::Background;
pub use cluster::Cluster;
pub use command::{Outcome, Tool, tools};
pub use host::{Host, Network};
pub use machine::Machine;
pub use moved_clock::MovedClock;
#[cfg(feature = "api")]
pub use provider::{CLIENT_ID, Provider};
pub use remains::{Process, Remains, remove_of_the_dead};
pub use server::{Server, ServerOptions, binary, free_port, wait_until};
