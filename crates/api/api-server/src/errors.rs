//! Store errors as the Status a client understands.
use api_meta::{Status, StatusCause};
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

/// A list's `continue` token that is too old gets a message of its own.
pub fn from_store_in_list(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => Status::gone(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        ),
        error => from_store(error),
    }
}

/// Options that contradict each other: upstream's `ListOptions.meta.k8s.io "" is invalid`.
pub fn list_options(field: &str, message: &str) -> Status {
    let mut status = Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: {message}"));
    let details = status.details.get_or_insert_default();
    details.group = "meta.k8s.io".into();
    details.kind = "ListOptions".into();
    details.causes = vec![StatusCause { reason: "FieldValueForbidden".into(), message: message.into(), field: field.into() }];
    status
}
