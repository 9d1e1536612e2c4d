//! PrismNET in the kernel: real network namespaces, real packets.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod dual;
mod node;
mod peers;
mod pod_network;
mod policies;
