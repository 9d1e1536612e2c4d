//! VolumeError: why a pod's volumes could not be brought up or taken down, in upstream's words.
use crate::downward::DownwardError;
use crate::referenced_objects::ReadError;
use std::path::PathBuf;

/// What `VolumeManager` returns. The text is that of upstream's `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// One volume could not be set up. Trying again may help.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {cause}")]
    SetUp {
        volume: String,
        #[source]
        cause: SetUpError,
    },
    /// The volume can't even be resolved to something that this node could set up.
    #[error("Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]: {reason}")]
    Unresolved { volume: String, reason: String },
    /// A container's `subPath` does not lie inside its volume, or can't be made.
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\": {cause}")]
    SubPath {
        volume: String,
        container: String,
        #[source]
        cause: SetUpError,
    },
    /// A mount or directory of a pod could not be taken away.
    #[error("failed to clean up volumes at \"{path}\": {cause}")]
    CleanUp {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// A driver did not take a volume of a pod away, or can't be heard.
    #[error("failed to tear down volumes at \"{path}\": {cause}")]
    TearDown {
        path: PathBuf,
        #[source]
        cause: SetUpError,
    },
    /// The pod has no uid or its uid is no single path segment.
    #[error("pod uid \"{0}\" can't name a directory")]
    InvalidUid(String),
}

impl VolumeError {
    /// The reason of the event upstream records for it.
    pub fn reason(&self) -> &'static str {
        "FailedMount"
    }
}

/// Why one volume could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Downward(#[from] DownwardError),
    #[error("configmap references non-existent config key: {0}")]
    MissingConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    MissingSecretKey(String),
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("invalid path \"{path}\": {reason}")]
    InvalidPath { path: String, reason: &'static str },
    #[error("{action} \"{path}\": {cause}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// Upstream's own sentence for a refusal.
    #[error("{0}")]
    Refused(String),
    /// Several sources of one projected volume failed.
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<SetUpError>),
}

impl SetUpError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { action, path, cause }
    }

    /// One error as it is; several as upstream's aggregate.
    pub(crate) fn aggregate(mut errors: Vec<SetUpError>) -> Self {
        match errors.len() {
            1 => errors.remove(0),
            _ => Self::Several(errors),
        }
    }
}
