//! GuardedStream: a client's connection that gives the HTTP library nothing that could be read in two ways.
use crate::request_framing::RequestFraming;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What takes the place of what is refused. No head, chunk or trailer goes on like this, so the library answers 400 where
/// a request had not begun yet, and ends the connection.
const REFUSED: &[u8] = b"\0\r\n\r\n";

pub struct GuardedStream<S> {
    stream: S,
    framing: RequestFraming,
    /// How much of `REFUSED` was given, once something was refused.
    refused: Option<usize>,
}

impl<S> GuardedStream<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, framing: RequestFraming::default(), refused: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.refused.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            match self.framing.follow(&buffer.filled()[before..]) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(passed) => buffer.set_filled(before + passed),
            }
        }
        // Nothing given means the end, which it is after all of it.
        let given = self.refused.unwrap_or(0);
        let part = &REFUSED[given..(given + buffer.remaining()).min(REFUSED.len())];
        buffer.put_slice(part);
        self.refused = Some(given + part.len());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
