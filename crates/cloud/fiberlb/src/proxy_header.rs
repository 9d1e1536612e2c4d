//! The header by which a backend is told who connected: the PROXY protocol, versions 1 and 2. Pure.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
use std::net::SocketAddrV4;

/// What each version 2 header begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const TCP_OVER_IPV4: u8 = 0x11;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProxyProtocol {
    #[serde(rename = "v1")]
    V1,
    #[serde(rename = "v2")]
    V2,
}

/// Who connected, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddrV4,
    pub listener: SocketAddrV4,
}

impl ProxyProtocol {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            _ => None,
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// What is sent first. `None`: a connection of our own, which nobody else is behind.
    pub fn header(self, ends: Option<Ends>) -> Vec<u8> {
        match (self, ends) {
            (Self::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
            (Self::V1, Some(Ends { client, listener })) => {
                format!("PROXY TCP4 {} {} {} {}\r\n", client.ip(), listener.ip(), client.port(), listener.port()).into_bytes()
            }
            (Self::V2, None) => [SIGNATURE, &[0x20, 0, 0, 0]].concat(),
            (Self::V2, Some(Ends { client, listener })) => [
                SIGNATURE,
                &[0x21, TCP_OVER_IPV4, 0, 12],
                &client.ip().octets(),
                &listener.ip().octets(),
                &client.port().to_be_bytes(),
                &listener.port().to_be_bytes(),
            ]
            .concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_the_protocol_has_them() {
        let ends = Ends { client: "192.0.2.7:40000".parse().unwrap(), listener: "198.51.100.1:443".parse().unwrap() };
        assert_eq!(ProxyProtocol::V1.header(Some(ends)), b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n");
        assert_eq!(ProxyProtocol::V1.header(None), b"PROXY UNKNOWN\r\n");
        let address = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0x01, 0xbb];
        let signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
        assert_eq!(ProxyProtocol::V2.header(Some(ends)), [&signature[..], &[0x21, 0x11, 0x00, 0x0c], &address].concat());
        assert_eq!(ProxyProtocol::V2.header(None), [&signature[..], &[0x20, 0x00, 0x00, 0x00]].concat());
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            assert_eq!(ProxyProtocol::parse(version.name()), Some(version));
        }
        assert_eq!(ProxyProtocol::parse("v3"), None);
    }
}
