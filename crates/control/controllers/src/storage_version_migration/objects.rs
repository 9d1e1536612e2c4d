//! Objects of a resource, whatever kind they are: where they stand, and writing them once more as they are.
use super::NAME;
use crate::discovery::{self, ServedResource};
use api_meta::ClusterName;
use controller_kit::{Error, Kit};
use http::{Method, Request, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{GroupResource, ListMeta, ObjectMeta};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// As many at a time as kubectl asks for.
const PAGE: usize = 500;
const METADATA_ALONE: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Deserialize)]
struct Page {
    metadata: ListMeta,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ObjectMeta,
}

/// The resource in its preferred version; `None` when nobody serves it, or what is in it can't be changed.
pub async fn served(kit: &Kit, cluster: &ClusterName, of: &GroupResource) -> Result<Option<ServedResource>, Error> {
    let (all, missing) = discovery::served(kit, cluster).await?;
    let found = all.into_iter().find(|resource| resource.group == of.group && resource.plural == of.resource && resource.can("list") && resource.can("patch"));
    if found.is_none() && !missing.is_empty() {
        return Err(Error::NotYet(missing.join("; ")));
    }
    Ok(found)
}

/// The newest there is of the resource.
pub async fn version(kit: &Kit, cluster: &ClusterName, resource: &ServedResource) -> Result<String, Error> {
    let page = page(kit, cluster, resource, 1, "").await?;
    page.metadata.resource_version.ok_or_else(|| Error::NotYet(format!("a list of {} has no resourceVersion", resource.plural)))
}

/// Writes everything as it is that was last written no later than `up_to`.
pub async fn rewrite(kit: &Kit, cluster: &ClusterName, resource: &ServedResource, up_to: u64) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let page = page(kit, cluster, resource, PAGE, &after).await?;
        for Item { metadata } in page.items {
            let version = metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok());
            if version.is_some_and(|version| version <= up_to) {
                touch(kit, cluster, resource, &metadata).await?;
            }
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// Whether the same may go well if it is tried again.
pub fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Transport(_) | Error::NotYet(_)) || matches!(error.code(), Some(408 | 410 | 429 | 500 | 503 | 504))
}

/// What was changed since then was stored anew, and what is gone needs nothing.
async fn touch(kit: &Kit, cluster: &ClusterName, resource: &ServedResource, metadata: &ObjectMeta) -> Result<(), Error> {
    let place = resource.path(metadata.namespace.as_deref().unwrap_or_default());
    let path = format!("{place}/{}?fieldManager={NAME}", metadata.name.as_deref().unwrap_or_default());
    let patch = json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}});
    let request = Request::builder().method(Method::PATCH).uri(path).header(header::CONTENT_TYPE, "application/merge-patch+json");
    match ask::<Value>(kit, cluster, request, serde_json::to_vec(&patch)?).await {
        Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

async fn page(kit: &Kit, cluster: &ClusterName, resource: &ServedResource, limit: usize, after: &str) -> Result<Page, Error> {
    let path = format!("{}?limit={limit}&continue={after}", resource.path(""));
    ask(kit, cluster, Request::get(path).header(header::ACCEPT, METADATA_ALONE), Vec::new()).await
}

async fn ask<T: DeserializeOwned>(kit: &Kit, cluster: &ClusterName, request: http::request::Builder, body: Vec<u8>) -> Result<T, Error> {
    let request = request.body(body).map_err(|error| Error::Request(Box::new(error)))?;
    Ok(kit.clients().cluster(cluster).request(request).await?)
}
