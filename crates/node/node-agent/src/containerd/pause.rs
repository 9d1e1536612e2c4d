//! The sandbox image: our own `pause`, built in, so that no registry is needed.
use super::archive::single_layer_image;
use super::import::{ImportError, import_contents};
use cri::Runtime;
use std::path::Path;

/// The name containerd's configuration gives as its sandbox image.
pub const SANDBOX_IMAGE: &str = "k8shost.local/pause:1";

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Imports the sandbox image; cheap when it is there already.
pub async fn import_sandbox_image(runtime: &Runtime, socket: &Path) -> Result<(), ImportError> {
    let contents = single_layer_image(layer()?, "/pause", SANDBOX_IMAGE);
    let here = runtime.image_status(SANDBOX_IMAGE).await?;
    if here.is_some_and(|image| contents.images.iter().any(|ours| ours.id == image.id)) {
        return Ok(());
    }
    import_contents(socket, &contents, true).await.map(|_| ())
}

fn layer() -> Result<Vec<u8>, std::io::Error> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(PROGRAM.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "pause", PROGRAM)?;
    builder.into_inner()
}
