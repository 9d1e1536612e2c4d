//! The node agent against a real containerd: images, sandboxes, containers, restarts.

mod images;
mod machine;
