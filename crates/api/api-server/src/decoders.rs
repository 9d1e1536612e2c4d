//! What turns a client's bytes into values, open to those who hold it to bytes of any kind.
use crate::continue_token::ContinueToken;
use crate::query::Query;
use crate::route::Route;
use crate::{list_options, negotiate, patch};
use api_meta::Status;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;

/// A request's body of this media type as a JSON text.
///
/// Errors: 415 for a media type that is not known, 400 for a body that is not of it.
pub fn body(media_type: &'static str, body: &Bytes) -> Result<Bytes, Status> {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))]);
    negotiate::body_as_json(&headers, body)
}

/// The configuration in an apply patch.
///
/// Error: 400 if it is not YAML, or no object.
pub fn apply_patch(body: &Bytes) -> Result<Value, Status> {
    patch::read(patch::PatchType::Apply, body)
}

/// Everything that is read from the path and the query of a GET.
///
/// Errors: 400, 404 or 422, of whatever is wrong first.
pub fn request(path: &str, query: &str) -> Result<(), Status> {
    let query = Query::parse(query);
    let (cluster, path) = Route::cluster(path, None)?;
    Route::parse(cluster, &Method::GET, path, &query)?;
    query.labels()?;
    query.fields()?;
    query.timeout()?;
    query.integer("limit")?;
    list_options::snapshot(&query, query.value("continue").is_some())?;
    list_options::start(&query)?;
    Ok(())
}

/// A continue token, decoded and encoded again.
///
/// Error: 400 if it is none.
pub fn continue_token(text: &str) -> Result<String, Status> {
    ContinueToken::decode(text).map(|token| token.encode())
}
