//! A client's SPDY connection: streams it opens, bytes it sends and hears on them.
use super::{Frame, HeaderReader, HeaderWriter, SpdyError};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What the peer did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It accepted a stream.
    Opened { stream: u32 },
    /// It sent bytes; `end` when they are the stream's last.
    Data { stream: u32, data: Bytes, end: bool },
    /// It gave a stream up: nothing more comes on it.
    Reset { stream: u32, status: u32 },
}

/// The side that hears. Read it until it ends, as it also answers pings.
pub struct Incoming<Io> {
    io: ReadHalf<Io>,
    buffer: BytesMut,
    headers: HeaderReader,
    replies: mpsc::UnboundedSender<Frame>,
}

/// The side that sends. Dropping it ends the connection.
pub struct Outgoing {
    frames: mpsc::Sender<Frame>,
    headers: HeaderWriter,
    next_stream: u32,
    writer: AbortHandle,
}

/// Frames that may wait to be written; then the sender waits, and so does whoever it reads from.
const QUEUED_FRAMES: usize = 8;
const READ_SIZE: usize = 64 * 1024;

/// Starts a connection over a stream that has just been upgraded to SPDY/3.1.
pub fn open<Io: AsyncRead + AsyncWrite + Send + 'static>(io: Io) -> (Incoming<Io>, Outgoing) {
    let (reader, writer) = tokio::io::split(io);
    let (frames, queued) = mpsc::channel(QUEUED_FRAMES);
    // Answers to pings are written past the queue: the reader must never wait for the writer.
    let (replies, queued_replies) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_frames(writer, queued, queued_replies)).abort_handle();
    let incoming = Incoming { io: reader, buffer: BytesMut::new(), headers: HeaderReader::default(), replies };
    (incoming, Outgoing { frames, headers: HeaderWriter::default(), next_stream: 1, writer })
}

impl<Io: AsyncRead> Incoming<Io> {
    /// The next event; `None` once the peer closed the connection. Not to be dropped halfway by a caller that goes on.
    pub async fn next(&mut self) -> Result<Option<Event>, SpdyError> {
        loop {
            while let Some(frame) = Frame::decode(&mut self.buffer)? {
                if let Some(event) = self.heed(frame)? {
                    return Ok(Some(event));
                }
            }
            self.buffer.reserve(READ_SIZE);
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(SpdyError::Malformed("it is cut off")) };
            }
        }
    }

    fn heed(&mut self, frame: Frame) -> Result<Option<Event>, SpdyError> {
        Ok(match frame {
            Frame::Data { stream, fin, data } => Some(Event::Data { stream, data, end: fin }),
            Frame::Reset { stream, status } => Some(Event::Reset { stream, status }),
            Frame::SynReply { stream, fin, headers } => {
                // Read even if unused, as later blocks build on it.
                self.headers.read(&headers)?;
                Some(if fin { Event::Data { stream, data: Bytes::new(), end: true } } else { Event::Opened { stream } })
            }
            Frame::Headers { stream, fin, headers } => {
                self.headers.read(&headers)?;
                fin.then_some(Event::Data { stream, data: Bytes::new(), end: true })
            }
            // A client's pings have odd numbers; those would be answers to ours, and we send none.
            Frame::Ping(id) if id % 2 == 0 => {
                // An error only says that the connection is going.
                let _ = self.replies.send(Frame::Ping(id));
                None
            }
            Frame::SynStream { stream, headers, .. } => {
                self.headers.read(&headers)?;
                // Servers open no streams to their clients here: refuse it.
                let _ = self.replies.send(Frame::Reset { stream, status: REFUSED_STREAM });
                None
            }
            // Streams that are open go on after GOAWAY until they end.
            Frame::Ping(_) | Frame::GoAway { .. } | Frame::Other { .. } => None,
        })
    }
}

const REFUSED_STREAM: u32 = 3;

impl Outgoing {
    /// Opens a stream with these headers (lower-case names) and gives its id.
    pub async fn open_stream(&mut self, headers: &[(&str, &str)], fin: bool) -> Result<u32, SpdyError> {
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = self.headers.write(headers);
        self.send(Frame::SynStream { stream, fin, headers }).await?;
        Ok(stream)
    }

    /// Sends bytes on a stream; `end` when they are the last.
    pub async fn send_data(&self, stream: u32, mut data: Bytes, end: bool) -> Result<(), SpdyError> {
        const LARGEST: usize = 1 << 20;
        while data.len() > LARGEST {
            self.send(Frame::Data { stream, fin: false, data: data.split_to(LARGEST) }).await?;
        }
        self.send(Frame::Data { stream, fin: end, data }).await
    }

    async fn send(&self, frame: Frame) -> Result<(), SpdyError> {
        self.frames.send(frame).await.map_err(|_| SpdyError::Closed)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

async fn write_frames<Io: AsyncWrite>(mut io: WriteHalf<Io>, mut frames: mpsc::Receiver<Frame>, mut replies: mpsc::UnboundedReceiver<Frame>) {
    let mut buffer = BytesMut::new();
    loop {
        let frame = tokio::select! {
            biased;
            Some(reply) = replies.recv() => reply,
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return,
            },
        };
        frame.encode(&mut buffer);
        // The reader notices a broken connection as well, and tells of it.
        if io.write_all_buf(&mut buffer).await.is_err() || io.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    async fn read_frame(io: &mut DuplexStream, buffer: &mut BytesMut) -> Frame {
        loop {
            if let Some(frame) = Frame::decode(buffer).unwrap() {
                return frame;
            }
            assert_ne!(io.read_buf(buffer).await.unwrap(), 0);
        }
    }

    async fn write_frame(io: &mut DuplexStream, frame: Frame) {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        io.write_all(&wire).await.unwrap();
    }

    #[tokio::test]
    async fn streams_open_carry_bytes_and_end() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut incoming, mut outgoing) = open(ours);
        let (mut buffer, mut reader, mut writer) = (BytesMut::new(), HeaderReader::default(), HeaderWriter::default());
        let stream = outgoing.open_stream(&[("streamtype", "stdin")], false).await.unwrap();
        assert_eq!(outgoing.open_stream(&[("streamtype", "error")], true).await.unwrap(), stream + 2);
        outgoing.send_data(stream, Bytes::from_static(b"in"), true).await.unwrap();
        for (id, kind, ends) in [(1, "stdin", false), (3, "error", true)] {
            let Frame::SynStream { stream, fin, headers } = read_frame(&mut theirs, &mut buffer).await else { panic!("no SYN_STREAM") };
            assert_eq!((stream, fin, reader.read(&headers).unwrap()), (id, ends, vec![("streamtype".to_owned(), kind.to_owned())]));
        }
        assert_eq!(read_frame(&mut theirs, &mut buffer).await, Frame::Data { stream: 1, fin: true, data: Bytes::from_static(b"in") });
        write_frame(&mut theirs, Frame::SynReply { stream: 1, fin: false, headers: writer.write(&[("a", "b")]) }).await;
        write_frame(&mut theirs, Frame::Ping(2)).await;
        write_frame(&mut theirs, Frame::Other { kind: 9 }).await;
        write_frame(&mut theirs, Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"out") }).await;
        write_frame(&mut theirs, Frame::Reset { stream: 3, status: 5 }).await;
        assert_eq!(incoming.next().await.unwrap(), Some(Event::Opened { stream: 1 }));
        assert_eq!(incoming.next().await.unwrap(), Some(Event::Data { stream: 1, data: Bytes::from_static(b"out"), end: false }));
        assert_eq!(incoming.next().await.unwrap(), Some(Event::Reset { stream: 3, status: 5 }));
        assert_eq!(read_frame(&mut theirs, &mut buffer).await, Frame::Ping(2));
        drop(theirs);
        assert_eq!(incoming.next().await.unwrap(), None);
    }
}
