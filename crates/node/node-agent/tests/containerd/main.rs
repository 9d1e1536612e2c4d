//! The node agent against a real containerd: images, sandboxes, containers, restarts.

mod api;
mod images;
mod machine;
mod pods;
