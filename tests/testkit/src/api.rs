//! Api: a plain HTTPS client for one server, that sends exactly what a test says and hides nothing of the answer.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::UnixTime;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Who talks to which server.
#[derive(Clone)]
pub struct Api {
    /// `host:port`.
    address: String,
    /// What paths start with: the cluster's place on the server.
    place: String,
    ca_pem: String,
    tls: Arc<rustls::ClientConfig>,
    token: Option<String>,
    headers: Vec<(String, String)>,
    /// Where connections begin; `None`: in the machine's own network.
    network_namespace: Option<String>,
}

/// The machine's time, and some more, for who looks at certificates.
#[derive(Debug)]
pub struct Ahead(pub Duration);

impl rustls::time_provider::TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = rustls::time_provider::DefaultTimeProvider.current_time()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + self.0))
    }
}

/// One request, built up part by part.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// A connection to a server that is used again and again, for answers whose length is told.
pub struct Connection {
    api: Api,
    stream: Stream,
}

/// An answer whose body is still to come: its code, headers and body.
type Started = (u16, Vec<(String, String)>, Box<dyn Read + Send>);

impl Ask {
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.into(), path: path.into(), ..Self::default() }
    }
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
    #[must_use]
    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", media_type)
    }
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.code, self.text()))
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    /// The texts of the Warning headers.
    pub fn warnings(&self) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == "warning").map(|(_, value)| value.as_str()).collect()
    }
    /// The body of an answer that must be a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.text());
        self.json()
    }
    /// (code, reason, message) of an answer that must be a failure's Status.
    #[track_caller]
    pub fn refusal(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()), "{status}");
        assert_eq!(status["code"], self.code, "{status}");
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        (self.code, text("reason"), text("message"))
    }
}

impl Api {
    /// The identity of a kubeconfig with inlined certificates.
    pub fn of_kubeconfig(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':')).unwrap_or_else(|| panic!("no {name} in {path:?}"));
            line.trim().to_owned()
        };
        let pem = |name: &str| String::from_utf8(STANDARD.decode(field(name)).expect("inlined files are base64")).expect("PEM is text");
        let (ca_pem, certificate, key) = (pem("certificate-authority-data"), pem("client-certificate-data"), pem("client-key-data"));
        let tls = pki::client_config(&ca_pem, Some((&certificate, &key))).expect("the kubeconfig's certificates are good");
        let server = field("server").trim_start_matches("https://").to_owned();
        let (address, place) = server.split_at(server.find('/').unwrap_or(server.len()));
        Self { address: address.to_owned(), place: place.to_owned(), ca_pem, tls: Arc::new(tls), token: None, headers: Vec::new(), network_namespace: None }
    }
    /// A server that shows a certificate of this authority, for one who shows nothing.
    pub fn of_authority(address: &str, ca_pem: &str) -> Self {
        let tls = pki::client_config(ca_pem, None).expect("the authority is good");
        let (address, place, ca_pem) = (address.to_owned(), String::new(), ca_pem.to_owned());
        Self { address, place, ca_pem, tls: Arc::new(tls), token: None, headers: Vec::new(), network_namespace: None }
    }
    /// The same client, whose clock is this much ahead of the machine's when it looks at certificates.
    pub fn ahead(&self, by: Duration) -> Self {
        let mut tls = (*self.tls).clone();
        tls.time_provider = Arc::new(Ahead(by));
        // What was resumed would show no certificate.
        tls.resumption = rustls::client::Resumption::disabled();
        Self { tls: Arc::new(tls), ..self.clone() }
    }
    /// As seen from a network namespace.
    pub fn from_namespace(mut self, name: Option<String>) -> Self {
        self.network_namespace = name;
        self
    }
    /// The same server for one who shows nothing.
    pub fn anonymous(&self) -> Self {
        let tls = pki::client_config(&self.ca_pem, None).expect("the kubeconfig's authority is good");
        Self { tls: Arc::new(tls), token: None, headers: Vec::new(), ..self.clone() }
    }
    /// The same server for one with a bearer token.
    pub fn bearer(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.anonymous() }
    }
    /// The same user on the same server, with paths that start here instead of in their cluster.
    pub fn elsewhere(&self, place: &str) -> Self {
        Self { place: place.to_owned(), ..self.clone() }
    }
    /// With one more header on every request.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut api = self.clone();
        api.headers.push((name.into(), value.into()));
        api
    }
    /// This user acting as another.
    pub fn acting_as(&self, user: &str, groups: &[&str]) -> Self {
        groups.iter().fold(self.with_header("impersonate-user", user), |api, group| api.with_header("impersonate-group", group))
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send(&Ask::new("GET", path))
    }
    pub fn delete(&self, path: &str) -> Reply {
        self.send(&Ask::new("DELETE", path))
    }
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(&Ask::new("POST", path).json(body))
    }
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(&Ask::new("PUT", path).json(body))
    }
    /// `kind`: `json`, `merge`, `strategic-merge`, or `apply`.
    pub fn patch(&self, kind: &str, path: &str, body: &Value) -> Reply {
        let media_type = if kind == "apply" { "application/apply-patch+yaml".to_owned() } else { format!("application/{kind}-patch+json") };
        self.send(&Ask::new("PATCH", path).body(&media_type, body.to_string()))
    }

    #[track_caller]
    pub fn send(&self, ask: &Ask) -> Reply {
        self.try_send(ask).unwrap_or_else(|error| panic!("{} {}: {error}", ask.method, ask.path))
    }
    /// As [`send`](Self::send), for a server that may not be there. Errors: no connection, or one that broke off.
    pub fn try_send(&self, ask: &Ask) -> io::Result<Reply> {
        let (code, headers, mut body) = self.start(ask)?;
        let mut bytes = Vec::new();
        if ask.method != "HEAD" {
            body.read_to_end(&mut bytes)?;
        }
        Ok(Reply { code, headers, body: bytes })
    }

    /// A watch that was accepted; its events come one by one.
    #[track_caller]
    pub fn watch(&self, path: &str) -> Watch {
        self.try_watch(path).unwrap_or_else(|reply| panic!("{path}: {} {}", reply.code, reply.text()))
    }
    /// A watch, or why there is none.
    #[track_caller]
    pub fn try_watch(&self, path: &str) -> Result<Watch, Reply> {
        let (code, headers, mut body) = self.start(&Ask::new("GET", path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        if code == 200 {
            return Ok(Watch { headers, body: BufReader::new(body) });
        }
        let mut text = Vec::new();
        body.read_to_end(&mut text).expect("an error has a body");
        Err(Reply { code, headers, body: text })
    }

    /// Posts one body after the other on one connection, for many small ones; gives the codes.
    #[track_caller]
    pub fn post_all(&self, path: &str, bodies: impl IntoIterator<Item = Value>) -> Vec<u16> {
        let mut connection = self.connection();
        bodies.into_iter().map(|body| connection.send(&Ask::new("POST", path).json(&body)).code).collect()
    }

    /// The certificate that the server shows on a new connection, DER.
    pub fn shown_certificate(&self) -> io::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        let StreamOwned { conn, sock } = stream.get_mut();
        while conn.is_handshaking() {
            conn.complete_io(sock)?;
        }
        let shown = conn.peer_certificates().and_then(|chain| chain.first());
        shown.map(|certificate| certificate.to_vec()).ok_or_else(|| io::Error::other("no certificate was shown"))
    }

    /// Asks for another protocol on the connection, says something in it and gives the answer's code and `heard` bytes of what comes back.
    ///
    /// # Errors
    /// The connection broke off.
    pub fn upgrade(&self, ask: &Ask, say: &[u8], heard: usize) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = self.connect()?;
        stream.get_mut().write_all(&self.request(ask, "Upgrade"))?;
        let (code, _) = head_of(&mut stream)?;
        stream.get_mut().write_all(say)?;
        stream.get_mut().flush()?;
        let mut back = vec![0; heard];
        stream.read_exact(&mut back)?;
        Ok((code, back))
    }

    /// A connection that is kept for many requests.
    #[track_caller]
    pub fn connection(&self) -> Connection {
        Connection { api: self.clone(), stream: self.connect().unwrap_or_else(|error| panic!("{}: {error}", self.address)) }
    }

    fn connect(&self) -> io::Result<Stream> {
        let stream = match &self.network_namespace {
            Some(name) => connect_in(name, &self.address)?,
            None => TcpStream::connect(&self.address)?,
        };
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host).to_owned();
        let name = host.try_into().expect("a host name");
        let connection = ClientConnection::new(self.tls.clone(), name).expect("the configuration is good");
        Ok(BufReader::new(StreamOwned::new(connection, stream)))
    }

    fn request(&self, ask: &Ask, connection: &str) -> Vec<u8> {
        let mut head = format!("{} {}{} HTTP/1.1\r\nhost: {}\r\nconnection: {connection}\r\n", ask.method, self.place, ask.path, self.address);
        let token = self.token.as_ref().map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
        for (name, value) in self.headers.iter().chain(&token).chain(&ask.headers) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !ask.body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", ask.body.len()));
        }
        let mut request = format!("{head}\r\n").into_bytes();
        request.extend_from_slice(&ask.body);
        request
    }

    fn start(&self, ask: &Ask) -> io::Result<Started> {
        let mut stream = self.connect()?;
        stream.get_mut().write_all(&self.request(ask, "close"))?;
        let (code, headers) = head_of(&mut stream)?;
        let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let body: Box<dyn Read + Send> = match (header("transfer-encoding"), header("content-length").and_then(|length| length.parse().ok())) {
            (Some("chunked"), _) => Box::new(Chunked { stream, left: 0, ended: false }),
            (_, Some(length)) => Box::new(stream.take(length)),
            _ => Box::new(stream),
        };
        Ok((code, headers, body))
    }
}

impl Connection {
    #[track_caller]
    pub fn send(&mut self, ask: &Ask) -> Reply {
        self.try_send(ask).unwrap_or_else(|error| panic!("{} {}: {error}", ask.method, ask.path))
    }
    /// Errors: the connection broke off, or the answer is one of no known length.
    pub fn try_send(&mut self, ask: &Ask) -> io::Result<Reply> {
        self.stream.get_mut().write_all(&self.api.request(ask, "keep-alive"))?;
        let (code, headers) = head_of(&mut self.stream)?;
        let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, length)| length.parse().ok());
        let mut body = vec![0; length.ok_or_else(|| io::Error::other("an answer of no known length"))?];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { code, headers, body })
    }
}

/// An answer's code and headers.
fn head_of(stream: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut line = || {
        let mut text = String::new();
        stream.read_line(&mut text)?;
        Ok::<_, io::Error>(text.trim_end().to_owned())
    };
    let status = line()?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| io::Error::other(format!("no HTTP answer: {status:?}")))?;
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((code, headers))
}

/// The body of a `transfer-encoding: chunked` answer.
struct Chunked<R> {
    stream: R,
    left: usize,
    ended: bool,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut line = String::new();
            while line.trim().is_empty() {
                line.clear();
                if self.stream.read_line(&mut line)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            self.ended = self.left == 0;
        }
        if self.ended {
            return Ok(0);
        }
        let most = out.len().min(self.left);
        let count = self.stream.read(&mut out[..most])?;
        self.left -= count;
        Ok(count)
    }
}

/// The events of a watch.
pub struct Watch {
    pub headers: Vec<(String, String)>,
    body: BufReader<Box<dyn Read + Send>>,
}

impl Watch {
    /// The next event as (type, object); panics when none comes.
    #[track_caller]
    pub fn next_event(&mut self) -> (String, Value) {
        self.next().expect("the watch has ended")
    }
    /// The next event in short: `ADDED name`.
    #[track_caller]
    pub fn next_short(&mut self) -> String {
        let (kind, object) = self.next_event();
        format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default())
    }
}

impl Iterator for Watch {
    type Item = (String, Value);

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        self.body.read_line(&mut line).unwrap_or_else(|error| panic!("no event came: {error}"));
        if line.is_empty() {
            return None;
        }
        let mut event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("no event ({error}): {line}"));
        Some((event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take()))
    }
}

/// A connection stays in the network it was made in, whoever uses it.
fn connect_in(namespace: &str, address: &str) -> io::Result<TcpStream> {
    let file = std::fs::File::open(std::path::Path::new("/run/netns").join(namespace))?;
    let address = address.to_owned();
    let connecting = std::thread::spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
        TcpStream::connect(address)
    });
    connecting.join().expect("connecting does not panic")
}
