//! A client's connection: its requests one after another, each answered before the next is looked at.
use super::HEAD_LIMIT;
use super::buffer::Buffer;
use super::exchange::Next;
use super::head::{HeadEnd, LineEnds};
use super::outgoing;
use super::patience::Patience;
use crate::http_service::{Arrival, Site};
use http::StatusCode;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A request's whole head comes in this time, or never.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may wait for its next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// What a client still sends after it was refused is read for so long, and so much of it: to close at once would take the
/// answer away from it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 10;
/// What HTTP/2 begins with.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// What a connection has come to.
pub enum Ended<S> {
    Closed,
    /// The client speaks HTTP/2, and said this much of it.
    Http2 {
        stream: S,
        first: Vec<u8>,
    },
}

pub(super) struct Client<'a, S> {
    pub stream: S,
    pub input: Buffer,
    pub patience: Patience,
    pub arrival: Arrival,
    /// What all backends are told of it.
    pub told: String,
    pub site: &'a Site,
}

/// Serves a client until it goes, fails or has to, or `stopping` while it has nothing under way.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, site: &Site, arrival: Arrival, stopping: CancellationToken) -> Ended<S> {
    let told = outgoing::told(arrival);
    let mut client = Client { stream, input: Buffer::default(), patience: Patience::new(HEAD_TIMEOUT), arrival, told, site };
    let mut stopping = pin!(stopping.cancelled_owned());
    let mut first = true;
    let next = loop {
        let next = match client.next_head(stopping.as_mut()).await {
            Some(Ok(_)) if first && client.input.filled().starts_with(HTTP2) => {
                return Ended::Http2 { first: client.input.filled().to_vec(), stream: client.stream };
            }
            Some(Ok(length)) => client.exchange(length).await,
            Some(Err(code)) => client.refuse_unread(code).await,
            None => Next::Closes,
        };
        if next != Next::Stays {
            break next;
        }
        first = false;
        client.patience.set(IDLE_TIMEOUT);
    };
    if next != Next::Breaks {
        client.close(next == Next::Lingers).await;
    }
    Ended::Closed
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<'_, S> {
    /// How long the next request's head is, once all of it is there, or what to answer to something else.
    async fn next_head(&mut self, mut stopping: Pin<&mut WaitForCancellationFutureOwned>) -> Option<Result<usize, StatusCode>> {
        let mut end = HeadEnd::default();
        let mut begun = !self.input.is_empty();
        if begun {
            self.patience.set(HEAD_TIMEOUT);
        }
        poll_fn(|context| {
            loop {
                match end.find(self.input.filled(), LineEnds::Strict) {
                    Ok(Some(length)) => return Poll::Ready(Some(Ok(length))),
                    Err(_) => return Poll::Ready(Some(Err(StatusCode::BAD_REQUEST))),
                    Ok(None) if self.input.len() >= HEAD_LIMIT => return Poll::Ready(Some(Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))),
                    Ok(None) => {}
                }
                match self.input.poll_fill(context, &mut self.stream, HEAD_LIMIT) {
                    Poll::Ready(Ok(1..)) if !begun => {
                        begun = true;
                        self.patience.set(HEAD_TIMEOUT);
                    }
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Pending => return self.poll_wait(context, begun, stopping.as_mut()),
                }
            }
        })
        .await
    }

    fn poll_wait(
        &mut self,
        context: &mut Context<'_>,
        begun: bool,
        stopping: Pin<&mut WaitForCancellationFutureOwned>,
    ) -> Poll<Option<Result<usize, StatusCode>>> {
        if !begun && stopping.poll(context).is_ready() {
            return Poll::Ready(None);
        }
        ready!(self.patience.poll(context));
        Poll::Ready(begun.then_some(Err(StatusCode::REQUEST_TIMEOUT)))
    }

    /// Writes out all of a buffer.
    pub async fn send(&mut self, out: &mut Buffer) -> std::io::Result<()> {
        self.patience.set(HEAD_TIMEOUT);
        poll_fn(|context| {
            if let Poll::Ready(outcome) = self.poll_send(context, out) {
                return Poll::Ready(outcome);
            }
            ready!(self.patience.poll(context));
            Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    fn poll_send(&mut self, context: &mut Context<'_>, out: &mut Buffer) -> Poll<std::io::Result<()>> {
        ready!(out.poll_drain(context, &mut self.stream))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ends the connection so that the client gets all that was said.
    async fn close(mut self, linger: bool) {
        let ending = async {
            self.stream.shutdown().await?;
            let (mut rest, mut count) = (vec![0; 4096], 0);
            while linger && count < LINGER_BYTES {
                match self.stream.read(&mut rest).await? {
                    0 => break,
                    more => count += more,
                }
            }
            Ok::<(), std::io::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(LINGER, ending).await {
            tracing::trace!(%error, "a client was gone before its connection was closed");
        }
    }
}
