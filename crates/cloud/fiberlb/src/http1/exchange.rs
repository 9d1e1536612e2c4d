//! An exchange: a request, the backend that is chosen for it, and what the client is answered.
use super::asked::{Asked, Message, Target};
use super::body::{Body, Written};
use super::buffer::Buffer;
use super::client::Client;
use super::framing::Length;
use super::relay::{Down, Relay, Trouble, Up};
use super::request_head::slots;
use super::response_head::ResponseHead;
use super::{http2_backend, outgoing, switched};
use crate::backend_stream::BackendStream;
use crate::backends::{Backends, Busy};
use crate::http_proxy::TRIES;
use crate::http_service::client_address;
use crate::{Pool, http_date};
use http::StatusCode;
use std::net::SocketAddrV4;
use tokio::io::{AsyncRead, AsyncWrite};

/// So many answers before the answer are passed over.
const INFORMATIONS: usize = 16;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has its next request.
    Stays,
    Closes,
    /// It is closed once the client has taken notice.
    Lingers,
    /// It ends in the middle of an answer.
    Breaks,
}

/// How an answer that has begun goes on.
enum Answer {
    /// Its body is yet to come; whether client's and backend's connections have another request then.
    Begun {
        client_stays: bool,
        backend_stays: bool,
    },
    Switched,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<'_, S> {
    /// Serves the request whose head has so many bytes of what was read.
    pub async fn exchange(&mut self, length: usize) -> Next {
        let read = self.read(length);
        self.input.consume(length);
        match read {
            Err(code) => self.refuse_unread(code).await,
            Ok((asked, Err(code))) => self.refuse(&asked, code).await,
            Ok((asked, Ok(target))) => {
                let Target { backends, pool, message } = target;
                match message {
                    Message::Http1 { head, written } => self.lead(&asked, &backends, &pool, Up::new(head, Body::of(asked.body), written)).await,
                    Message::Http2(parts) => http2_backend::lead(self, &asked, &backends, &pool, *parts).await,
                }
            }
        }
    }

    /// Leads the request to one of these backends, and its answer to the client.
    async fn lead(&mut self, asked: &Asked, backends: &Backends, pool: &Pool, mut up: Up) -> Next {
        let (mut tried, mut repeated, mut expects) = (Vec::new(), false, asked.expects);
        loop {
            let backend = if tried.len() < TRIES { backends.pick(client_address(self.arrival.client), &tried) } else { None };
            let Some(backend) = backend else {
                let code = if tried.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
                return self.refuse_begun(asked, code, None).await;
            };
            let busy = Busy::new(&backend);
            let waiting = if asked.upgrade { None } else { backend.idle.take() };
            let fresh = waiting.is_none();
            let mut stream = match waiting {
                Some(stream) => stream,
                None => match backend.open(pool).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::debug!(backend = %backend.at, %error, "a backend takes no connection");
                        tried.push(backend.at);
                        continue;
                    }
                },
            };
            // Who sent some of it already waits for nothing.
            if std::mem::take(&mut expects) && self.input.is_empty() {
                let mut out = Buffer::default();
                out.put(CONTINUE);
                if self.send(&mut out).await.is_err() {
                    return Next::Breaks;
                }
            }
            let mut down = Down::default();
            let answer = {
                let (client, input, patience) = (&mut self.stream, &mut self.input, &mut self.patience);
                let mut relay = Relay { client, input, backend: &mut stream, up: &mut up, down: &mut down, patience };
                answer(&mut relay, asked, pool, backend.at, &*self.site.clock).await
            };
            match answer {
                Ok(Answer::Begun { client_stays, backend_stays }) => return self.finish(stream, up, down, busy, client_stays, backend_stays).await,
                Ok(Answer::Switched) => return self.switch(stream, down, busy).await,
                Err(Trouble::BackendGone) if !up.is_begun() && up.rewind() => {
                    // It has seen nothing. One that was kept may have ended while it waited.
                    if fresh {
                        tried.push(backend.at);
                    }
                }
                Err(Trouble::BackendGone) if asked.repeatable && !repeated && up.rewind() => {
                    tracing::debug!(backend = %backend.at, "a backend hung up");
                    repeated = true;
                }
                Err(trouble) => return self.fail(asked, backend.at, trouble).await,
            }
        }
    }

    /// Leads the rest of an answer to the client.
    async fn finish(&mut self, mut stream: BackendStream, mut up: Up, mut down: Down, busy: Busy, client_stays: bool, backend_stays: bool) -> Next {
        let (client, input, patience) = (&mut self.stream, &mut self.input, &mut self.patience);
        let rest = Relay { client, input, backend: &mut stream, up: &mut up, down: &mut down, patience }.rest().await;
        if let Err(trouble) = rest {
            tracing::debug!(backend = %busy.backend().at, client = %self.arrival.client, ?trouble, "an answer broke off");
            return Next::Breaks;
        }
        // What is there behind an answer was not asked for.
        if backend_stays && up.is_done() && down.input.is_empty() {
            busy.backend().idle.give(stream);
        }
        match (up.is_done(), client_stays) {
            (true, true) => Next::Stays,
            (true, false) if self.input.is_empty() => Next::Closes,
            _ => Next::Lingers,
        }
    }

    async fn switch(&mut self, stream: BackendStream, down: Down, busy: Busy) -> Next {
        if let Err(error) = switched::join(&mut self.stream, &mut self.input, stream, down).await {
            tracing::debug!(%error, backend = %busy.backend().at, "a switched connection ended with an error");
        }
        Next::Breaks
    }

    async fn fail(&mut self, asked: &Asked, backend: SocketAddrV4, trouble: Trouble) -> Next {
        tracing::debug!(%backend, client = %self.arrival.client, ?trouble, "a request was not answered");
        let code = match trouble {
            Trouble::ClientGone => return Next::Breaks,
            Trouble::ClientSlow => StatusCode::REQUEST_TIMEOUT,
            Trouble::BadRequest => StatusCode::BAD_REQUEST,
            Trouble::BackendSlow => StatusCode::GATEWAY_TIMEOUT,
            Trouble::BackendGone | Trouble::BadAnswer => StatusCode::BAD_GATEWAY,
        };
        self.refuse_begun(asked, code, Some(backend)).await
    }

    /// Answers with an error of our own to a request of which only the head was taken. The connection goes on if the body,
    /// which nobody wants, is there.
    async fn refuse(&mut self, asked: &Asked, code: StatusCode) -> Next {
        let (mut body, mut nowhere) = (Body::of(asked.body), Buffer::default());
        let dropped = body.pass(&mut self.input, &mut nowhere, Written::Plain).is_ok() && body.is_done();
        self.send_refusal(code, asked, asked.stays && dropped && code != StatusCode::BAD_REQUEST, None).await
    }

    /// The same once a part of the body may have been taken: where the next request begins nobody knows then.
    pub async fn refuse_begun(&mut self, asked: &Asked, code: StatusCode, backend: Option<SocketAddrV4>) -> Next {
        let stays = asked.stays && asked.body == Length::None && code != StatusCode::BAD_REQUEST;
        self.send_refusal(code, asked, stays, backend).await
    }

    /// Answers to what could not be read.
    pub async fn refuse_unread(&mut self, code: StatusCode) -> Next {
        self.send_refusal(code, &Asked::nothing(), false, None).await
    }

    async fn send_refusal(&mut self, code: StatusCode, asked: &Asked, stays: bool, backend: Option<SocketAddrV4>) -> Next {
        asked.note(code.as_u16(), backend);
        let mut out = Buffer::default();
        http_date::with(&*self.site.clock, |date| outgoing::refusal(code, asked.to_head, asked.old, stays, date, &mut out));
        match self.send(&mut out).await {
            Err(_) => Next::Breaks,
            Ok(()) if stays => Next::Stays,
            Ok(()) => Next::Lingers,
        }
    }
}

/// Sends the request and waits for the head of its answer, which it writes as the client gets it.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    relay: &mut Relay<'_, S>,
    asked: &Asked,
    pool: &Pool,
    backend: SocketAddrV4,
    clock: &dyn clock::Clock,
) -> Result<Answer, Trouble> {
    for _ in 0..INFORMATIONS {
        let length = relay.head(pool.timeout).await?;
        let (up_done, down) = (relay.up.is_done(), &mut *relay.down);
        let mut slots = slots();
        let head = ResponseHead::parse(&down.input.filled()[..length], &mut slots, asked.to_head).map_err(|_| Trouble::BadAnswer)?;
        let answer = match head.code {
            101 => {
                let protocol = head.upgrade().filter(|_| asked.upgrade && up_done).ok_or(Trouble::BadAnswer)?;
                outgoing::switched(&head, protocol, &mut down.out);
                Answer::Switched
            }
            100..200 => {
                down.next_head(length);
                continue;
            }
            _ => {
                // A request that is answered before it has ended may not end any more.
                let stays = asked.stays && up_done;
                let reply = http_date::with(clock, |date| outgoing::answer(&head, asked.old, stays, date, &mut down.out));
                down.written = reply.written;
                down.body = Body::of(head.body);
                Answer::Begun { client_stays: reply.stays, backend_stays: head.stays() }
            }
        };
        asked.note(head.code, Some(backend));
        down.next_head(length);
        return Ok(answer);
    }
    Err(Trouble::BadAnswer)
}
