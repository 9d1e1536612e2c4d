//! Hook: a real admission webhook over TLS, that answers as a test says and keeps what it was asked.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is sent back: HTTP status and body.
pub type Answer = (u16, Vec<u8>);
type Handler = dyn Fn(&str, &Value) -> Answer + Send + Sync;

pub struct Hook {
    pub port: u16,
    pub ca_pem: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    connections: Arc<AtomicUsize>,
}

impl Hook {
    /// Listens on loopback. The handler gets the path and the AdmissionReview.
    pub fn start(handler: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Self {
        let authority = pki::CertificateAuthority::generate("test webhooks", &clock::SystemClock).unwrap();
        let request = pki::LeafRequest {
            common_name: "hook".into(),
            organizations: Vec::new(),
            dns_names: vec!["hook.default.svc".into()],
            ip_addresses: vec![Ipv4Addr::LOCALHOST.into()],
            server: true,
            client: false,
            validity: Duration::from_secs(3600),
        };
        let leaf = authority.issue(&request, &clock::SystemClock).unwrap();
        let tls = Arc::new(pki::server_config(&leaf.certificate_pem, &leaf.key_pem, &[], &[]).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let connections = Arc::new(AtomicUsize::new(0));
        let handler: Arc<Handler> = Arc::new(handler);
        // They end with the test's process.
        let (asked_by, counted) = (asked.clone(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (tls, handler, asked) = (tls.clone(), handler.clone(), asked_by.clone());
                std::thread::spawn(move || serve(stream, tls, &*handler, &asked));
            }
        });
        Self { port, ca_pem: authority.certificate_pem().to_owned(), asked, connections }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.port)
    }
    /// All (path, review) so far.
    pub fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
    /// How often this path was asked.
    pub fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|(asked, _)| asked == path).count()
    }
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
    /// A webhook for config maps at this path, with more fields laid over it.
    pub fn webhook(&self, name: &str, path: &str, more: &Value) -> Value {
        let mut webhook = json!({
            "name": format!("{name}.example.com"),
            "clientConfig": {"url": self.url(path), "caBundle": STANDARD.encode(&self.ca_pem)},
            "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            // Others' config maps are none of a test's business.
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            webhook[field] = value.clone();
        }
        webhook
    }
}

fn serve(stream: TcpStream, tls: Arc<rustls::ServerConfig>, handler: &Handler, asked: &Mutex<Vec<(String, Value)>>) -> Option<()> {
    let connection = ServerConnection::new(tls).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let path = line.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/').to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).ok()?;
            let Some((name, value)) = header.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let review: Value = serde_json::from_slice(&body).ok()?;
        asked.lock().unwrap().push((path.clone(), review.clone()));
        let (code, body) = handler(&path, &review);
        let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all(head.as_bytes()).ok()?;
        stream.get_mut().write_all(&body).ok()?;
        stream.get_mut().flush().ok()?;
    }
}

/// An answer to a review with these fields in its response.
pub fn respond(review: &Value, response: &Value) -> Answer {
    let mut answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": review["request"]["uid"]}});
    for (field, value) in response.as_object().into_iter().flatten() {
        answer["response"][field] = value.clone();
    }
    (200, answer.to_string().into_bytes())
}

pub fn allow(review: &Value) -> Answer {
    respond(review, &json!({"allowed": true}))
}

pub fn patch(review: &Value, patch: &Value) -> Answer {
    respond(review, &json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())}))
}
