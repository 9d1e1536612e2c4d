//! WebSockets: the upgrade, the choice of a subprotocol, and Kubernetes' channels in messages.
use super::error::Refusal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a connection is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeKind {
    WebSocket,
    Spdy,
}

/// How channels are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelProtocol {
    /// As it is negotiated; empty when the client offered none.
    pub name: &'static str,
    /// From 4 on the outcome is a Status as JSON; from 5 on a channel can be closed.
    pub version: u8,
    /// Channels and data are text.
    pub base64: bool,
}

/// One message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelMessage {
    Data { channel: u8, data: Bytes },
    Close { channel: u8 },
}

const fn protocol(name: &'static str, version: u8, base64: bool) -> ChannelProtocol {
    ChannelProtocol { name, version, base64 }
}

/// Those of exec and attach.
pub const REMOTE_COMMAND: &[ChannelProtocol] = &[
    protocol("v5.channel.k8s.io", 5, false),
    protocol("v4.channel.k8s.io", 4, false),
    protocol("v4.base64.channel.k8s.io", 4, true),
    protocol("channel.k8s.io", 1, false),
    protocol("base64.channel.k8s.io", 1, true),
    protocol("", 1, false),
];

/// Those of port-forward, when it does not tunnel SPDY.
pub const PORT_FORWARD: &[ChannelProtocol] =
    &[protocol("v4.channel.k8s.io", 4, false), protocol("v4.base64.channel.k8s.io", 4, true), protocol("portforward.k8s.io", 1, false), protocol("", 1, false)];

/// Port-forward's SPDY bytes inside of binary messages.
pub const TUNNELED_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

const CLOSE_CHANNEL: u8 = 255;
const LARGEST_MESSAGE: usize = 16 << 20;

/// The upgrade a request asks for.
pub fn upgrade_kind(headers: &HeaderMap) -> Option<UpgradeKind> {
    if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let upgrade = headers.get(UPGRADE)?.to_str().ok()?;
    if upgrade.eq_ignore_ascii_case("websocket") {
        Some(UpgradeKind::WebSocket)
    } else {
        upgrade.eq_ignore_ascii_case(super::runtime_stream::SPDY).then_some(UpgradeKind::Spdy)
    }
}

/// The subprotocols a client offers, best first.
pub fn offered(headers: &HeaderMap) -> Vec<String> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect()
}

/// The first offer that is known; a client that offers none speaks the oldest.
pub fn choose(offered: &[String], known: &[ChannelProtocol]) -> Result<ChannelProtocol, Refusal> {
    let find = |name: &str| known.iter().copied().find(|protocol| protocol.name == name);
    let chosen = if offered.is_empty() { find("") } else { offered.iter().find_map(|name| find(name)) };
    chosen.ok_or_else(|| Refusal::bad_request(format!("unable to negotiate a WebSocket protocol: the client offers {offered:?}")))
}

/// The answer to a client's key.
pub fn accept_key(headers: &HeaderMap) -> Result<String, Refusal> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::bad_request("the WebSocket version must be 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Refusal::bad_request("the header Sec-WebSocket-Key is missing"))?;
    Ok(derive_accept_key(key.as_bytes()))
}

/// A socket over a connection that was just upgraded.
pub async fn serve(io: TokioIo<Upgraded>) -> Socket {
    // Small buffers: one socket is one user's terminal.
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

impl ChannelProtocol {
    pub fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            return Message::text(format!("{}{}", char::from(b'0' + channel), STANDARD.encode(data)));
        }
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        Message::binary(message)
    }

    /// `None` for messages that carry nothing.
    pub fn decode(self, message: Message) -> Option<ChannelMessage> {
        let mut data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            _ => return None,
        };
        if data.is_empty() {
            return None;
        }
        let first = data.split_to(1)[0];
        if self.base64 {
            let data = STANDARD.decode(&data).ok()?.into();
            return Some(ChannelMessage::Data { channel: first.checked_sub(b'0')?, data });
        }
        if first == CLOSE_CHANNEL && self.version >= 5 {
            return Some(ChannelMessage::Close { channel: *data.first()? });
        }
        Some(ChannelMessage::Data { channel: first, data })
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn upgrades_are_told_apart() {
        assert_eq!(upgrade_kind(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])), Some(UpgradeKind::WebSocket));
        assert_eq!(upgrade_kind(&headers(&[("connection", "upgrade"), ("upgrade", "SPDY/3.1")])), Some(UpgradeKind::Spdy));
        assert_eq!(upgrade_kind(&headers(&[("upgrade", "websocket")])), None);
        assert_eq!(upgrade_kind(&headers(&[("connection", "upgrade"), ("upgrade", "h2c")])), None);
    }

    #[test]
    fn the_clients_first_known_protocol_is_chosen() {
        let offers = offered(&headers(&[("sec-websocket-protocol", "v9.channel.k8s.io, v4.channel.k8s.io"), ("sec-websocket-protocol", "v5.channel.k8s.io")]));
        assert_eq!(choose(&offers, REMOTE_COMMAND).unwrap().version, 4);
        assert_eq!(choose(&[], REMOTE_COMMAND).unwrap().version, 1);
        assert!(choose(&["odd".into()], REMOTE_COMMAND).is_err());
    }

    #[test]
    fn channels_go_in_and_out_of_messages() {
        let [v5, v4, base64, ..] = REMOTE_COMMAND else { panic!("they are there") };
        let data = ChannelMessage::Data { channel: 1, data: Bytes::from_static(b"ab") };
        for protocol in [v5, v4, base64] {
            assert_eq!(protocol.decode(protocol.encode(1, b"ab")), Some(data.clone()), "{}", protocol.name);
        }
        assert_eq!(base64.encode(1, b"ab"), Message::text("1YWI="));
        assert_eq!(v5.decode(Message::binary(vec![255, 0])), Some(ChannelMessage::Close { channel: 0 }));
        assert_eq!(v5.decode(Message::binary(Vec::new())), None);
        assert_eq!(v5.decode(Message::binary(vec![255])), None);
    }
}
