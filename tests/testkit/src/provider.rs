//! Provider: a small OpenID Connect provider over HTTPS, at which a test says who is logged in.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clock::{Clock, SystemClock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pki::{CertificateAuthority, LeafRequest, SigningKey};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The one client that it knows.
pub const CLIENT_ID: &str = "k8shost";

pub struct Provider {
    pub issuer: String,
    pub authority_pem: String,
    state: Arc<Mutex<State>>,
}

struct State {
    key: SigningKey,
    /// Who is logged in: further claims of their tokens.
    user: Value,
    /// Codes that were given out, with the request each was given for.
    codes: HashMap<String, HashMap<String, String>>,
    /// Whether the user has typed in the device's code.
    approved: bool,
}

impl Provider {
    /// Starts it on a port of its own, for as long as the process runs.
    pub fn start() -> Self {
        let authority = CertificateAuthority::generate("provider", &SystemClock).expect("an authority");
        let request = LeafRequest {
            common_name: "provider".into(),
            organizations: vec![],
            dns_names: vec!["localhost".into()],
            ip_addresses: vec![Ipv4Addr::LOCALHOST.into()],
            server: true,
            client: false,
            validity: Duration::from_secs(24 * 3600),
        };
        let issued = authority.issue(&request, &SystemClock).expect("a certificate");
        let tls = Arc::new(pki::server_config(&issued.certificate_pem, &issued.key_pem, &[], &[b"http/1.1"]).expect("a server's TLS"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let issuer = format!("https://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let state = State { key: SigningKey::generate().expect("a key"), user: Value::Null, codes: HashMap::new(), approved: false };
        let state = Arc::new(Mutex::new(state));
        let (serving, base) = (state.clone(), issuer.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, state, base) = (tls.clone(), serving.clone(), base.clone());
                // A client that breaks off concerns nobody but itself.
                std::thread::spawn(move || drop(serve(stream, tls, &state, &base)));
            }
        });
        Self { issuer, authority_pem: authority.certificate_pem().to_owned(), state }
    }

    /// Who is logged in at it from now on.
    pub fn log_in(&self, subject: &str, email: &str, verified: bool) {
        self.state.lock().expect("no holder of this lock panics").user = json!({"sub": subject, "email": email, "email_verified": verified});
    }

    /// The user types in the code of a device.
    pub fn approve(&self) {
        self.state.lock().expect("no holder of this lock panics").approved = true;
    }

    /// Signs with another key from now on.
    pub fn rotate(&self) {
        self.state.lock().expect("no holder of this lock panics").key = SigningKey::generate().expect("a key");
    }

    /// A token of its making, with these claims instead of or besides the usual.
    pub fn token(&self, claims: &Value) -> String {
        self.state.lock().expect("no holder of this lock panics").token(&self.issuer, claims)
    }
}

impl State {
    fn token(&self, issuer: &str, more: &Value) -> String {
        let now = SystemClock.now().as_second();
        let mut claims = json!({"iss": issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "jti": clock::random_suffix(12)});
        for (name, value) in [&self.user, more].into_iter().filter_map(Value::as_object).flatten() {
            claims[name] = value.clone();
        }
        let header = Header { kid: Some(self.key.key_id()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.key.pem().as_bytes()).expect("a key");
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    }

    /// The code, further headers and JSON that answer a request.
    fn answer(&mut self, issuer: &str, method: &str, path: &str, fields: &HashMap<String, String>) -> (u16, String, Value) {
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let ok = |body: Value| (200, String::new(), body);
        let refused = |error: &str| (400, String::new(), json!({ "error": error }));
        match (method, path) {
            // The second is for those who are told where to look.
            ("GET", "/.well-known/openid-configuration" | "/elsewhere") => ok(json!({
                "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
                "device_authorization_endpoint": format!("{issuer}/device"), "jwks_uri": format!("{issuer}/jwks"),
            })),
            ("GET", "/jwks") => {
                let (x, y) = self.key.coordinates();
                ok(json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key.key_id(), "x": x, "y": y}]}))
            }
            ("GET", "/authorize") => {
                let good = field("response_type") == "code" && field("client_id") == CLIENT_ID && field("code_challenge_method") == "S256";
                if !good || !field("scope").split(' ').any(|scope| scope == "openid") {
                    return refused("invalid_request");
                }
                let code = clock::random_suffix(24);
                self.codes.insert(code.clone(), fields.clone());
                (302, format!("location: {}?code={code}&state={}\r\n", field("redirect_uri"), field("state")), Value::Null)
            }
            ("POST", "/device") if field("client_id") == CLIENT_ID => ok(json!({
                "device_code": "device", "user_code": "BCDF-GHJK", "verification_uri": format!("{issuer}/activate"), "expires_in": 600, "interval": 1,
            })),
            ("POST", "/token") if field("grant_type") == "authorization_code" => {
                // A code is good once.
                let Some(asked) = self.codes.remove(field("code")) else { return refused("invalid_grant") };
                let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
                let same = ["client_id", "redirect_uri"].iter().all(|name| asked.get(*name) == fields.get(*name));
                if !same || asked.get("code_challenge") != Some(&proof) {
                    return refused("invalid_grant");
                }
                ok(json!({"token_type": "Bearer", "access_token": "unused", "id_token": self.token(issuer, &json!({"nonce": asked.get("nonce")}))}))
            }
            ("POST", "/token") if field("device_code") == "device" => {
                if !self.approved {
                    return refused("authorization_pending");
                }
                ok(json!({"token_type": "Bearer", "access_token": "unused", "id_token": self.token(issuer, &Value::Null)}))
            }
            _ => (404, String::new(), json!({"error": "not_found"})),
        }
    }
}

fn serve(stream: TcpStream, tls: Arc<rustls::ServerConfig>, state: &Mutex<State>, issuer: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls).map_err(std::io::Error::other)?, stream));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut parts = line.split(' ');
    let (method, target) = (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut fields = fields(query);
    fields.extend(self::fields(&String::from_utf8_lossy(&body)));
    let (code, headers, body) = state.lock().expect("no holder of this lock panics").answer(issuer, &method, path, &fields);
    let body = body.to_string();
    let length = body.len();
    let answer = format!("HTTP/1.1 {code} Answer\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let stream = stream.get_mut();
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// The fields of a query or form.
fn fields(text: &str) -> HashMap<String, String> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut out) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).unwrap_or_default();
                out.push(u8::try_from(digit() * 16 + digit()).unwrap_or_default());
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
