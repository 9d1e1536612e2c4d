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

pub fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = json_body(full(bytes));
    *answer.status_mut() = code;
    answer
}

/// 200 with a body that is JSON already.
pub fn json_body(body: Body) -> Answer {
    let mut answer = Response::new(body);
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

/// Upstream's limits: of one warning, once all of them together exceed the second, in characters.
const WARNING_LIMIT: usize = 256;
const WARNINGS_LIMIT: usize = 4096;

/// Adds upstream's Warning headers: `299 - "text"`, each once, cut where there is too much to tell.
pub fn add_warnings(answer: &mut Answer, warnings: &[String]) {
    let total: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let (mut told, mut length) = (std::collections::HashSet::new(), 0);
    for warning in warnings {
        let limit = if total > WARNINGS_LIMIT { WARNING_LIMIT } else { usize::MAX };
        let text: String = warning.chars().filter(|c| !c.is_control() || *c == '\n').map(|c| if c == '\n' { ' ' } else { c }).take(limit).collect();
        length += text.chars().count();
        if length > WARNINGS_LIMIT {
            return;
        }
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if told.insert(text)
            && let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes())
        {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
}

/// The answer to HEAD: what GET would have been answered, but for the body.
pub fn without_body(mut answer: Answer) -> Answer {
    let length = http_body::Body::size_hint(answer.body()).exact();
    *answer.body_mut() = full(Bytes::new());
    if let Some(length) = length {
        answer.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_fit_a_header() {
        let check = |warnings: &[String], want: usize, longest: usize| {
            let mut answer = text(StatusCode::OK, "");
            add_warnings(&mut answer, warnings);
            let values: Vec<_> = answer.headers().get_all(header::WARNING).iter().collect();
            assert_eq!(values.len(), want);
            assert!(values.iter().all(|value| value.len() <= longest), "{values:?}");
        };
        check(&["a \"quoted\" one".into(), "a \"quoted\" one".into(), "größer\nzwei\u{1}".into()], 2, 30);
        check(&["x".repeat(1 << 20)], 1, 300);
        check(&(0..100).map(|n| format!("{n}{}", "y".repeat(500))).collect::<Vec<_>>(), 16, 300);
    }
}
