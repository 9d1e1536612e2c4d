//! The engine at work on loopback.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod http1;
mod loopback;
mod proxy;
mod toward_backends;
