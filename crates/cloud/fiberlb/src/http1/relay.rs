//! Relay: one exchange between a client and a backend, both ways at once, with no more than a buffer's worth on its way.
use super::HEAD_LIMIT;
use super::body::{Body, Written};
use super::buffer::Buffer;
use super::head::{HeadEnd, LineEnds};
use super::patience::Patience;
use crate::backend_stream::BackendStream;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// So much of a body is read at once: as much as one record of TLS holds.
const PIECE: usize = 16 << 10;
/// A client or backend that moves nothing for so long, in the middle of a body, is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What ends an exchange before its time.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    ClientGone,
    ClientSlow,
    /// The request's body has no one end.
    BadRequest,
    BackendGone,
    BackendSlow,
    /// The answer is none.
    BadAnswer,
}

/// A request on its way to a backend.
#[derive(Debug)]
pub struct Up {
    /// The head, and what there is of the body.
    out: Buffer,
    sent: usize,
    body: Body,
    written: Written,
    state: UpState,
    /// Whether TLS may hold back some of what was written.
    unflushed: bool,
    /// Whether the backend may have seen any of it.
    begun: bool,
    /// Whether `out` still holds all of it from its beginning on.
    whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpState {
    Going,
    Done,
    /// The backend takes no more of it. It may have answered all the same.
    Failed,
}

impl Up {
    pub fn new(head: Buffer, body: Body, written: Written) -> Self {
        Self { out: head, sent: 0, body, written, state: UpState::Going, unflushed: false, begun: false, whole: true }
    }

    /// Whether all of it has gone.
    pub fn is_done(&self) -> bool {
        self.state == UpState::Done
    }
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Begins anew, if that is possible; says whether it is.
    pub fn rewind(&mut self) -> bool {
        if self.whole {
            (self.sent, self.state, self.unflushed, self.begun) = (0, UpState::Going, false, false);
        }
        self.whole
    }

    fn waits_for_client(&self) -> bool {
        self.state == UpState::Going && self.sent == self.out.len()
    }

    /// Ready whenever something moved.
    fn poll<S: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut S,
        input: &mut Buffer,
        backend: &mut BackendStream,
    ) -> Poll<Result<(), Trouble>> {
        if !self.body.is_done() {
            if self.sent > 0 && self.sent == self.out.len() {
                self.out.clear();
                (self.sent, self.whole) = (0, false);
            }
            if self.body.pass(input, &mut self.out, self.written).is_err() {
                return Poll::Ready(Err(Trouble::BadRequest));
            }
        }
        if self.sent < self.out.len() {
            match ready!(Pin::new(&mut *backend).poll_write(context, &self.out.filled()[self.sent..])) {
                Ok(count @ 1..) => (self.sent, self.unflushed, self.begun) = (self.sent + count, true, true),
                Ok(0) | Err(_) => self.state = UpState::Failed,
            }
            if self.state == UpState::Failed || self.sent < self.out.len() {
                return Poll::Ready(Ok(()));
            }
        }
        if self.unflushed {
            if ready!(Pin::new(backend).poll_flush(context)).is_err() {
                self.state = UpState::Failed;
                return Poll::Ready(Ok(()));
            }
            self.unflushed = false;
            if self.body.is_done() {
                self.state = UpState::Done;
            }
            return Poll::Ready(Ok(()));
        }
        if self.body.is_done() {
            self.state = UpState::Done;
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match ready!(input.poll_fill(context, client, PIECE)) {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Trouble::ClientGone),
        })
    }
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct Down {
    /// From the backend.
    pub input: Buffer,
    end: HeadEnd,
    /// To the client.
    pub out: Buffer,
    pub body: Body,
    pub written: Written,
    unflushed: bool,
}

impl Default for Down {
    fn default() -> Self {
        Self { input: Buffer::default(), end: HeadEnd::default(), out: Buffer::default(), body: Body::Done, written: Written::Plain, unflushed: false }
    }
}

impl Down {
    /// Goes on to the next head, behind one of so many bytes.
    pub fn next_head(&mut self, length: usize) {
        self.input.consume(length);
        self.end = HeadEnd::default();
    }

    /// How long the head is, once it is there.
    fn poll_head(&mut self, context: &mut Context<'_>, backend: &mut BackendStream) -> Poll<Result<usize, Trouble>> {
        loop {
            match self.end.find(self.input.filled(), LineEnds::Tolerant) {
                Ok(Some(length)) => return Poll::Ready(Ok(length)),
                Ok(None) if self.input.len() < HEAD_LIMIT => {}
                Ok(None) | Err(_) => return Poll::Ready(Err(Trouble::BadAnswer)),
            }
            match ready!(self.input.poll_fill(context, backend, HEAD_LIMIT)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(if self.input.is_empty() { Trouble::BackendGone } else { Trouble::BadAnswer })),
            }
        }
    }

    /// Ready whenever something moved, and with true at the end.
    fn poll_body<S: AsyncWrite + Unpin>(&mut self, context: &mut Context<'_>, client: &mut S, backend: &mut BackendStream) -> Poll<Result<bool, Trouble>> {
        if self.body.pass(&mut self.input, &mut self.out, self.written).is_err() {
            return Poll::Ready(Err(Trouble::BadAnswer));
        }
        if !self.out.is_empty() {
            self.unflushed = true;
            let drained = ready!(self.out.poll_drain(context, client));
            return Poll::Ready(drained.map(|()| false).map_err(|_| Trouble::ClientGone));
        }
        if self.body.is_done() {
            return Poll::Ready(ready!(self.poll_flush(context, client)).map(|()| true).map_err(|_| Trouble::ClientGone));
        }
        match self.input.poll_fill(context, backend, PIECE) {
            Poll::Ready(Ok(1..)) => Poll::Ready(Ok(false)),
            Poll::Ready(Ok(0)) => Poll::Ready(self.body.end(&mut self.out, self.written).map(|()| false).map_err(|_| Trouble::BackendGone)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Trouble::BackendGone)),
            Poll::Pending => match self.poll_flush(context, client) {
                Poll::Ready(Err(_)) => Poll::Ready(Err(Trouble::ClientGone)),
                _ => Poll::Pending,
            },
        }
    }

    /// TLS may hold back what was written.
    fn poll_flush<S: AsyncWrite + Unpin>(&mut self, context: &mut Context<'_>, client: &mut S) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(client).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// The two ends, and what is between them.
pub struct Relay<'a, S> {
    pub client: &'a mut S,
    /// What was read of the client.
    pub input: &'a mut Buffer,
    pub backend: &'a mut BackendStream,
    pub up: &'a mut Up,
    pub down: &'a mut Down,
    pub patience: &'a mut Patience,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<'_, S> {
    /// Sends what there is to send, until an answer's head has come. It may take so long, once nothing moves any more.
    pub async fn head(&mut self, limit: Duration) -> Result<usize, Trouble> {
        self.patience.set(limit);
        poll_fn(|context| {
            self.poll_client(context, limit)?;
            if let Poll::Ready(found) = self.down.poll_head(context, self.backend) {
                return Poll::Ready(found);
            }
            ready!(self.patience.poll(context));
            Poll::Ready(Err(if self.up.waits_for_client() { Trouble::ClientSlow } else { Trouble::BackendSlow }))
        })
        .await
    }

    /// Leads the answer to the client: what is written of it, and its body.
    pub async fn rest(&mut self) -> Result<(), Trouble> {
        self.patience.set(BODY_TIMEOUT);
        poll_fn(|context| {
            while let Poll::Ready(moved) = self.down.poll_body(context, self.client, self.backend) {
                if moved? {
                    return Poll::Ready(Ok(()));
                }
                self.patience.set(BODY_TIMEOUT);
            }
            self.poll_client(context, BODY_TIMEOUT)?;
            ready!(self.patience.poll(context));
            Poll::Ready(Err(if self.down.out.is_empty() { Trouble::BackendSlow } else { Trouble::ClientSlow }))
        })
        .await
    }

    /// Leads on what the client sends; behind its request, notes when it goes.
    fn poll_client(&mut self, context: &mut Context<'_>, limit: Duration) -> Result<(), Trouble> {
        while self.up.state == UpState::Going {
            match self.up.poll(context, self.client, self.input, self.backend) {
                Poll::Ready(moved) => moved?,
                Poll::Pending => return Ok(()),
            }
            self.patience.set(limit);
        }
        if self.input.is_empty() && matches!(self.input.poll_fill(context, self.client, PIECE), Poll::Ready(Ok(0) | Err(_))) {
            return Err(Trouble::ClientGone);
        }
        Ok(())
    }
}
