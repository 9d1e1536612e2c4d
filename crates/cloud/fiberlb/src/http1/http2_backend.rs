//! Backends that declare HTTP/2: a request of HTTP/1 goes to them through the HTTP library, and its answer comes back.
use super::asked::Asked;
use super::body::{self, Body, Written};
use super::buffer::{Buffer, SIZE};
use super::client::Client;
use super::exchange::Next;
use super::outgoing;
use super::request_head::RequestHead;
use crate::backends::Backends;
use crate::http_body::{AnswerBody, OutgoingBody, Piece};
use crate::http_service::{Arrival, client_address};
use crate::{BackendProtocol, Pool, http_date, http_proxy};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::request::Parts;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// The request as the HTTP library takes it.
pub(super) fn request(head: &RequestHead<'_, '_>, arrival: Arrival) -> Result<Parts, StatusCode> {
    let bad = StatusCode::BAD_REQUEST;
    if head.upgrade.is_some() {
        return Err(bad);
    }
    let authority = Authority::try_from(head.authority).map_err(|_| bad)?;
    let mut builder = Request::builder().method(head.method).uri(&*head.target);
    for header in head.headers.iter().filter(|header| !header.name.eq_ignore_ascii_case("expect")) {
        builder = builder.header(header.name, header.value);
    }
    let (mut parts, ()) = builder.body(()).map_err(|_| bad)?.into_parts();
    http_proxy::rewrite(&mut parts, &authority, arrival, BackendProtocol::Http2);
    Ok(parts)
}

pub(super) async fn lead<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<'_, S>, asked: &Asked, backends: &Backends, pool: &Pool, parts: Parts) -> Next {
    let mut body = Body::of(asked.body);
    let (sender, receiver) = mpsc::channel(1);
    let outgoing = if body.is_done() { OutgoingBody::Empty } else { OutgoingBody::piped(receiver) };
    let mut served_by = None;
    let answer = {
        let leading = http_proxy::lead_on(Request::from_parts(parts, outgoing), client_address(client.arrival.client), backends, pool, &mut served_by);
        tokio::pin!(leading);
        tokio::select! {
            biased;
            answer = leading.as_mut() => Ok(answer),
            pumped = pump(client, &mut body, sender) => match pumped {
                Ok(()) => Ok(leading.await),
                Err(next) => Err(next),
            },
        }
    };
    match answer {
        Err(Some(code)) | Ok(Err(code)) => client.refuse_begun(asked, code, served_by).await,
        Err(None) => Next::Breaks,
        Ok(Ok(answer)) => {
            asked.note(answer.status().as_u16(), served_by);
            give(client, asked, answer, body.is_done()).await
        }
    }
}

/// Leads a request's body on. `Err` tells what to answer, if there is anybody.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<'_, S>, body: &mut Body, sender: mpsc::Sender<Piece>) -> Result<(), Option<StatusCode>> {
    let mut out = Buffer::default();
    while !body.is_done() {
        body.pass(&mut client.input, &mut out, Written::Plain).map_err(|_| Some(StatusCode::BAD_REQUEST))?;
        if !out.is_empty() {
            let piece = Piece::Data(Bytes::copy_from_slice(out.filled()));
            out.clear();
            if sender.send(piece).await.is_err() {
                return Ok(());
            }
        } else if !body.is_done() {
            match poll_fn(|context| client.input.poll_fill(context, &mut client.stream, SIZE)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(None),
            }
        }
    }
    // Nobody hears it where the answer came first.
    let _ = sender.send(Piece::End).await;
    Ok(())
}

/// Gives the client an answer.
async fn give<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<'_, S>, asked: &Asked, answer: Response<AnswerBody>, whole: bool) -> Next {
    let (parts, mut body) = answer.into_parts();
    let code = parts.status.as_u16();
    let empty = asked.to_head || matches!(code, 204 | 304);
    let length = body.size_hint().exact().filter(|_| !empty);
    let in_chunks = !empty && length.is_none() && !asked.old;
    let stays = asked.stays && whole && (empty || length.is_some() || in_chunks);
    let mut out = Buffer::default();
    outgoing::status(code, "", &mut out);
    for (name, value) in parts.headers.iter().filter(|(name, _)| **name != CONTENT_LENGTH || (asked.to_head || code == 304)) {
        outgoing::line(name.as_str(), value.as_bytes(), &mut out);
    }
    if !parts.headers.contains_key(DATE) {
        http_date::with(&*client.site.clock, |date| outgoing::line("date", date.as_bytes(), &mut out));
    }
    if in_chunks {
        out.put(b"transfer-encoding: chunked\r\n");
    } else if let Some(length) = length {
        outgoing::length_line(length, &mut out);
    }
    outgoing::connection(asked.old, stays, &mut out);
    out.put(b"\r\n");
    let written = if in_chunks { Written::InChunks } else { Written::Plain };
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) if !empty => body::put(&data, &mut out, written),
            // Trailers.
            Ok(_) => continue,
            Err(error) => {
                tracing::debug!(error, "an answer broke off");
                return Next::Breaks;
            }
        }
        if client.send(&mut out).await.is_err() {
            return Next::Breaks;
        }
    }
    if in_chunks {
        out.put(b"0\r\n\r\n");
    }
    match client.send(&mut out).await {
        Err(_) => Next::Breaks,
        Ok(()) if stays => Next::Stays,
        Ok(()) if whole => Next::Closes,
        Ok(()) => Next::Lingers,
    }
}
