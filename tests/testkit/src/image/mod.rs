//! Images made here: layers of files and Debian packages, written as OCI archives.
mod archive;
pub mod debian;
mod layer;

pub use archive::Compression;
pub use layer::{Layer, Node};

use std::collections::BTreeMap;

/// An image to be: layers from the bottom up and how to run what is in them.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its full name, e.g. `docker.io/library/busybox:1.36`.
    pub name: String,
    pub layers: Vec<Layer>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// `uid`, `name`, `uid:gid`; empty for root.
    pub user: String,
    pub working_directory: String,
    /// E.g. `80/tcp`.
    pub ports: Vec<String>,
    /// E.g. `SIGINT`; empty for SIGTERM.
    pub stop_signal: String,
}

impl Image {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            environment: BTreeMap::from([("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())]),
            ..Self::default()
        }
    }
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }
    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }
    pub fn user(mut self, user: &str) -> Self {
        self.user = user.into();
        self
    }
    pub fn working_directory(mut self, directory: &str) -> Self {
        self.working_directory = directory.into();
        self
    }
    pub fn port(mut self, port: &str) -> Self {
        self.ports.push(port.into());
        self
    }
    pub fn stop_signal(mut self, signal: &str) -> Self {
        self.stop_signal = signal.into();
        self
    }
    /// The image as an OCI archive: the same bytes for the same image.
    pub fn archive(&self, compression: Compression) -> Vec<u8> {
        archive::write(&[self], compression)
    }
}

/// Several images in one archive; layers they share are in it once.
pub fn archive(images: &[&Image], compression: Compression) -> Vec<u8> {
    archive::write(images, compression)
}
