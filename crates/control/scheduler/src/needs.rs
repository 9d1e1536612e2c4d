//! Needs: what a pod needs beside the node: volumes and devices.
use crate::{Devices, Volumes};

#[derive(Clone, Default)]
pub struct Needs {
    pub volumes: Volumes,
    pub devices: Devices,
}
