//! The name that a TLS client asks for, read from the first bytes it sends without answering them. Pure.
//!
//! <https://www.rfc-editor.org/rfc/rfc8446#section-4.1.2>, <https://www.rfc-editor.org/rfc/rfc6066#section-3>

/// So much of a hello is waited for. Clients send some two thousand bytes at most.
pub const LIMIT: usize = 16 << 10;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The beginning of a hello: more bytes are needed.
    Begun,
    /// One that asks for this name, in lower case, or for none.
    Asks(Option<String>),
    /// Nothing that can be read as one.
    Unreadable,
}

pub fn read(bytes: &[u8]) -> Hello {
    match message(bytes) {
        Some(Some(hello)) => name_in(&hello).map_or(Hello::Unreadable, Hello::Asks),
        Some(None) if bytes.len() < LIMIT => Hello::Begun,
        _ => Hello::Unreadable,
    }
}

/// The body of the hello, put together from its records. `Some(None)`: it is not all there; `None`: it is none.
fn message(mut bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut found: Vec<u8> = Vec::new();
    loop {
        if let [kind, a, b, c, body @ ..] = &found[..] {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if *kind != CLIENT_HELLO || length > LIMIT {
                return None;
            }
            if let Some(body) = body.get(..length) {
                return Some(Some(body.to_vec()));
            }
        }
        let record = match bytes {
            [] => return Some(None),
            [kind, ..] if *kind != HANDSHAKE_RECORD => return None,
            [_, major, ..] if *major != 3 => return None,
            [_, _, _, a, b, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*a, *b]));
                if length == 0 || length > LIMIT {
                    return None;
                }
                let (record, rest) = rest.split_at(length.min(rest.len()));
                bytes = rest;
                record
            }
            _ => return Some(None),
        };
        found.extend_from_slice(record);
    }
}

/// The name in a hello's body; `None` when that can't be read.
fn name_in(hello: &[u8]) -> Option<Option<String>> {
    let mut rest = Reader(hello);
    rest.take(2 + 32)?;
    let session = rest.number::<1>()?;
    rest.take(session)?;
    let ciphers = rest.number::<2>()?;
    rest.take(ciphers)?;
    let compressions = rest.number::<1>()?;
    rest.take(compressions)?;
    if rest.0.is_empty() {
        return Some(None);
    }
    let mut extensions = rest.vector::<2>()?;
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number::<2>()?;
        let content = extensions.vector::<2>()?;
        if kind == usize::from(SERVER_NAME) {
            // Whoever reads the other one of two would be asked for another name.
            if name.is_some() {
                return None;
            }
            name = Some(host_name(content)?);
        }
    }
    Some(name)
}

fn host_name(mut content: Reader<'_>) -> Option<String> {
    let mut names = content.vector::<2>()?;
    if names.take(1)? != [HOST_NAME] {
        return None;
    }
    let name = names.vector::<2>()?;
    let is_name = names.0.is_empty() && content.0.is_empty() && !name.0.is_empty() && name.0.iter().all(u8::is_ascii_graphic);
    is_name.then(|| String::from_utf8_lossy(name.0).to_ascii_lowercase())
}

/// What of some bytes was not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
    /// A number of so many bytes.
    fn number<const BYTES: usize>(&mut self) -> Option<usize> {
        Some(self.take(BYTES)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }
    /// What follows its own length, which is a number of so many bytes.
    fn vector<const BYTES: usize>(&mut self) -> Option<Self> {
        let length = self.number::<BYTES>()?;
        self.take(length).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::sync::Arc;

    /// What rustls sends first to a server of this name.
    fn hello(name: &str) -> Vec<u8> {
        let authority = pki::CertificateAuthority::generate("test", &clock::SystemClock).unwrap();
        let config = pki::client_config(authority.certificate_pem(), None).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same bytes in records of so many bytes each.
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let records = hello[5..].chunks(size).map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE_RECORD, 3, 1, length[0], length[1]][..], part].concat()
        });
        records.collect::<Vec<_>>().concat()
    }

    #[test]
    fn the_name_is_read_once_all_of_the_hello_is_there() {
        let whole = hello("Mine.Example.com");
        let asks = Hello::Asks(Some("mine.example.com".into()));
        assert_eq!(read(&whole), asks);
        assert_eq!(read(&[&whole[..], b"more"].concat()), asks);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Hello::Begun, "{end} bytes");
        }
        for size in [1, 3, 100, 1000] {
            assert_eq!(read(&in_records(&whole, size)), asks, "records of {size}");
        }
        assert_eq!(read(&hello("192.0.2.1")), Hello::Asks(None), "an address is no name");
    }

    #[test]
    fn what_is_no_hello_is_told_from_the_first_byte_that_says_so() {
        let whole = hello("a.example.com");
        let changed = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        for (bytes, what) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), "HTTP"),
            (vec![0x80, 0x2e, 1, 0, 2], "SSL 2"),
            (changed(1, 2), "another version"),
            (changed(5, 2), "another message"),
            (vec![HANDSHAKE_RECORD, 3, 1, 0, 0], "an empty record"),
            (vec![HANDSHAKE_RECORD, 3, 1, 0xff, 0xff], "too long a record"),
            ([&[HANDSHAKE_RECORD, 3, 1, 0x3f, 0xff, CLIENT_HELLO, 1, 0, 0][..], &[0; 64]].concat(), "too long a hello"),
            ([&[HANDSHAKE_RECORD, 3, 1, 0, 12, CLIENT_HELLO, 0, 0, 8][..], &[0; 8]].concat(), "too short a hello"),
            ([22, 3, 1, 0, 1, 1].repeat(LIMIT / 6 + 1), "one that never ends"),
        ] {
            assert_eq!(read(&bytes), Hello::Unreadable, "{what}");
        }
    }

    #[test]
    fn two_names_are_none() {
        let whole = hello("a.example.com");
        let (name, at) = (b"a.example.com", whole.windows(13).position(|part| part == b"a.example.com").unwrap());
        let extension = &whole[at - 9..at + name.len()];
        // Begins behind all other extensions, with their lengths made right.
        let mut body = [&whole[9..], extension].concat();
        let mut place = 2 + 32;
        for size in [1, 2, 1] {
            let length = body[place..place + size].iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
            place += size + length;
        }
        let extensions = u16::try_from(body.len() - place - 2).unwrap().to_be_bytes();
        body[place..place + 2].copy_from_slice(&extensions);
        let length = u16::try_from(body.len()).unwrap();
        let message = [&[CLIENT_HELLO, 0][..], &length.to_be_bytes(), &body].concat();
        let record = u16::try_from(message.len()).unwrap().to_be_bytes();
        assert_eq!(read(&[&[HANDSHAKE_RECORD, 3, 1, record[0], record[1]][..], &message].concat()), Hello::Unreadable);
    }
}
