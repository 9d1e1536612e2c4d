//! ZoneKeeper: where zones are kept, so that what was acknowledged is there after a crash.
use crate::zones::Zones;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Why zones could not be read or written. For logs: callers are told that it is no use now.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("the zones in {path:?}: {why}")]
    File { path: PathBuf, why: String },
    #[error("the zones in the API")]
    Api(#[from] api_client::kube::Error),
    #[error("the zones in the API can't be read: {0}")]
    Unreadable(String),
}

/// Which state a change was decided from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version(pub Option<String>);

#[tonic::async_trait]
pub trait ZoneKeeper: Send + Sync + 'static {
    async fn read(&self) -> Result<(Zones, Version), KeepError>;
    /// Keeps what was decided from `version`; false: another was faster, and nothing is changed.
    async fn write(&self, zones: &Zones, version: &Version) -> Result<bool, KeepError>;
}

/// A file, replaced as a whole. Its service alone writes it.
pub struct ZoneFile {
    path: PathBuf,
    latest: watch::Sender<Arc<Zones>>,
}

impl ZoneFile {
    /// With what an earlier run left.
    pub fn open(path: PathBuf) -> Result<Self, KeepError> {
        let failed = |why: String| KeepError::File { path: path.clone(), why };
        let zones: Zones = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Zones::default(),
            Err(error) => return Err(failed(error.to_string())),
        };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
        }
        Ok(Self { latest: watch::channel(Arc::new(zones)).0, path })
    }

    /// The zones as they are on disk.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Zones>> {
        self.latest.subscribe()
    }
}

#[tonic::async_trait]
impl ZoneKeeper for ZoneFile {
    async fn read(&self) -> Result<(Zones, Version), KeepError> {
        Ok((Zones::clone(&self.latest.borrow()), Version::default()))
    }

    async fn write(&self, zones: &Zones, _: &Version) -> Result<bool, KeepError> {
        let failed = |why: String| KeepError::File { path: self.path.clone(), why };
        let (text, path) = (serde_json::to_vec(zones).map_err(|error| failed(error.to_string()))?, self.path.clone());
        let written = tokio::task::spawn_blocking(move || pki::write_atomically(&path, &text, 0o600)).await;
        written.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        self.latest.send_replace(Arc::new(zones.clone()));
        Ok(true)
    }
}
