//! Response bodies and the answers every handler gives.
use api_meta::Status;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;
pub type Answer = Response<Body>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of several pieces that are sent one after the other without being joined.
pub fn pieces(pieces: Vec<Bytes>) -> Body {
    let frames = futures::stream::iter(pieces.into_iter().map(|piece| Ok(http_body::Frame::data(piece))));
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

pub fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(bytes));
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub fn json(code: StatusCode, value: &Value) -> Answer {
    json_bytes(code, serde_json::to_vec(value).expect("a value encodes"))
}

pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(text));
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub fn failure(status: &Status) -> Answer {
    let mut answer = json_bytes(StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), status.to_json());
    if let Some(seconds) = status.details.as_ref().and_then(|d| d.retry_after_seconds) {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Adds upstream's Warning headers: `299 - "text"`.
pub fn add_warnings(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
}
