//! Attachment: waits until a volume is attached to this node.
use crate::error::SetUpError;
use crate::referenced_objects::api_message;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{Api, WatchEvent, WatchParams};
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

/// What the driver said of the attachment when it made it.
pub async fn wait(client: kube::Client, name: &str, volume: &str) -> Result<BTreeMap<String, String>, SetUpError> {
    let waited = tokio::time::timeout(PATIENCE, attached(Api::all(client), name)).await;
    waited.unwrap_or_else(|_| Err(SetUpError::Refused(format!("timed out waiting for external-attacher of CSI driver to attach volume {volume}"))))
}

async fn attached(api: Api<VolumeAttachment>, name: &str) -> Result<BTreeMap<String, String>, SetUpError> {
    let failed = |error: kube::Error| SetUpError::Refused(format!("volume attachment {name} can't be read: {}", api_message(&error)));
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(100);
    loop {
        // From the beginning: what there is comes first, whatever came before.
        let mut events = api.watch(&params, "0").await.map_err(failed)?.boxed();
        while let Some(event) = events.try_next().await.map_err(failed)? {
            let (WatchEvent::Added(attachment) | WatchEvent::Modified(attachment)) = event else { continue };
            if attachment.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let status = attachment.status.unwrap_or_default();
            if status.attached {
                return Ok(status.attachment_metadata.unwrap_or_default());
            }
            if let Some(message) = status.attach_error.and_then(|error| error.message) {
                return Err(SetUpError::Refused(format!("attachment {name} failed: {message}")));
            }
        }
    }
}
