//! The way of one HTTP/2 request: checked, routed, led to a backend, its answer led back; and of others to HTTP/2 backends.
use crate::access_log::AccessLine;
use crate::backends::{Backend, Backends, Busy};
use crate::header_kind::HeaderKind;
use crate::http_body::{AnswerBody, OutgoingBody, Progress};
use crate::http_service::{Arrival, Site, client_address};
use crate::metrics::METRICS;
use crate::{BackendProtocol, Pool};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::error::Elapsed;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// So many backends are tried for a request that none of them has seen.
pub const TRIES: usize = 3;

/// Leads a request to where the routes say, and its answer back. What fails is answered with an error of our own.
pub async fn serve(request: Request<Incoming>, arrival: Arrival, site: &Site) -> Response<AnswerBody> {
    let started = Instant::now();
    let line = AccessLine::if_wanted(|| AccessLine {
        client: arrival.client.ip(),
        method: request.method().to_string(),
        host: request.uri().host().unwrap_or_default().to_owned(),
        uri: request.uri().to_string(),
        version: request.version(),
    });
    let mut backend = None;
    let response = lead(request, arrival, site, &mut backend).await.unwrap_or_else(refusal);
    METRICS.answered(response.status().as_u16(), started.elapsed());
    if let Some(line) = line {
        line.write(response.status().as_u16(), backend, started.elapsed());
    }
    response
}

/// An answer of our own.
fn refusal(code: StatusCode) -> Response<AnswerBody> {
    let reason = code.canonical_reason().unwrap_or("Error");
    let mut response = Response::new(AnswerBody::text(format!("{} {reason}\n", code.as_u16())));
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

async fn lead(request: Request<Incoming>, arrival: Arrival, site: &Site, served_by: &mut Option<SocketAddrV4>) -> Result<Response<AnswerBody>, StatusCode> {
    let authority = check(&request)?;
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let backends = site.backends_for(&host, request.uri().path(), arrival)?;
    let pool = backends.pool();
    let (mut parts, body) = request.into_parts();
    rewrite(&mut parts, &authority, arrival, pool.protocol);
    lead_on(Request::from_parts(parts, OutgoingBody::of(body)), client_address(arrival.client), &backends, &pool, served_by).await
}

/// Leads a request that is as backends get it to one of these.
pub async fn lead_on(
    mut outgoing: Request<OutgoingBody>,
    client: IpAddr,
    backends: &Backends,
    pool: &Pool,
    served_by: &mut Option<SocketAddrV4>,
) -> Result<Response<AnswerBody>, StatusCode> {
    let (mut tried, mut repeated) = (Vec::new(), false);
    loop {
        let backend = if tried.len() < TRIES { backends.pick(client, &tried) } else { None };
        let Some(backend) = backend else { return Err(if tried.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY }) };
        let busy = Busy::new(&backend);
        // What has no body and may be repeated is kept, for a backend that hangs up without an answer.
        let again = (repeatable(outgoing.method()) && matches!(outgoing.body(), OutgoingBody::Empty)).then(|| copy_of(&outgoing));
        *served_by = Some(backend.at);
        let progress = outgoing.body().progress();
        let sending = send(&backend, pool, outgoing);
        match patiently(pool.timeout, &progress, sending).await {
            Err(_) => return Err(StatusCode::GATEWAY_TIMEOUT),
            Ok(Ok((response, _))) if response.status() == StatusCode::SWITCHING_PROTOCOLS => return Err(StatusCode::BAD_GATEWAY),
            Ok(Ok((response, connection))) => return Ok(answer(response, busy, connection)),
            Ok(Err(Failure::NotSent(request))) => {
                tried.push(backend.at);
                outgoing = *request;
            }
            Ok(Err(Failure::Stale(request))) => outgoing = *request,
            Ok(Err(Failure::Broken(error))) => {
                tracing::debug!(backend = %backend.at, error, "a backend hung up");
                match again.filter(|_| !repeated) {
                    Some(request) => outgoing = request,
                    None => return Err(StatusCode::BAD_GATEWAY),
                }
                repeated = true;
            }
        }
    }
}

/// Waits for an answer to begin. A body that is still on its way has all the time it needs, as long as it moves.
async fn patiently<T>(limit: Duration, progress: &Progress, sending: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::pin!(sending);
    loop {
        let before = progress.pieces();
        match tokio::time::timeout(limit, sending.as_mut()).await {
            Err(_) if progress.pieces() != before => {}
            outcome => return outcome,
        }
    }
}

/// Refuses what different servers could read differently. Gives the authority asked for.
fn check(request: &Request<Incoming>) -> Result<Authority, StatusCode> {
    let headers = request.headers();
    if request.method() == Method::CONNECT || request.method() == Method::TRACE {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let disguised = headers.keys().any(|name| HeaderKind::of(name.as_str()) == HeaderKind::Disguised);
    if disguised || headers.contains_key(TRANSFER_ENCODING) || headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(Authority::try_from(host.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST)?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(StatusCode::BAD_REQUEST),
    };
    let authority = match (request.uri().authority(), named) {
        (Some(asked), Some(named)) if *asked != named => return Err(StatusCode::BAD_REQUEST),
        (Some(asked), _) => asked.clone(),
        (None, Some(named)) => named,
        (None, None) => return Err(StatusCode::BAD_REQUEST),
    };
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let path = request.uri().path();
    let of_the_server = path == "*" && request.method() == Method::OPTIONS;
    if !path.starts_with('/') && !of_the_server {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(authority)
}

fn names<'a>(headers: &'a HeaderMap, header: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(header).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes away what is between neighbours alone, and whatever claims to be said by a proxy.
fn strip(headers: &mut HeaderMap) {
    // A client can't name away what it is told by.
    let named =
        names(headers, &CONNECTION).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).filter(|name| *name != HOST && *name != CONTENT_LENGTH);
    let kinds = headers.keys().filter(|name| {
        !matches!(HeaderKind::of(name.as_str()), HeaderKind::Other | HeaderKind::Host | HeaderKind::ContentLength | HeaderKind::Expect | HeaderKind::Date)
    });
    let gone: Vec<HeaderName> = named.chain(kinds.cloned()).collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Makes the request the one a backend gets.
pub fn rewrite(parts: &mut http::request::Parts, authority: &Authority, arrival: Arrival, protocol: BackendProtocol) {
    let headers = &mut parts.headers;
    let trailers = names(headers, &TE).any(|name| name.eq_ignore_ascii_case("trailers"));
    strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let text = |text: String| HeaderValue::try_from(text).expect("addresses, numbers and authorities are header text");
    // What a client claims here could be anything: there is nobody before us whom backends would have to know.
    headers.insert(FORWARDED_FOR, text(client_address(arrival.client).to_string()));
    headers.insert(REAL_IP, text(client_address(arrival.client).to_string()));
    headers.insert(FORWARDED_HOST, text(authority.to_string()));
    headers.insert(FORWARDED_PORT, text(arrival.port.to_string()));
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if arrival.tls { "https" } else { "http" }));
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    match protocol {
        BackendProtocol::Http1 => {
            headers.insert(HOST, text(authority.to_string()));
            parts.uri = Uri::from(path);
            parts.version = Version::HTTP_11;
        }
        BackendProtocol::Http2 => {
            headers.remove(HOST);
            let uri = Uri::builder().scheme("http").authority(authority.clone()).path_and_query(path).build();
            parts.uri = uri.expect("an authority and a path make a URI");
            parts.version = Version::HTTP_2;
        }
    }
}

/// Methods that may be sent twice (RFC 9110, 9.2.2).
fn repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

fn copy_of(request: &Request<OutgoingBody>) -> Request<OutgoingBody> {
    let mut copy = Request::new(OutgoingBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

enum Failure {
    /// The backend takes no connection: another may have the request.
    NotSent(Box<Request<OutgoingBody>>),
    /// The connection had ended while it waited: the backend may have the request by another.
    Stale(Box<Request<OutgoingBody>>),
    /// It got the request, or some of it.
    Broken(String),
}

type Sent = (Response<Incoming>, Option<http1::SendRequest<OutgoingBody>>);

async fn send(backend: &Arc<Backend>, pool: &Pool, request: Request<OutgoingBody>) -> Result<Sent, Failure> {
    if pool.protocol == BackendProtocol::Http2 {
        return send_http2(backend, pool, request).await;
    }
    let waiting = backend.connections.take();
    let fresh = waiting.is_none();
    let mut connection = match waiting {
        Some(connection) => connection,
        None => match connect_http1(backend, pool).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(backend = %backend.at, error, "a backend takes no connection");
                return Err(Failure::NotSent(Box::new(request)));
            }
        },
    };
    if connection.ready().await.is_err() {
        return Err(if fresh { Failure::NotSent(Box::new(request)) } else { Failure::Stale(Box::new(request)) });
    }
    match connection.try_send_request(request).await {
        Ok(response) => Ok((response, Some(connection))),
        Err(mut error) => match error.take_message() {
            Some(request) if fresh => Err(Failure::NotSent(Box::new(request))),
            Some(request) => Err(Failure::Stale(Box::new(request))),
            None => Err(Failure::Broken(error.error().to_string())),
        },
    }
}

async fn send_http2(backend: &Arc<Backend>, pool: &Pool, mut request: Request<OutgoingBody>) -> Result<Sent, Failure> {
    if pool.tls.is_some() {
        secure(&mut request);
    }
    let mut connection = match backend.connections.shared() {
        Some(connection) => connection,
        None => match connect_http2(backend, pool).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(backend = %backend.at, error, "a backend takes no connection");
                return Err(Failure::NotSent(Box::new(request)));
            }
        },
    };
    match connection.try_send_request(request).await {
        Ok(response) => Ok((response, None)),
        Err(mut error) => match error.take_message() {
            Some(request) => Err(Failure::NotSent(Box::new(request))),
            None => Err(Failure::Broken(error.error().to_string())),
        },
    }
}

async fn connect_http1(backend: &Backend, pool: &Pool) -> Result<http1::SendRequest<OutgoingBody>, String> {
    let stream = backend.open(pool).await.map_err(|error| error.to_string())?;
    let (connection, driver) = http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to a backend ended with an error");
        }
    });
    Ok(connection)
}

/// A request over TLS says so in its `:scheme`.
fn secure(request: &mut Request<OutgoingBody>) {
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTPS);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

async fn connect_http2(backend: &Backend, pool: &Pool) -> Result<http2::SendRequest<OutgoingBody>, String> {
    let stream = backend.open(pool).await.map_err(|error| error.to_string())?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(hyper_util::rt::TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).keep_alive_timeout(Duration::from_secs(10));
    let (connection, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to a backend ended with an error");
        }
    });
    backend.connections.share(connection.clone());
    Ok(connection)
}

/// The backend's answer as the client gets it.
fn answer(response: Response<Incoming>, busy: Busy, connection: Option<http1::SendRequest<OutgoingBody>>) -> Response<AnswerBody> {
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    parts.extensions = http::Extensions::new();
    Response::from_parts(parts, AnswerBody::of(body, busy, connection))
}
