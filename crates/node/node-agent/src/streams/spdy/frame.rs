//! Frames: SPDY's units on the wire.
use super::SpdyError;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// One frame. Header blocks are still compressed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        /// The sender will send nothing more on it.
        fin: bool,
        headers: Bytes,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    GoAway {
        last_stream: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    /// A control frame that changes nothing here: SETTINGS, WINDOW_UPDATE, and what later drafts add.
    Other {
        kind: u16,
    },
}

/// The longest frame body, as its length has 24 bits.
pub const MAX_LENGTH: usize = 0xff_ffff;
const HEADER_LENGTH: usize = 8;
const VERSION: u16 = 3;
const CONTROL: u16 = 0x8000;
const STREAM_ID: u32 = 0x7fff_ffff;
const FIN: u8 = 0x01;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;

impl Frame {
    /// Appends the frame. Data is the caller's to keep within `MAX_LENGTH`; `Other` is not written.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Data { stream, fin, data } => {
                out.put_u32(stream & STREAM_ID);
                put_flags_and_length(out, *fin, data.len());
                out.put_slice(data);
            }
            Self::SynStream { stream, fin, headers } => {
                put_control(out, SYN_STREAM, *fin, 10 + headers.len());
                out.put_u32(stream & STREAM_ID);
                // No associated stream, highest priority, no credential slot.
                out.put_u32(0);
                out.put_u16(0);
                out.put_slice(headers);
            }
            Self::SynReply { stream, fin, headers } => put_stream_headers(out, SYN_REPLY, *stream, *fin, headers),
            Self::Headers { stream, fin, headers } => put_stream_headers(out, HEADERS, *stream, *fin, headers),
            Self::Reset { stream, status } => put_two(out, RST_STREAM, *stream, *status),
            Self::GoAway { last_stream, status } => put_two(out, GO_AWAY, *last_stream, *status),
            Self::Ping(id) => {
                put_control(out, PING, false, 4);
                out.put_u32(*id);
            }
            Self::Other { .. } => {}
        }
    }

    /// Takes the next whole frame from the front; `None` when more bytes are needed.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, SpdyError> {
        if buffer.len() < HEADER_LENGTH {
            return Ok(None);
        }
        let flags_and_length = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
        let length = flags_and_length as usize & MAX_LENGTH;
        if buffer.len() < HEADER_LENGTH + length {
            buffer.reserve(HEADER_LENGTH + length - buffer.len());
            return Ok(None);
        }
        let first = buffer.get_u32();
        let fin = buffer[0] & FIN != 0;
        buffer.advance(4);
        let mut body = buffer.split_to(length).freeze();
        if first & !STREAM_ID == 0 {
            return Ok(Some(Self::Data { stream: first, fin, data: body }));
        }
        let (version, kind) = ((first >> 16) as u16 & !CONTROL, first as u16);
        if version != VERSION {
            return Err(SpdyError::Malformed("its version is not 3"));
        }
        let needed = match kind {
            SYN_STREAM => 10,
            SYN_REPLY | HEADERS | PING => 4,
            RST_STREAM | GO_AWAY => 8,
            _ => 0,
        };
        if body.len() < needed {
            return Err(SpdyError::Malformed("it is too short for its kind"));
        }
        let mut stream_id = || body.get_u32() & STREAM_ID;
        Ok(Some(match kind {
            SYN_STREAM => {
                let stream = stream_id();
                body.advance(6);
                Self::SynStream { stream, fin, headers: body }
            }
            SYN_REPLY => Self::SynReply { stream: stream_id(), fin, headers: body },
            HEADERS => Self::Headers { stream: stream_id(), fin, headers: body },
            RST_STREAM => Self::Reset { stream: stream_id(), status: body.get_u32() },
            GO_AWAY => Self::GoAway { last_stream: stream_id(), status: body.get_u32() },
            PING => Self::Ping(body.get_u32()),
            _ => Self::Other { kind },
        }))
    }
}

fn put_control(out: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    out.put_u16(CONTROL | VERSION);
    out.put_u16(kind);
    put_flags_and_length(out, fin, length);
}

fn put_flags_and_length(out: &mut BytesMut, fin: bool, length: usize) {
    debug_assert!(length <= MAX_LENGTH, "a frame's length has 24 bits");
    out.put_u32(u32::from(if fin { FIN } else { 0 }) << 24 | length as u32 & MAX_LENGTH as u32);
}

fn put_stream_headers(out: &mut BytesMut, kind: u16, stream: u32, fin: bool, headers: &[u8]) {
    put_control(out, kind, fin, 4 + headers.len());
    out.put_u32(stream & STREAM_ID);
    out.put_slice(headers);
}

fn put_two(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    put_control(out, kind, false, 8);
    out.put_u32(first);
    out.put_u32(second);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_however_it_cuts_them() {
        let frames = [
            Frame::SynStream { stream: 1, fin: true, headers: Bytes::from_static(b"abc") },
            Frame::SynReply { stream: 3, fin: false, headers: Bytes::from_static(b"de") },
            Frame::Headers { stream: 3, fin: true, headers: Bytes::new() },
            Frame::Reset { stream: 5, status: 5 },
            Frame::Ping(7),
            Frame::GoAway { last_stream: 9, status: 0 },
            Frame::Data { stream: STREAM_ID, fin: false, data: Bytes::from(vec![7; 70_000]) },
            Frame::Data { stream: 1, fin: true, data: Bytes::new() },
        ];
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        for step in [1, 5, 8192, wire.len()] {
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for chunk in wire.chunks(step) {
                buffer.extend_from_slice(chunk);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames);
        }
    }

    #[test]
    fn unknown_frames_are_passed_over_and_broken_ones_refused() {
        let decode = |bytes: &[u8]| Frame::decode(&mut BytesMut::from(bytes));
        assert_eq!(decode(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1]).unwrap(), Some(Frame::Other { kind: 9 }));
        assert!(decode(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]).is_err());
        assert!(decode(&[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1]).is_err());
    }
}
