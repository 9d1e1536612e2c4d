//! Content: deletes everything in a namespace, pods first, and counts what is left.
use super::conditions::Outcome;
use crate::discovery::{self, ServedResource};
use controller_kit::{Error, Kit, ObjectKey};
use http::header::{ACCEPT, CONTENT_TYPE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// No more of an object than is looked at: there may be many.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// What is known of an object whose finalizers someone must still see to.
const FINALIZER_ESTIMATE_SECONDS: u64 = 15;

#[derive(Deserialize)]
struct Listed {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ObjectMeta,
}

pub async fn delete_all(kit: &Kit, namespace: &ObjectKey) -> Outcome {
    let mut outcome = Outcome::default();
    let resources = match discovery::served(kit, &namespace.cluster).await {
        Ok((resources, failures)) => {
            outcome.discovery_failures = failures;
            resources
        }
        Err(error) => {
            outcome.discovery_failures.push(error.to_string());
            return outcome;
        }
    };
    let deletable = |resource: &&ServedResource| resource.namespaced && resource.can("delete") && resource.can("list");
    let (pods, others): (Vec<_>, Vec<_>) = resources.iter().filter(deletable).partition(|resource| resource.group.is_empty() && resource.plural == "pods");
    // Pods first: while one runs it may still need its ConfigMaps, Secrets and volumes.
    for resource in pods {
        delete_resource(kit, namespace, resource, &mut outcome).await;
    }
    if !outcome.remaining.is_empty() || !outcome.deletion_failures.is_empty() {
        return outcome;
    }
    for resource in others {
        delete_resource(kit, namespace, resource, &mut outcome).await;
    }
    outcome
}

async fn delete_resource(kit: &Kit, namespace: &ObjectKey, resource: &ServedResource, outcome: &mut Outcome) {
    match try_delete(kit, namespace, resource).await {
        Ok(left) if left.is_empty() => {}
        Ok(left) => {
            outcome.remaining.insert(format!("{}.{}", resource.plural, resource.group), left.len());
            for metadata in left {
                let grace = u64::try_from(metadata.deletion_grace_period_seconds.unwrap_or_default()).unwrap_or_default();
                let finalizers = metadata.finalizers.unwrap_or_default();
                let estimate = if finalizers.is_empty() { grace } else { grace.max(FINALIZER_ESTIMATE_SECONDS) };
                outcome.estimate_seconds = outcome.estimate_seconds.max(estimate);
                for finalizer in finalizers {
                    *outcome.finalizers.entry(finalizer).or_default() += 1;
                }
            }
        }
        Err(error) => outcome.deletion_failures.push(error.to_string()),
    }
}

/// Deletes all objects of a resource; gives those still there.
async fn try_delete(kit: &Kit, namespace: &ObjectKey, resource: &ServedResource) -> Result<Vec<ObjectMeta>, Error> {
    let path = resource.path(&namespace.name);
    if resource.can("deletecollection") {
        if list(kit, namespace, &format!("{path}?limit=1")).await?.is_empty() {
            return Ok(Vec::new());
        }
        delete(kit, namespace, path.clone()).await?;
    } else {
        for metadata in list(kit, namespace, &path).await? {
            delete(kit, namespace, format!("{path}/{}", metadata.name.unwrap_or_default())).await?;
        }
    }
    list(kit, namespace, &path).await
}

async fn list(kit: &Kit, namespace: &ObjectKey, path: &str) -> Result<Vec<ObjectMeta>, Error> {
    let request = http::Request::get(path).header(ACCEPT, METADATA).body(Vec::new()).map_err(|error| Error::Request(Box::new(error)))?;
    match kit.clients().cluster(&namespace.cluster).request::<Listed>(request).await.map_err(Error::from) {
        Ok(listed) => Ok(listed.items.into_iter().map(|item| item.metadata).collect()),
        // Not served (any more), or not listable: nothing we could delete.
        Err(error) if matches!(error.code(), Some(404 | 405)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn delete(kit: &Kit, namespace: &ObjectKey, path: String) -> Result<(), Error> {
    let options = br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#.to_vec();
    let request = http::Request::delete(path).header(ACCEPT, METADATA).header(CONTENT_TYPE, "application/json").body(options);
    let request = request.map_err(|error| Error::Request(Box::new(error)))?;
    match kit.clients().cluster(&namespace.cluster).request::<IgnoredAny>(request).await.map_err(Error::from) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
