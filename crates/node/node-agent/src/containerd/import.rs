//! Importing images: an archive's blobs into containerd's content store, its names into CRI.
use super::archive::{self, Blob, Contents, Descriptor, StoredBlob};
use crate::image::{ImageName, ImageNameError};
use cri::containerd::content::{FieldMask, Info, UpdateRequest, WriteAction, WriteContentRequest};
use cri::containerd::images::{self, CreateImageRequest, UpdateImageRequest};
use cri::containerd::leases::{CreateRequest, DeleteRequest};
use cri::containerd::{Containerd, request};
use cri::{CriError, Runtime};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Why an archive could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read the archive")]
    Read(#[from] std::io::Error),
    #[error("this is no image archive: it is neither an OCI layout nor made by `docker save`")]
    NotAnArchive,
    #[error("the archive names no image")]
    NoNames,
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    #[error("the archive's image name {name:?} is invalid")]
    Name { name: String, source: ImageNameError },
    #[error("containerd refused the image")]
    Containerd(#[from] CriError),
    #[error("containerd did not take {0} to its end")]
    Incomplete(String),
    #[error("containerd does not show image {0:?}")]
    NotShown(String),
}

impl From<tonic::Status> for ImportError {
    fn from(status: tonic::Status) -> Self {
        Self::Containerd(status.into())
    }
}

/// CRI's mark on images that it manages.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// Newer versions never collect images with this mark.
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");
const PART: usize = 1 << 20;

/// Imports an archive (OCI layout or `docker save`, plain or gzipped); gives the images' full names.
pub async fn import_archive(socket: &Path, archive: &Path) -> Result<Vec<String>, ImportError> {
    let file = std::fs::File::open(archive)?;
    let contents = tokio::task::spawn_blocking(move || archive::open(file)).await.map_err(std::io::Error::other)??;
    import_contents(socket, &contents, false).await
}

/// As `import_archive`, from a plain archive in memory.
pub async fn import(socket: &Path, archive: &[u8]) -> Result<Vec<String>, ImportError> {
    import_contents(socket, &archive::open_bytes(archive)?, false).await
}

pub(super) async fn import_contents(socket: &Path, contents: &Contents, pinned: bool) -> Result<Vec<String>, ImportError> {
    let containerd = Containerd::connect(socket).await?;
    // Nothing refers to the blobs until the image exists; the lease keeps them that long.
    let labels = BTreeMap::from([("containerd.io/gc.expire".to_owned(), lease_end())]);
    let id = format!("import-{}", uuid::Uuid::new_v4());
    containerd.leases().create(request(CreateRequest { id: id.clone(), labels }, None)).await?;
    let result = import_leased(&containerd, contents, pinned, &id).await;
    let deleted = containerd.leases().delete(request(DeleteRequest { id, sync: false }, None)).await;
    let names = result?;
    deleted?;
    let runtime = Runtime::connect(socket).await?;
    for name in &names {
        wait_until_shown(&runtime, name).await?;
    }
    Ok(names)
}

/// An import that was killed leaves its lease; containerd ends it then by itself.
fn lease_end() -> String {
    let day = jiff::SignedDuration::from_hours(24);
    clock::rfc3339_seconds(clock::Clock::now(&clock::SystemClock).saturating_add(day).unwrap_or(jiff::Timestamp::MAX))
}

async fn import_leased(containerd: &Containerd, contents: &Contents, pinned: bool, lease: &str) -> Result<Vec<String>, ImportError> {
    for blob in &contents.blobs {
        write_blob(containerd, blob, lease).await?;
    }
    let mut labels = BTreeMap::from([(MANAGED.0.to_owned(), MANAGED.1.to_owned())]);
    if pinned {
        labels.insert(PINNED.0.to_owned(), PINNED.1.to_owned());
    }
    let mut names = Vec::new();
    for image in &contents.images {
        // CRI knows an image by its id, a name like any other to containerd.
        name_image(containerd, &image.id, &image.target, &labels, lease).await?;
        for name in &image.names {
            let name = ImageName::parse(name).map_err(|source| ImportError::Name { name: name.clone(), source })?.to_string();
            name_image(containerd, &name, &image.target, &labels, lease).await?;
            names.push(name);
        }
    }
    Ok(names)
}

async fn write_blob(containerd: &Containerd, stored: &StoredBlob, lease: &str) -> Result<(), ImportError> {
    let labels = stored.references.clone();
    let (digest, total) = (stored.digest.clone(), stored.blob.len());
    let messages = parts(stored.blob.clone(), digest.clone(), format!("{lease}-{digest}"), labels.clone());
    let answer = containerd.content().write(request(messages, Some(lease))).await;
    let outcome = match answer {
        Ok(stream) => last_message(stream.into_inner()).await,
        Err(status) => Err(status),
    };
    match outcome {
        Ok(true) => Ok(()),
        Ok(false) => Err(ImportError::Incomplete(format!("{digest} ({total} bytes)"))),
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            // It may be there without the references that keep its children.
            if !labels.is_empty() {
                let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
                let info = Some(Info { digest, labels, ..Info::default() });
                containerd.content().update(request(UpdateRequest { info, update_mask: Some(FieldMask { paths }) }, Some(lease))).await?;
            }
            Ok(())
        }
        Err(status) => Err(status.into()),
    }
}

/// The messages that write a blob, the last of which commits it.
fn parts(blob: Blob, digest: String, reference: String, labels: BTreeMap<String, String>) -> impl futures::Stream<Item = WriteContentRequest> + Send + 'static {
    futures::stream::unfold(Some(0u64), move |at| {
        let (blob, digest, reference, labels) = (blob.clone(), digest.clone(), reference.clone(), labels.clone());
        async move {
            let at = at?;
            let total = blob.len();
            let data = tokio::task::spawn_blocking(move || blob.read_at(at, PART)).await;
            // A read error ends the stream before its commit, which the caller sees as incomplete.
            let data = data.ok()?.ok()?;
            let next = at + data.len() as u64;
            let done = next >= total;
            let action = if done { WriteAction::Commit } else { WriteAction::Write };
            let message = WriteContentRequest {
                action: action.into(),
                r#ref: reference,
                total: total.cast_signed(),
                expected: digest,
                offset: at.cast_signed(),
                data,
                labels: if done { labels } else { BTreeMap::new() },
            };
            Some((message, (!done).then_some(next)))
        }
    })
}

/// Whether the stream's last message said that the blob is committed.
async fn last_message(mut stream: tonic::Streaming<cri::containerd::content::WriteContentResponse>) -> Result<bool, tonic::Status> {
    let mut committed = false;
    while let Some(message) = stream.message().await? {
        committed = message.action() == WriteAction::Commit;
    }
    Ok(committed)
}

async fn name_image(containerd: &Containerd, name: &str, target: &Descriptor, labels: &BTreeMap<String, String>, lease: &str) -> Result<(), ImportError> {
    let media_type = if target.media_type.is_empty() { archive::OCI_MANIFEST.to_owned() } else { target.media_type.clone() };
    let target = images::Descriptor { media_type, digest: target.digest.clone(), size: target.size, annotations: BTreeMap::new() };
    let image = Some(images::Image { name: name.into(), labels: labels.clone(), target: Some(target) });
    match containerd.images().create(request(CreateImageRequest { image: image.clone() }, Some(lease))).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            containerd.images().update(request(UpdateImageRequest { image }, Some(lease))).await?;
            Ok(())
        }
        Err(status) => Err(status.into()),
    }
}

/// CRI learns of the image from containerd's events, a moment later.
async fn wait_until_shown(runtime: &Runtime, name: &str) -> Result<(), ImportError> {
    for _ in 0..500 {
        if runtime.image_status(name).await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(ImportError::NotShown(name.into()))
}
