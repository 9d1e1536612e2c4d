//! The node agent against a real containerd: images, sandboxes, containers, restarts.
#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod api;
mod images;
mod machine;
mod pods;
