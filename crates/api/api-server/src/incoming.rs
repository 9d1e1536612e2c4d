//! Reading request bodies, within their limit.
use crate::errors;
use api_meta::Status;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use std::pin::pin;
use std::time::Duration;

/// The largest body accepted; upstream's limit.
pub const BODY_LIMIT: usize = 3 << 20;
/// How much of a body that is too large is still taken in, and for how long, so that its sender gets to read the refusal.
const DRAIN_LIMIT: usize = 64 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn read_body<B>(headers: &HeaderMap, incoming: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut incoming = pin!(incoming);
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(BODY_LIMIT));
    loop {
        let data = match incoming.frame().await.map(|frame| frame.map(http_body::Frame::into_data)) {
            None => return Ok(body.freeze()),
            Some(Err(error)) => return Err(Status::bad_request(format!("reading the body failed: {}", error.into()))),
            Some(Ok(Ok(data))) => data,
            // Trailers.
            Some(Ok(Err(_))) => continue,
        };
        if body.len() + data.len() > BODY_LIMIT {
            drain(incoming.as_mut()).await;
            return Err(errors::too_large(BODY_LIMIT));
        }
        body.extend_from_slice(&data);
    }
}

/// Takes in a body that nobody wants, within limits.
pub async fn discard<B: http_body::Body<Data = Bytes>>(incoming: B) {
    if !incoming.is_end_stream() {
        drain(pin!(incoming)).await;
    }
}

/// A connection that is closed on a sender that still sends is reset, and the answer lost with it.
async fn drain<B: http_body::Body<Data = Bytes>>(mut incoming: std::pin::Pin<&mut B>) {
    let reading = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = incoming.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > DRAIN_LIMIT {
                return;
            }
        }
    };
    // Whether it ended or not, the refusal follows.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
}
