//! Answers as protobuf, to clients that want it: what was answered in JSON, rewritten on its way out.
//!
//! Everything that answers stays free of it, and whoever does not ask pays for one look at a header.
use crate::body::{self, Answer};
use crate::negotiate::{PROTOBUF, ranges};
use api_schema::protobuf;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;

/// On answers that somebody else has made, which are passed on as they are.
#[derive(Clone, Copy)]
pub struct PassedOn;

/// What a client wants that wants protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether it takes JSON for what has no protobuf form.
    json_too: bool,
}

/// Whether protobuf is what the client wants most.
pub fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let told = headers.get_all(header::ACCEPT).iter().any(|value| value.as_bytes().windows(PROTOBUF.len()).any(|part| part == PROTOBUF.as_bytes()));
    if !told {
        return None;
    }
    let ranges = ranges(headers);
    let kind = |range: &str| range.split(';').next().unwrap_or_default().trim().to_owned();
    let first = ranges.iter().map(|(range, _)| kind(range)).find(|kind| kind == PROTOBUF || is_json(kind))?;
    let json_too = ranges.iter().any(|(range, _)| is_json(&kind(range)));
    (first == PROTOBUF).then_some(Wanted { json_too })
}

fn is_json(kind: &str) -> bool {
    matches!(kind, "application/json" | "application/*" | "*/*")
}

/// The answer in protobuf, if it is a document that has such a form.
pub async fn rewritten(answer: Answer, wanted: Wanted, watch: bool) -> Answer {
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !is_json || answer.extensions().get::<PassedOn>().is_some() || answer.headers().contains_key(header::ETAG) {
        return answer;
    }
    let streams = watch && answer.status() == StatusCode::OK;
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    if streams {
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch"));
        let mut rest = BytesMut::new();
        let frames = body.into_data_stream().map(move |piece| piece.map(|piece| Frame::data(frames(&mut rest, &piece))));
        return Answer::from_parts(parts, StreamBody::new(frames).boxed_unsync());
    }
    let whole = match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) => return body::failure(&api_meta::Status::internal(error)),
    };
    let value: Value = serde_json::from_slice(&whole).unwrap_or_default();
    // What was refused, and what is no object of the API, is told in any form.
    let is_custom = parts.status.is_success() && value["apiVersion"].as_str().is_some_and(|version| version.contains('/'));
    match protobuf::write(&value) {
        Some(bytes) => {
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
            Answer::from_parts(parts, body::full(bytes))
        }
        None if is_custom && !wanted.json_too => {
            body::failure(&api_meta::Status::not_acceptable("only the following media types are accepted: application/json, application/yaml"))
        }
        None => Answer::from_parts(parts, body::full(whole)),
    }
}

/// The frames of a watch in a piece of its body. Lines that are not whole wait in `rest`.
fn frames(rest: &mut BytesMut, piece: &Bytes) -> Bytes {
    rest.extend_from_slice(piece);
    let mut out = Vec::with_capacity(rest.len());
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = rest.split_to(end + 1);
        let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
        match protobuf::write_event(event["type"].as_str().unwrap_or_default(), &event["object"]) {
            Some(frame) => out.extend_from_slice(&frame),
            None => tracing::error!(kind = %event["object"]["kind"], "an event has no protobuf form"),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_wanted_by_those_who_name_it_first() {
        let check = |accept: &str, want: Option<bool>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(wanted(&headers).map(|wanted| wanted.json_too), want, "{accept}");
        };
        check("application/vnd.kubernetes.protobuf,application/json", Some(true));
        check("application/vnd.kubernetes.protobuf", Some(false));
        check("application/json,application/vnd.kubernetes.protobuf", None);
        check("application/vnd.kubernetes.protobuf;q=0.5,application/json", None);
        check("application/json", None);
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Some(true),
        );
    }

    #[test]
    fn frames_wait_for_the_rest_of_their_line() {
        let mut rest = BytesMut::new();
        let line = b"{\"type\":\"ADDED\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}}\n";
        assert!(frames(&mut rest, &Bytes::from_static(&line[..20])).is_empty());
        let frame = frames(&mut rest, &Bytes::from_static(&line[20..]));
        assert_eq!(frame[..4], u32::try_from(frame.len() - 4).unwrap().to_be_bytes());
        assert!(rest.is_empty());
    }
}
