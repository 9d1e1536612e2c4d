//! What is asked for by a request, and where it goes.
use super::body::Written;
use super::buffer::Buffer;
use super::client::Client;
use super::framing::Length;
use super::request_head::{RequestHead, slots};
use super::{http2_backend, outgoing};
use crate::access_log::AccessLine;
use crate::backends::Backends;
use crate::metrics::METRICS;
use crate::{BackendProtocol, Pool};
use http::StatusCode;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Instant;

/// What is kept of a request whose head was read.
#[derive(Debug)]
pub(super) struct Asked {
    pub started: Instant,
    pub old: bool,
    pub stays: bool,
    pub to_head: bool,
    pub body: Length,
    /// It may be sent twice.
    pub repeatable: bool,
    /// Its client waits for leave to send the body.
    pub expects: bool,
    pub upgrade: bool,
    pub line: Option<AccessLine>,
}

impl Asked {
    /// Of what could not be read.
    pub fn nothing() -> Self {
        let (started, line) = (Instant::now(), None);
        Self { started, old: false, stays: false, to_head: false, body: Length::None, repeatable: false, expects: false, upgrade: false, line }
    }

    pub fn note(&self, code: u16, backend: Option<SocketAddrV4>) {
        let took = self.started.elapsed();
        METRICS.answered(code, took);
        if let Some(line) = &self.line {
            line.write(code, backend, took);
        }
    }
}

/// Where a request goes, and as what.
#[derive(Debug)]
pub(super) struct Target {
    pub backends: Arc<Backends>,
    pub pool: Arc<Pool>,
    pub message: Message,
}

#[derive(Debug)]
pub(super) enum Message {
    Http1 { head: Buffer, written: Written },
    Http2(Box<http::request::Parts>),
}

impl<S> Client<'_, S> {
    /// What is asked for, and where that goes or why it goes nowhere.
    pub(super) fn read(&self, length: usize) -> Result<(Asked, Result<Target, StatusCode>), StatusCode> {
        let mut slots = slots();
        let head = RequestHead::parse(&self.input.filled()[..length], &mut slots)?;
        let asked = Asked {
            started: Instant::now(),
            old: head.old,
            stays: head.stays(),
            to_head: head.method == "HEAD",
            body: head.body,
            repeatable: head.is_repeatable() && head.body == Length::None && head.upgrade.is_none(),
            expects: head.expects && head.body != Length::None,
            upgrade: head.upgrade.is_some(),
            line: AccessLine::if_wanted(|| AccessLine {
                client: self.arrival.client.ip(),
                method: head.method.into(),
                host: head.authority.into(),
                uri: head.target.clone().into(),
                version: if head.old { http::Version::HTTP_10 } else { http::Version::HTTP_11 },
            }),
        };
        let target = self.target(&head);
        Ok((asked, target))
    }

    fn target(&self, head: &RequestHead<'_, '_>) -> Result<Target, StatusCode> {
        let backends = self.site.backends_for(&head.host, head.path(), self.arrival)?;
        let pool = backends.pool();
        let message = match pool.protocol {
            BackendProtocol::Http1 => {
                let mut out = Buffer::default();
                let written = outgoing::request(head, &self.told, &mut out);
                Message::Http1 { head: out, written }
            }
            BackendProtocol::Http2 => Message::Http2(Box::new(http2_backend::request(head, self.arrival)?)),
        };
        Ok(Target { backends, pool, message })
    }
}
