//! The driver over its socket, against real loop devices and file systems.
#![allow(clippy::unwrap_used, reason = "a test may")]
mod engine;
mod full;
mod rig;
