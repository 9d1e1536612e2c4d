//! The driver over its socket, against real loop devices and file systems.
mod calls;
mod engine;
mod rig;
