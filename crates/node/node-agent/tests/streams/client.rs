//! Clients of the server, as the API server and kubectl are.
use crate::stand::Stand;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use pki::Issued;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

pub async fn connect(stand: &Stand, identity: Option<&Issued>) -> Result<SendRequest<Empty<Bytes>>, Failure> {
    let identity = identity.map(|issued| (issued.certificate_pem.as_str(), issued.key_pem.as_str()));
    let tls = pki::client_config(stand.authority.certificate_pem(), identity)?;
    let stream = TcpStream::connect(stand.address).await?;
    let stream = TlsConnector::from(Arc::new(tls)).connect("127.0.0.1".try_into()?, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    // A server that refuses the certificate says so after the client's own handshake is done.
    sender.send_request(request("GET", "/healthz").body(Empty::new())?).await?.into_body().collect().await?;
    sender.ready().await?;
    Ok(sender)
}

pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "node")
}

pub async fn send(stand: &Stand, identity: Option<&Issued>, request: http::request::Builder) -> Response<Incoming> {
    let mut sender = connect(stand, identity).await.unwrap();
    sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap()
}

pub async fn get(stand: &Stand, identity: Option<&Issued>, path: &str) -> (u16, String) {
    read(send(stand, identity, request("GET", path)).await).await
}

pub async fn read(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

/// A WebSocket in the first of these subprotocols, which the server must choose.
pub async fn web_socket(stand: &Stand, path: &str, protocols: &str) -> Socket {
    let request = request("GET", path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocols);
    let response = send(stand, Some(&stand.api_server), request).await;
    if response.status() != 101 {
        panic!("no upgrade of {path}: {:?}", read(response).await);
    }
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(response.headers()["sec-websocket-protocol"], protocols.split(", ").next().unwrap());
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// A connection on which SPDY frames follow.
pub async fn spdy(stand: &Stand, path: &str, protocol: &str) -> TokioIo<Upgraded> {
    let request = request("POST", path).header("connection", "Upgrade").header("upgrade", "SPDY/3.1").header("x-stream-protocol-version", protocol);
    let response = send(stand, Some(&stand.api_server), request).await;
    if response.status() != 101 {
        panic!("no upgrade of {path}: {:?}", read(response).await);
    }
    assert_eq!(response.headers()["x-stream-protocol-version"], protocol);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

pub async fn say(socket: &mut Socket, channel: u8, data: &[u8]) {
    socket.send(Message::binary([&[channel], data].concat())).await.unwrap();
}

/// What came on each channel until the server closed: (stdout, stderr, outcome).
pub async fn hear(socket: &mut Socket) -> (Vec<u8>, String, serde_json::Value) {
    let mut heard: [Vec<u8>; 4] = Default::default();
    while let Some(message) = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("in time") {
        match message.unwrap() {
            Message::Binary(data) => heard[usize::from(data[0])].extend_from_slice(&data[1..]),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                break;
            }
            _ => {}
        }
    }
    let [_, stdout, stderr, outcome] = heard;
    (stdout, String::from_utf8(stderr).unwrap(), serde_json::from_slice(&outcome).unwrap())
}

/// The next message's channel and data, passing over empty ones.
pub async fn next(socket: &mut Socket) -> (u8, Vec<u8>) {
    loop {
        match tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("in time").expect("open").unwrap() {
            Message::Binary(data) if data.len() > 1 => return (data[0], data[1..].to_vec()),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
