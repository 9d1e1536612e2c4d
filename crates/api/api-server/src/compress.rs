//! Compression: large answers as gzip, to clients that accept it.
use crate::body::{self, Answer, Body};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use std::collections::VecDeque;
use std::io::Write;

/// Upstream's threshold: smaller bodies cost more than they save.
const LEAST: usize = 128 << 10;
/// Upstream's level: the cheapest.
const LEVEL: u32 = 1;

/// Whether `gzip` is among the codings the client accepts.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING);
    all.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|coding| coding.trim() == "gzip")
}

/// The answer, compressed if it is an object's or a list's and large enough.
pub async fn compressed(answer: Answer) -> Answer {
    let is_object = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == "application/json" || value == "application/yaml" || value == crate::negotiate::PROTOBUF);
    let small = answer.body().size_hint().upper().is_some_and(|size| size < LEAST as u64);
    let told_small = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).is_some_and(|size: usize| size < LEAST);
    if !is_object || small || told_small || answer.status() != StatusCode::OK || answer.headers().contains_key(header::CONTENT_ENCODING) {
        return answer;
    }
    let (mut parts, mut body) = answer.into_parts();
    let (mut first, mut size) = (VecDeque::new(), 0);
    while size < LEAST {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    size += data.len();
                    first.push_back(data);
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                break;
            }
            None => return Answer::from_parts(parts, body::full(first.into_iter().flatten().collect::<Bytes>())),
        }
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    let pieces = Pieces { first, body, encoder: Some(encoder) };
    let frames = futures::stream::unfold(pieces, |mut pieces| async move { pieces.next().await.map(|piece| (piece, pieces)) });
    Answer::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}

struct Pieces {
    first: VecDeque<Bytes>,
    body: Body,
    /// `None` once everything has been sent.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Pieces {
    async fn next(&mut self) -> Option<std::io::Result<Frame<Bytes>>> {
        loop {
            let encoder = self.encoder.as_mut()?;
            let data = match self.first.pop_front() {
                Some(data) => Some(data),
                None => match self.body.frame().await {
                    Some(Ok(frame)) => Some(frame.into_data().unwrap_or_default()),
                    Some(Err(error)) => {
                        self.encoder = None;
                        return Some(Err(error));
                    }
                    None => None,
                },
            };
            let out = match data {
                Some(data) => {
                    if let Err(error) = encoder.write_all(&data) {
                        self.encoder = None;
                        return Some(Err(error));
                    }
                    std::mem::take(encoder.get_mut())
                }
                None => match self.encoder.take()?.finish() {
                    Ok(rest) => rest,
                    Err(error) => return Some(Err(error)),
                },
            };
            if !out.is_empty() {
                return Some(Ok(Frame::data(out.into())));
            }
        }
    }
}
