//! Pulling: brings an image onto the node as the container's policy asks.
use super::ImageName;
use super::credentials;
use crate::pod::security::ImageUser;
use cri::v1::{Image, PodSandboxConfig};
use cri::{CriError, Runtime};
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// An image on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledImage {
    pub id: String,
    pub user: ImageUser,
    pub size: u64,
}

/// Why there is no image. The reasons are those of container statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    #[error("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {error}")]
    InvalidName { image: String, error: super::ImageNameError },
    #[error("Failed to inspect image \"{image}\": {error}")]
    Inspect { image: String, error: String },
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    #[error("{0}")]
    Pull(String),
}

impl PullError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::Inspect { .. } => "ImageInspectError",
            Self::NeverPull(_) => "ErrImageNeverPull",
            Self::Pull(_) => "ErrImagePull",
        }
    }
}

/// Pulls images, a few at a time.
#[derive(Clone)]
pub struct ImagePuller {
    runtime: Runtime,
    places: Arc<Semaphore>,
}

const AT_ONCE: usize = 5;

impl ImagePuller {
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The image if it is here, by the policy; `Ok(None)` when it has to be pulled.
    pub async fn present(&self, image: &str, policy: &str) -> Result<Option<PulledImage>, PullError> {
        let name = parse(image)?;
        let here = self.runtime.image_status(&name.to_string()).await;
        let here = here.map_err(|error| PullError::Inspect { image: image.into(), error: error.to_string() })?.map(pulled);
        match (policy, here) {
            ("Always", _) => Ok(None),
            ("Never", None) => Err(PullError::NeverPull(image.into())),
            (_, here) => Ok(here),
        }
    }

    /// Pulls, with each fitting credential in turn until one works.
    pub async fn pull(&self, image: &str, secrets: &[Arc<Secret>], sandbox: &PodSandboxConfig) -> Result<PulledImage, PullError> {
        let name = parse(image)?;
        let _place = self.places.acquire().await.map_err(|error| PullError::Pull(error.to_string()))?;
        let found = credentials::for_image(secrets, &name);
        let tries: Vec<_> = if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() };
        let (name, mut errors) = (name.to_string(), Vec::<CriError>::new());
        for auth in tries {
            match self.runtime.pull_image(&name, auth, Some(sandbox.clone())).await {
                Ok(id) => {
                    let image = self.runtime.image_status(&id).await.map_err(|error| PullError::Pull(error.to_string()))?;
                    return Ok(image.map_or_else(|| PulledImage { id, user: ImageUser { uid: Some(0), name: String::new() }, size: 0 }, pulled));
                }
                Err(error) => errors.push(error),
            }
        }
        let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Err(PullError::Pull(if messages.len() == 1 { messages.join("") } else { format!("[{}]", messages.join(", ")) }))
    }
}

fn parse(image: &str) -> Result<ImageName, PullError> {
    ImageName::parse(image).map_err(|error| PullError::InvalidName { image: image.into(), error })
}

fn pulled(image: Image) -> PulledImage {
    let uid = image.uid.map(|uid| uid.value);
    // An image that names no user runs as root.
    let uid = if image.username.is_empty() { uid.or(Some(0)) } else { uid };
    PulledImage { id: image.id, user: ImageUser { uid, name: image.username }, size: image.size }
}
