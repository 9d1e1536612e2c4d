//! Http1: the lightest client that will do, so that what is measured is the server.
use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One keep-alive connection.
pub struct Http1 {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    /// Empty if the body was not asked for.
    pub body: Vec<u8>,
    pub body_bytes: usize,
}

/// TLS to a port of this machine.
pub async fn connect(port: u16, tls: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let name = "localhost".try_into().expect("it is a host name");
    Ok(TlsConnector::from(tls.clone()).connect(name, stream).await?)
}

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench/1\r\naccept: application/json\r\n").into_bytes();
    if method != "GET" {
        text.extend_from_slice(format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()).as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    text
}

impl Http1 {
    pub async fn connect(port: u16, tls: &Arc<ClientConfig>) -> Result<Self> {
        Ok(Self { stream: connect(port, tls).await?, buffer: vec![0; 64 << 10] })
    }

    /// Sends a request and reads its answer, body and all.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.run(request, true).await
    }

    /// As `exchange`, but lets go of the body as it comes.
    pub async fn drain(&mut self, request: &[u8]) -> Result<Answer> {
        self.run(request, false).await
    }

    async fn run(&mut self, request: &[u8], keep: bool) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut filled = 0;
        let head = loop {
            let count = self.stream.read(&mut self.buffer[filled..]).await?;
            if count == 0 {
                bail!("the server closed the connection");
            }
            let from = filled.saturating_sub(3);
            filled += count;
            if let Some(at) = self.buffer[from..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break from + at + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("the head is no text")?;
        let status: u16 = text.get(9..12).context("the answer has no status")?.parse()?;
        let length = text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")));
        let length: usize = length.with_context(|| format!("the answer has no length: {text}"))?.1.trim().parse()?;
        let mut body = Vec::new();
        if keep {
            body.extend_from_slice(&self.buffer[head..filled]);
        }
        let mut got = filled - head;
        while got < length {
            let count = self.stream.read(&mut self.buffer).await?;
            if count == 0 {
                bail!("the server closed the connection within a body");
            }
            if keep {
                body.extend_from_slice(&self.buffer[..count]);
            }
            got += count;
        }
        Ok(Answer { status, body, body_bytes: length })
    }
}
