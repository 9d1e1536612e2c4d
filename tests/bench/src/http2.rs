//! Http2: many watches on one connection, read frame by frame with next to no work, so that what is measured is the server.
use anyhow::{Context, Result, bail, ensure};
use rustls::ClientConfig;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What client-go's transport allows a stream and a connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Streams that never end, on one connection.
pub struct Watches {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// What each stream got since its window was last opened, and the line that has not ended.
    streams: HashMap<u32, (u32, Vec<u8>)>,
    received: u32,
}

impl Watches {
    /// Asks for `path` `count` times.
    pub async fn open(port: u16, tls: &Arc<ClientConfig>, path: &str, count: u32) -> Result<Self> {
        let mut stream = crate::http1::connect(port, tls).await?;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "the server does not speak HTTP/2");
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
        frame(&mut out, SETTINGS, 0, 0, &[&INITIAL_WINDOW_SIZE[..], &STREAM_WINDOW.to_be_bytes()].concat());
        frame(&mut out, WINDOW_UPDATE, 0, 0, &CONNECTION_WINDOW.to_be_bytes());
        let mut streams = HashMap::new();
        for number in 0..count {
            let id = number * 2 + 1;
            frame(&mut out, HEADERS, END_STREAM | END_HEADERS, id, &header_block(path));
            streams.insert(id, (0, Vec::new()));
        }
        stream.write_all(&out).await?;
        stream.flush().await?;
        let mut own = Self { stream, buffer: vec![0; 256 << 10], start: 0, end: 0, streams, received: 0 };
        own.until_answered(count).await?;
        Ok(own)
    }

    /// Waits for the headers of every stream.
    async fn until_answered(&mut self, count: u32) -> Result<()> {
        let mut answered = 0;
        while answered < count {
            let (kind, flags, id, payload) = self.next().await?;
            if kind == HEADERS {
                // Static table entry 8: `:status 200`.
                ensure!(self.buffer[payload.clone()].first() == Some(&0x88), "a watch was refused: {:?}", &self.buffer[payload]);
                answered += 1;
            } else {
                self.take(kind, flags, id, payload, &mut |_| {}).await?;
            }
        }
        Ok(())
    }

    /// Hands every line of every stream to `line`, until the connection ends or the caller stops waiting.
    pub async fn read(&mut self, line: &mut impl FnMut(&[u8])) -> Result<()> {
        loop {
            let (kind, flags, id, payload) = self.next().await?;
            self.take(kind, flags, id, payload, line).await?;
        }
    }

    async fn take(&mut self, kind: u8, flags: u8, id: u32, payload: std::ops::Range<usize>, line: &mut impl FnMut(&[u8])) -> Result<()> {
        let mut answer = Vec::new();
        match kind {
            DATA => {
                let length = u32::try_from(payload.len())?;
                let (window, partial) = self.streams.get_mut(&id).context("data of a stream nobody asked for")?;
                let data = &self.buffer[payload];
                let mut rest = data;
                while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                    if partial.is_empty() {
                        line(&rest[..at]);
                    } else {
                        partial.extend_from_slice(&rest[..at]);
                        line(partial);
                        partial.clear();
                    }
                    rest = &rest[at + 1..];
                }
                partial.extend_from_slice(rest);
                *window += length;
                self.received += length;
                if *window > STREAM_WINDOW / 4 {
                    frame(&mut answer, WINDOW_UPDATE, 0, id, &std::mem::take(window).to_be_bytes());
                }
                if self.received > CONNECTION_WINDOW / 4 {
                    frame(&mut answer, WINDOW_UPDATE, 0, 0, &std::mem::take(&mut self.received).to_be_bytes());
                }
                ensure!(flags & END_STREAM == 0, "a watch ended");
            }
            SETTINGS if flags & ACK == 0 => frame(&mut answer, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut answer, PING, ACK, 0, &self.buffer[payload]),
            RST_STREAM | GOAWAY => {
                let text = String::from_utf8_lossy(&self.buffer[payload.clone()]).into_owned();
                bail!("the server ended stream {id} (frame {kind}): {:?} {text:?}", &self.buffer[payload])
            }
            _ => {}
        }
        if !answer.is_empty() {
            self.stream.write_all(&answer).await?;
            self.stream.flush().await?;
        }
        Ok(())
    }

    /// The next frame: kind, flags, stream and where in the buffer its payload is.
    async fn next(&mut self) -> Result<(u8, u8, u32, std::ops::Range<usize>)> {
        const HEAD: usize = 9;
        loop {
            let have = &self.buffer[self.start..self.end];
            if have.len() >= HEAD {
                let length = u32::from_be_bytes([0, have[0], have[1], have[2]]) as usize;
                if have.len() >= HEAD + length {
                    let (kind, flags) = (have[3], have[4]);
                    let id = u32::from_be_bytes([have[5] & 0x7f, have[6], have[7], have[8]]);
                    let payload = self.start + HEAD..self.start + HEAD + length;
                    self.start = payload.end;
                    return Ok((kind, flags, id, payload));
                }
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let count = self.stream.read(&mut self.buffer[self.end..]).await?;
            ensure!(count > 0, "the server closed the connection");
            self.end += count;
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames are small").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// GET over https, with names from HPACK's static table and values as they are.
fn header_block(path: &str) -> Vec<u8> {
    const METHOD_GET: u8 = 0x82;
    const SCHEME_HTTPS: u8 = 0x87;
    const AUTHORITY: u8 = 1;
    const PATH: u8 = 4;
    let mut block = vec![METHOD_GET, SCHEME_HTTPS];
    for (name, value) in [(AUTHORITY, "localhost"), (PATH, path)] {
        block.push(name);
        // A length in a prefix of seven bits, the rest in groups of seven.
        let mut length = value.len();
        if length < 127 {
            block.push(length as u8);
        } else {
            block.push(127);
            length -= 127;
            while length >= 128 {
                block.push(length as u8 & 0x7f | 0x80);
                length >>= 7;
            }
            block.push(length as u8);
        }
        block.extend_from_slice(value.as_bytes());
    }
    block
}
