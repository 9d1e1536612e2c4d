//! Port-forward.
use crate::client::{next, spdy, web_socket};
use crate::stand::Stand;
use futures::{SinkExt, StreamExt};
use node_agent::streams::spdy::{Event, open};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

pub async fn ports_are_forwarded_over_every_protocol(stand: &Stand) {
    // The pod is in the machine's own network, and so this listens inside of it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inside = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { stream.write_all(b"welcome").await });
        }
    });
    let path = "/clusters/root/portForward/default/p";
    welcome(spdy(stand, path, "portforward.k8s.io").await, port).await;

    let socket = web_socket(stand, path, "SPDY/3.1+portforward.k8s.io").await;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let pump = tokio::spawn(async move {
        let (mut sink, mut source) = socket.split();
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let out = async {
            let mut buffer = vec![0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                sink.send(Message::binary(buffer[..read].to_vec())).await.unwrap();
            }
        };
        let back = async {
            while let Some(Ok(Message::Binary(data))) = source.next().await {
                writer.write_all(&data).await.unwrap();
            }
        };
        tokio::select! { () = out => {}, () = back => {} }
    });
    welcome(ours, port).await;
    pump.abort();

    let mut socket = web_socket(stand, &format!("{path}?ports={port}"), "v4.channel.k8s.io").await;
    let named = port.to_le_bytes().to_vec();
    assert_eq!(next(&mut socket).await, (0, named.clone()));
    assert_eq!(next(&mut socket).await, (1, named));
    assert_eq!(next(&mut socket).await, (0, b"welcome".to_vec()));
    inside.abort();
}

/// Opens the streams for one connection, as kubectl does, and reads what the server behind the port says.
async fn welcome(io: impl AsyncRead + AsyncWrite + Send + 'static, port: u16) {
    let port = port.to_string();
    let (mut incoming, mut outgoing) = open(io);
    let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", "0")];
    outgoing.open_stream(&headers("error"), true).await.unwrap();
    let data_stream = outgoing.open_stream(&headers("data"), false).await.unwrap();
    let mut said = Vec::new();
    while said.len() < "welcome".len() {
        match incoming.next().await.unwrap().expect("the tunnel stays open") {
            Event::Data { stream, data, .. } if stream == data_stream => said.extend_from_slice(&data),
            Event::Data { data, .. } => assert!(data.is_empty(), "{}", String::from_utf8_lossy(&data)),
            _ => {}
        }
    }
    assert_eq!(said, b"welcome");
}
