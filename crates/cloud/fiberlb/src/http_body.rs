//! Bodies that pass through: a request's on its way to a backend, an answer's on its way to the client.
use crate::backends::Busy;
use crate::http_body::Deadline::{Running, Stopped};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Sleep;

/// A client or backend that sends nothing for so long, in the middle of a body, is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A timer that is set only while something is waited for.
#[derive(Debug)]
enum Deadline {
    Stopped,
    Running(Pin<Box<Sleep>>),
}

impl Deadline {
    /// The next frame of a body, or an error once it takes too long.
    fn frame(&mut self, body: &mut Incoming, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            *self = Stopped;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if matches!(self, Stopped) {
            *self = Running(Box::pin(tokio::time::sleep(BODY_TIMEOUT)));
        }
        let Running(timer) = self else { return Poll::Pending };
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err("the body stopped in its middle".into())))
    }
}

/// A request's body.
#[derive(Debug)]
pub enum OutgoingBody {
    Empty,
    Client {
        body: Incoming,
        deadline: Box<ClientDeadline>,
    },
    /// Of a request of HTTP/1.
    Piped {
        pieces: mpsc::Receiver<Piece>,
        ended: bool,
        progress: Progress,
    },
}

/// A part of a body. Without an end it has broken off.
#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    End,
}

/// What is kept of a body on its way.
#[derive(Debug)]
pub struct ClientDeadline {
    deadline: Deadline,
    progress: Progress,
}

/// How many pieces of a body have passed.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicUsize>);

impl Progress {
    pub fn pieces(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl OutgoingBody {
    pub fn of(body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        Self::Client { body, deadline: Box::new(ClientDeadline { deadline: Stopped, progress: Progress::default() }) }
    }

    pub fn piped(pieces: mpsc::Receiver<Piece>) -> Self {
        Self::Piped { pieces, ended: false, progress: Progress::default() }
    }

    /// To look at while it is on its way.
    pub fn progress(&self) -> Progress {
        match self {
            Self::Empty => Progress::default(),
            Self::Piped { progress, .. } => progress.clone(),
            Self::Client { deadline, .. } => deadline.progress.clone(),
        }
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client { body, deadline } => {
                let frame = ready!(deadline.deadline.frame(body, context));
                deadline.progress.0.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(frame)
            }
            Self::Piped { ended: true, .. } => Poll::Ready(None),
            Self::Piped { pieces, ended, progress } => {
                let piece = ready!(pieces.poll_recv(context));
                progress.0.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(match piece {
                    Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                    Some(Piece::End) => {
                        *ended = true;
                        None
                    }
                    None => Some(Err("the client broke off".into())),
                })
            }
        }
    }
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { body, .. } => body.is_end_stream(),
            Self::Piped { ended, .. } => *ended,
        }
    }
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Piped { .. } => SizeHint::default(),
            Self::Client { body, .. } => body.size_hint(),
        }
    }
}

/// An answer's body. It holds the backend's connection, and hands it back when all is read.
#[derive(Debug)]
pub struct AnswerBody {
    kind: Kind,
    deadline: Deadline,
    busy: Option<Busy>,
    connection: Option<http1::SendRequest<OutgoingBody>>,
}

#[derive(Debug)]
enum Kind {
    Text(Bytes),
    Backend(Incoming),
}

impl AnswerBody {
    /// Of our own.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Text(text.into()), deadline: Stopped, busy: None, connection: None }
    }
    pub fn of(body: Incoming, busy: Busy, connection: Option<http1::SendRequest<OutgoingBody>>) -> Self {
        let mut answer = Self { kind: Kind::Backend(body), deadline: Stopped, busy: Some(busy), connection };
        if answer.is_end_stream() {
            answer.finish();
        }
        answer
    }
    fn finish(&mut self) {
        if let (Some(busy), Some(connection)) = (self.busy.take(), self.connection.take()) {
            busy.backend().connections.give(connection);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match &mut this.kind {
            Kind::Text(text) if text.is_empty() => Poll::Ready(None),
            Kind::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Kind::Backend(body) => {
                let frame = ready!(this.deadline.frame(body, context));
                if frame.is_none() || body.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(frame)
            }
        }
    }
    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_empty(),
            Kind::Backend(body) => body.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Backend(body) => body.size_hint(),
        }
    }
}
