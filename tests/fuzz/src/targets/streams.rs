//! Streams: SPDY's frames and headers, and the channels within WebSocket messages.
use bytes::{Bytes, BytesMut};
use node_agent::streams::spdy::{Frame, HeaderReader, HeaderWriter};
use node_agent::streams::web_socket::{PORT_FORWARD, REMOTE_COMMAND};
use tokio_tungstenite::tungstenite::Message;

pub fn frames(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let mut left = buffer.len();
    while let Ok(Some(frame)) = Frame::decode(&mut buffer) {
        assert!(buffer.len() < left, "a frame takes room");
        left = buffer.len();
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        if !matches!(frame, Frame::Other { .. }) {
            assert_eq!(Frame::decode(&mut encoded).ok().flatten(), Some(frame));
        }
    }
}

pub fn frame_examples() -> Vec<Vec<u8>> {
    let headers = HeaderWriter::default().write(&[("streamtype", "stdin")]);
    let frames = [
        Frame::SynStream { stream: 1, fin: false, headers: headers.clone() },
        Frame::SynReply { stream: 1, fin: true, headers: headers.clone() },
        Frame::Headers { stream: 3, fin: false, headers },
        Frame::Data { stream: 1, fin: true, data: Bytes::from_static(b"hello") },
        Frame::Reset { stream: 1, status: 5 },
        Frame::GoAway { last_stream: 3, status: 0 },
        Frame::Ping(7),
    ];
    let mut all = BytesMut::new();
    let mut examples = Vec::new();
    for frame in frames {
        let mut one = BytesMut::new();
        frame.encode(&mut one);
        all.extend_from_slice(&one);
        examples.push(one.to_vec());
    }
    examples.push(all.to_vec());
    examples
}

pub fn headers(bytes: &[u8]) {
    let mut reader = HeaderReader::default();
    let Ok(headers) = reader.read(bytes) else { return };
    // Others may have followed in the same stream of compression, which this one begins anew.
    let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let again = HeaderReader::default().read(&HeaderWriter::default().write(&pairs));
    assert_eq!(again.ok(), Some(headers));
}

pub fn header_examples() -> Vec<Vec<u8>> {
    let of = |headers: &[(&str, &str)]| HeaderWriter::default().write(headers).to_vec();
    vec![of(&[]), of(&[("streamtype", "error")]), of(&[("port", "80"), ("requestid", "0"), (":status", "200 OK")]), of(&[("long", &"x".repeat(5000))])]
}

pub fn web_socket(bytes: &[u8]) {
    for protocol in REMOTE_COMMAND.iter().chain(PORT_FORWARD) {
        protocol.decode(Message::binary(bytes.to_vec()));
        if let Ok(text) = std::str::from_utf8(bytes) {
            protocol.decode(Message::text(text));
        }
    }
}

pub fn web_socket_examples() -> Vec<Vec<u8>> {
    vec![b"\0hello".to_vec(), b"\xff\x00".to_vec(), b"0aGVsbG8=".to_vec(), b"\x04{\"Width\":80,\"Height\":24}".to_vec()]
}
