//! Store errors as the Status a client understands.
use crate::continue_token::ContinueToken;
use api_meta::{FieldError, Status, StatusCause};
use store::StoreError;

pub fn from_store(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { requested, oldest } => Status::gone(format!("too old resource version: {requested} ({oldest})")),
        StoreError::Future { requested, newest } => {
            let message = format!("Too large resource version: {requested}, current: {newest}");
            let cause = StatusCause { reason: "ResourceVersionTooLarge".into(), message: "Too large resource version".into(), ..StatusCause::default() };
            let mut status = Status::timeout(format!("Timeout: {message}")).with_causes(vec![cause]);
            status.details.get_or_insert_default().retry_after_seconds = Some(1);
            status
        }
        StoreError::Slow => Status::gone("the watcher fell too far behind"),
        StoreError::PreconditionFailed { key, .. } => Status::conflict(
            key.group(),
            key.resource(),
            key.name(),
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        StoreError::Closed => Status::service_unavailable("the server is shutting down"),
        error @ StoreError::Engine(_) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
            Status::internal(error)
        }
    }
}

/// A list that goes on from a moment that is forgotten may go on from now instead; `rest` says from which place.
pub fn from_store_in_list(error: StoreError, rest: Option<ContinueToken>) -> Status {
    match (error, rest) {
        (StoreError::Compacted { .. }, Some(rest)) => {
            let mut status = Status::gone(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            );
            status.continue_token = Some(rest.encode().into());
            status
        }
        (error, _) => from_store(error),
    }
}

/// Options that make no sense: upstream's `ListOptions.meta.k8s.io "" is invalid`.
pub fn options(kind: &str, error: FieldError) -> Status {
    Status::invalid("meta.k8s.io", kind, "", &vec![error])
}

/// A path that is served, but not with this method.
pub fn method_not_allowed() -> Status {
    let mut status = Status::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    status.details = Some(Box::default());
    status
}

/// A body beyond the limit, in bytes.
pub fn too_large(limit: usize) -> Status {
    Status::too_large(format!("Request entity too large: limit is {limit}"))
}
