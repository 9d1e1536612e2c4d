//! Images: their names, the credentials to pull them, and pulling.

mod credentials;
mod image_name;
mod puller;

pub use image_name::{ImageName, ImageNameError};
pub use puller::{ImagePuller, PullError, PulledImage};
