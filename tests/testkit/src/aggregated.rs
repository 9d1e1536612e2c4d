//! Aggregated: a sample API server of its own group, as an APIService leads to it.
//!
//! It serves `flowers` of `garden.example.com/v1` and the metrics it was told (custom.metrics.k8s.io, external.metrics.k8s.io)
//! from memory, believes a front proxy's certificate alone, and keeps what it was asked and in whose name.
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GROUP_VERSION: &str = "garden.example.com/v1";

/// One request that came in.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

pub struct Aggregated {
    pub port: u16,
    /// Of the authority that vouches for it.
    pub ca_pem: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    garden: Arc<Mutex<Garden>>,
}

#[derive(Default)]
struct Garden {
    flowers: BTreeMap<String, Value>,
    revision: u64,
    /// By the metric's name: whose values they are, and the values.
    metrics: BTreeMap<String, Vec<(String, String)>>,
}

impl Aggregated {
    /// Listens on loopback as `{service}.{namespace}.svc`; who is not vouched for by `front_proxy_pem` gets no connection.
    ///
    /// # Panics
    /// Where certificates cannot be made or no port is free.
    pub fn start(service: &str, namespace: &str, front_proxy_pem: &str) -> Self {
        let authority = pki::CertificateAuthority::generate("sample api server", &clock::SystemClock).expect("an authority can be made");
        let request = pki::LeafRequest {
            common_name: service.into(),
            organizations: Vec::new(),
            dns_names: vec![format!("{service}.{namespace}.svc")],
            ip_addresses: Vec::new(),
            server: true,
            client: false,
            validity: Duration::from_secs(3600),
        };
        let leaf = authority.issue(&request, &clock::SystemClock).expect("a certificate can be made");
        let tls = pki::server_config(&leaf.certificate_pem, &leaf.key_pem, &[front_proxy_pem], &[]).expect("the certificates are good");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (asked, own, tls) = (Arc::default(), Arc::new(Mutex::new(Garden::default())), Arc::new(tls));
        let garden = Arc::clone(&own);
        let kept: Arc<Mutex<Vec<Asked>>> = Arc::clone(&asked);
        // They end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, garden, asked) = (Arc::clone(&tls), Arc::clone(&garden), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, tls, &garden, &asked));
            }
        });
        Self { port, ca_pem: authority.certificate_pem().to_owned(), asked, garden: own }
    }

    /// From now on the metric has these values, of these objects; "" is nobody's.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub fn measure(&self, metric: &str, values: &[(&str, &str)]) {
        let values = values.iter().map(|(of, value)| ((*of).to_owned(), (*value).to_owned())).collect();
        self.garden.lock().expect("no holder panics").metrics.insert(metric.to_owned(), values);
    }

    /// Everything asked so far.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

fn serve(stream: TcpStream, tls: Arc<rustls::ServerConfig>, garden: &Mutex<Garden>, asked: &Mutex<Vec<Asked>>) -> Option<()> {
    let connection = ServerConnection::new(tls).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).ok()?;
            let Some((name, value)) = header.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let body = match header("content-length") {
            Some(length) => {
                let mut body = vec![0; length.parse().ok()?];
                stream.read_exact(&mut body).ok()?;
                body
            }
            None if header("transfer-encoding").is_some() => chunks(&mut stream)?,
            None => Vec::new(),
        };
        let upgrade = header("upgrade").map(str::to_owned);
        asked.lock().ok()?.push(Asked { method: method.clone(), path: path.clone(), headers });
        if let Some(protocol) = upgrade {
            // From here on it says back in capitals what it hears.
            let head = format!("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\r\n");
            stream.get_mut().write_all(head.as_bytes()).ok()?;
            stream.get_mut().flush().ok()?;
            let mut byte = [0];
            while stream.read(&mut byte).ok()? > 0 {
                stream.get_mut().write_all(&byte.map(|byte| byte.to_ascii_uppercase())).ok()?;
                stream.get_mut().flush().ok()?;
            }
            return None;
        }
        let (code, answer) = garden.lock().ok()?.answer(&method, path.split('?').next()?, &body);
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nx-from: garden\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.get_mut().write_all(head.as_bytes()).ok()?;
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
        stream.get_mut().flush().ok()?;
    }
}

/// A body in chunks.
fn chunks(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

impl Garden {
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method, &parts[..]) {
            ("GET", ["apis", "garden.example.com", "v1"]) => (200, discovery()),
            ("GET", ["apis", group @ ("custom.metrics.k8s.io" | "external.metrics.k8s.io"), version]) => {
                (200, json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"), "resources": [] }))
            }
            ("GET", ["apis", "custom.metrics.k8s.io", version, "namespaces", _, _, name, metric]) => {
                self.values("custom.metrics.k8s.io", version, name, metric)
            }
            ("GET", ["apis", "external.metrics.k8s.io", version, "namespaces", _, metric]) => self.values("external.metrics.k8s.io", version, "*", metric),
            ("GET", ["openapi", "v3", "apis", "garden.example.com", "v1"]) => (200, document()),
            ("GET", ["openapi", "v2"]) => (200, document_v2()),
            ("GET", ["apis", _, _, "namespaces", _, "flowers"] | ["apis", _, _, "flowers"]) => {
                let items: Vec<&Value> = self.flowers.values().collect();
                let metadata = json!({ "resourceVersion": self.revision.to_string() });
                (200, json!({ "kind": "FlowerList", "apiVersion": GROUP_VERSION, "metadata": metadata, "items": items }))
            }
            ("GET", ["apis", _, _, "namespaces", _, "flowers", name]) => match self.flowers.get(*name) {
                Some(flower) => (200, flower.clone()),
                None => (404, missing(name)),
            },
            ("POST", ["apis", _, _, "namespaces", namespace, "flowers"]) => {
                let Ok(mut flower) = serde_json::from_slice::<Value>(body) else { return (400, missing("a body")) };
                self.revision += 1;
                flower["metadata"]["namespace"] = (*namespace).into();
                flower["metadata"]["resourceVersion"] = self.revision.to_string().into();
                let name = flower["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                self.flowers.insert(name, flower.clone());
                (201, flower)
            }
            ("DELETE", ["apis", _, _, "namespaces", _, "flowers", name]) => match self.flowers.remove(*name) {
                Some(flower) => (200, flower),
                None => (404, missing(name)),
            },
            _ => (404, missing(path)),
        }
    }
}

impl Garden {
    /// What is known of a metric, of one object or of all (`*`).
    fn values(&self, group: &str, version: &str, name: &str, metric: &str) -> (u16, Value) {
        let Some(values) = self.metrics.get(metric) else { return (404, missing(metric)) };
        let item = |(of, value): &(String, String)| {
            json!({ "describedObject": { "name": of }, "metric": { "name": metric }, "metricName": metric, "metricLabels": {}, "value": value,
                "timestamp": "2026-01-01T00:00:00Z" })
        };
        let items: Vec<Value> = values.iter().filter(|(of, _)| name == "*" || of == name).map(item).collect();
        let kind = if group.starts_with("custom") { "MetricValueList" } else { "ExternalMetricValueList" };
        (200, json!({ "kind": kind, "apiVersion": format!("{group}/{version}"), "metadata": {}, "items": items }))
    }
}

fn missing(name: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404, "reason": "NotFound",
        "message": format!("flowers.garden.example.com {name:?} not found"), "details": { "name": name, "group": "garden.example.com", "kind": "flowers" } })
}

fn discovery() -> Value {
    let verbs = ["create", "delete", "get", "list"];
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [
        { "name": "flowers", "singularName": "flower", "namespaced": true, "kind": "Flower", "verbs": verbs, "shortNames": ["fl"] },
        { "name": "flowers/status", "singularName": "", "namespaced": true, "kind": "Flower", "verbs": ["get"] },
    ] })
}

/// What it says of itself and, as every server does, of what others say too.
fn document_v2() -> Value {
    let kind = json!([{ "group": "garden.example.com", "version": "v1", "kind": "Flower" }]);
    let reference = json!({ "$ref": "#/definitions/com.example.garden.v1.Flower" });
    let get = json!({ "x-kubernetes-action": "get", "x-kubernetes-group-version-kind": kind[0], "responses": { "200": { "description": "OK", "schema": reference } } });
    let meta = json!({ "type": "object", "description": "Another's idea of metadata." });
    let flower = json!({ "type": "object", "description": "Something that blooms.", "x-kubernetes-group-version-kind": kind,
        "properties": { "metadata": { "$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" }, "color": { "type": "string" } } });
    json!({ "swagger": "2.0", "info": { "title": "garden", "version": "1" },
        "paths": { "/apis/garden.example.com/v1/namespaces/{namespace}/flowers/{name}": { "get": get }, "/api/v1/pods": { "get": {} }, "/made/up": {} },
        "definitions": { "com.example.garden.v1.Flower": flower, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": meta, "unused": {} } })
}

fn document() -> Value {
    let kind = json!([{ "group": "garden.example.com", "version": "v1", "kind": "Flower" }]);
    // kubectl finds a kind by the path of its resource.
    let reference = json!({ "$ref": "#/components/schemas/com.example.garden.v1.Flower" });
    let answer = json!({ "200": { "description": "OK", "content": { "application/json": { "schema": reference } } } });
    let get = json!({ "x-kubernetes-action": "get", "x-kubernetes-group-version-kind": kind[0], "responses": answer });
    let paths = json!({ "/apis/garden.example.com/v1/namespaces/{namespace}/flowers/{name}": { "get": get } });
    let flower = json!({ "type": "object", "description": "Something that blooms.", "x-kubernetes-group-version-kind": kind,
        "properties": { "apiVersion": { "type": "string" }, "kind": { "type": "string" }, "metadata": { "type": "object" }, "color": { "type": "string" } } });
    json!({ "openapi": "3.0.0", "info": { "title": "garden", "version": "1" }, "paths": paths, "components": { "schemas": { "com.example.garden.v1.Flower": flower } } })
}
