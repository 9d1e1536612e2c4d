//! Mortal: a life of all controllers, which ends with its last write as the server's process would.
use crate::story::Story;
use crate::watching::Watching;
use api_client::{Clients, RemoteClients, kube};
use api_meta::ClusterName;
use controller_kit::{CancellationToken, Kit, Roster};
use futures::FutureExt;
use futures::future::join_all;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::Value;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Who wrote what.
#[derive(Clone, Debug)]
pub struct Write {
    pub by: &'static str,
    pub what: String,
}

/// By its path, the resourceVersion that the last write left an object at. Lives of one telling share it.
pub type Versions = Arc<Mutex<HashMap<String, String>>>;

/// Lets so many writes through, one at a time, and nothing at all after the one that would be too many.
struct Fate {
    allowed: usize,
    made: Mutex<Vec<Write>>,
    versions: Versions,
    /// Requests that were begun, reads among them, and those that are over.
    begun: AtomicUsize,
    ended: AtomicUsize,
    turn: tokio::sync::Mutex<()>,
    is_over: AtomicBool,
    over: Notify,
}

impl Fate {
    fn new(allowed: usize, versions: &Versions) -> Self {
        Self {
            allowed,
            made: Mutex::default(),
            versions: versions.clone(),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::default(),
            is_over: AtomicBool::new(false),
            over: Notify::new(),
        }
    }

    /// Notes a write, unless it left the object as it was: then there is nothing that an end could come after.
    fn note(&self, method: &Method, path: &str, answer: &[u8]) {
        let version = serde_json::from_slice::<Value>(answer).ok().and_then(|object| Some(object["metadata"]["resourceVersion"].as_str()?.to_owned()));
        let changes = [Method::PATCH, Method::PUT].contains(method);
        let before = version.clone().and_then(|version| self.versions.lock().unwrap().insert(path.trim_end_matches("/status").to_owned(), version));
        if !changes || version.is_none() || version != before {
            self.made.lock().unwrap().push(Write { by: controller_kit::acting().unwrap_or("nobody"), what: format!("{method} {path}") });
        }
    }

    fn made(&self) -> Vec<Write> {
        self.made.lock().unwrap().clone()
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.over.notify_one();
    }
}

/// A request, until it is answered or given up.
struct Asking<'a>(&'a Fate);

impl<'a> Asking<'a> {
    fn begin(fate: &'a Fate) -> Self {
        fate.begun.fetch_add(1, Ordering::SeqCst);
        Self(fate)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

struct MortalClients {
    inner: Arc<RemoteClients>,
    fate: Arc<Fate>,
}

impl Clients for MortalClients {
    fn cluster(&self, cluster: &ClusterName) -> kube::Client {
        let (inner, fate) = (self.inner.cluster(cluster), self.fate.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (inner, fate) = (inner.clone(), fate.clone());
            async move {
                let dead = || Err(tower::BoxError::from(io::Error::other("this process is as good as dead")));
                let is_write = is_write(&request);
                // One write is answered before the next is begun, so that each gap between two is one that lives end in.
                let _turn = if is_write { Some(fate.turn.lock().await) } else { None };
                if fate.is_over.load(Ordering::SeqCst) {
                    return dead();
                }
                if is_write && fate.made.lock().unwrap().len() >= fate.allowed {
                    fate.end();
                    return dead();
                }
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                let asking = Asking::begin(&fate);
                let answer = inner.send(request).await.map_err(tower::BoxError::from)?;
                if !is_write || !answer.status().is_success() {
                    return Ok(answer);
                }
                let (parts, body) = answer.into_parts();
                let body = body.collect_bytes().await?;
                drop(asking);
                fate.note(&method, &path, &body);
                Ok(Response::from_parts(parts, Body::from(body.to_vec())))
            }
        });
        kube::Client::new(service, "default")
    }
}

/// Events tell of what happened; nothing is decided by them, so they do not count.
fn is_write(request: &Request<Body>) -> bool {
    let path = request.uri().path();
    request.method() != Method::GET && !path.contains("/events") && !path.contains("/authorization.k8s.io/")
}

/// All of a story's controllers, as the server runs them, with a connection of their own.
pub struct Mortal {
    fate: Arc<Fate>,
    runtime: Runtime,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Mortal {
    /// They live until they have written so many times and would once more.
    pub fn start(kubeconfig: &Path, story: &Story, allowed: usize, versions: &Versions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let fate = Arc::new(Fate::new(allowed, versions));
        let shutdown = CancellationToken::new();
        let running = {
            let _guard = runtime.enter();
            let connection = connection(kubeconfig);
            let source = Watching { client: connection.cluster(&ClusterName::root()) };
            let kit = Kit::new(Arc::new(MortalClients { inner: connection, fate: fate.clone() }), Arc::new(source), story.clock.clone());
            let rosters = runtime.block_on(story.rosters(&kit, &shutdown));
            tokio::spawn(join_all(rosters.into_iter().map(Roster::run)).map(drop))
        };
        Self { fate, runtime, shutdown, running }
    }

    /// What they wrote so far.
    pub fn writes(&self) -> Vec<Write> {
        self.fate.made()
    }

    /// How many requests they have begun; `None` while one is not over.
    pub fn asked(&self) -> Option<usize> {
        let ended = self.fate.ended.load(Ordering::SeqCst);
        Some(self.fate.begun.load(Ordering::SeqCst)).filter(|begun| *begun == ended)
    }

    pub fn is_over(&self) -> bool {
        self.fate.is_over.load(Ordering::SeqCst)
    }

    /// Waits for the first write that does not get through; false if there is none for so long.
    pub fn dies_within(&self, patience: Duration) -> bool {
        self.is_over() || self.runtime.block_on(async { tokio::time::timeout(patience, self.fate.over.notified()).await.is_ok() })
    }

    /// Ends them as they are; what they know is gone with them.
    pub fn die(self) {
        self.runtime.shutdown_background();
    }

    /// Has them stop as a server that is told to, which they must do soon.
    #[track_caller]
    pub fn stop(self) {
        self.shutdown.cancel();
        let stopped = self.runtime.block_on(async { tokio::time::timeout(STOP_TIMEOUT, self.running).await });
        stopped.expect("the controllers stop when they are told to").unwrap();
        self.runtime.shutdown_background();
    }
}

/// A connection by the kubeconfig the server wrote.
pub fn connection(kubeconfig: &Path) -> Arc<RemoteClients> {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap().trim().to_owned();
    let pem = |name: &str| {
        use base64::Engine;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(field(name)).unwrap()).unwrap()
    };
    let identity = (pem("client-certificate-data:"), pem("client-key-data:"));
    let tls = pki::client_config(&pem("certificate-authority-data:"), Some((&identity.0, &identity.1))).unwrap();
    Arc::new(RemoteClients::new(&field("server:"), tls).unwrap())
}
