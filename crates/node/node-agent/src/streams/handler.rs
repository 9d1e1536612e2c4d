//! Handlers: what the server does for each path.
use super::backend::{StreamOptions, StreamsBackend};
use super::caller;
use super::error::Refusal;
use super::log_file::LogFile;
use super::log_options::LogOptions;
use super::log_source;
use super::query::Query;
use super::remote_command::RemoteCommand;
use super::route::{ContainerPath, PodPath, Route};
use super::runtime_stream::{self, STREAM_PROTOCOL};
use super::tunnel::{self, PortChannels};
use super::volume_metrics;
use super::web_socket::{self, UpgradeKind};
use api_meta::TUNNEL_PROTOCOL;
use bytes::Bytes;
use clock::Clock;
use futures::StreamExt;
use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use pki::Subject;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers requests of callers whose certificates the connection has verified.
pub struct Handler {
    pub backend: Arc<dyn StreamsBackend>,
    pub clock: Arc<dyn Clock>,
    /// Ends streams that would go on.
    pub shutdown: CancellationToken,
}

/// Pieces of log output that may wait for a slow reader.
const QUEUED_PIECES: usize = 4;
/// Channels are numbered with one byte, and a port takes two.
const MOST_PORTS: usize = 100;

impl Handler {
    pub async fn handle(&self, request: Request<Incoming>, subject: Option<&Subject>) -> Response<Body> {
        let outcome = match Route::parse(request.uri().path()) {
            Some(route) => match caller::admit(subject, request.method(), route.subresource()) {
                Ok(()) => self.route(route, request).await,
                Err(refusal) => Err(refusal),
            },
            // Strangers learn nothing of what there is.
            None => caller::admit(subject, request.method(), "proxy").and(Err(Refusal::not_found("404 page not found\n"))),
        };
        outcome.unwrap_or_else(|refusal| text(refusal.status, refusal.message))
    }

    async fn route(&self, route: Route, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let upgrades = matches!(route, Route::Exec(_) | Route::Attach(_) | Route::PortForward(_));
        if *request.method() != Method::GET && !(upgrades && *request.method() == Method::POST) {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match route {
            Route::Healthz => Ok(text(StatusCode::OK, "ok")),
            Route::Pods { cluster } => json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.backend.pods(&cluster)})),
            Route::Summary { cluster } => json(&self.backend.summary(&cluster).await?),
            Route::Metrics { cluster } => Ok(text(StatusCode::OK, volume_metrics::render(&self.backend.summary(&cluster).await?))),
            Route::Logs(path) => self.logs(&path, &query).await,
            Route::Exec(path) => self.exec(&path, &query, request).await,
            Route::Attach(path) => self.attach(&path, &query, request).await,
            Route::PortForward(path) => self.port_forward(&path, &query, request).await,
            Route::Driver(name) => self.driver(&name, request).await,
        }
    }

    async fn logs(&self, path: &ContainerPath, query: &Query) -> Result<Response<Body>, Refusal> {
        let options = LogOptions::parse(query, self.clock.now())?;
        let pod = self.pod(&path.pod, "pod \"{}\" does not exist\n")?;
        if !names_container(&pod, &path.container) {
            return Err(Refusal::not_found(format!("container \"{}\" not found in pod \"{}\"\n", path.container, path.pod.pod)));
        }
        let id = log_source::container_id(&pod, &path.container, options.previous).map_err(Refusal::bad_request)?;
        let file = self.backend.log_path(&id).await.map_err(|error| Refusal::bad_request(error.to_string()))?;
        let log = LogFile::open(&file, &options).await.map_err(Refusal::bad_request)?;
        let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
        let backend = self.backend.clone();
        self.spawn(async move {
            if let Err(error) = log.copy(&options, backend.stopped(&id), sender).await {
                tracing::warn!(container = id, %error, "a container's log can't be read to its end");
            }
        });
        let body = StreamBody::new(ReceiverStream::new(receiver).map(|piece| Ok(Frame::data(piece))));
        let mut response = Response::new(BodyExt::boxed_unsync(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    async fn exec(&self, path: &ContainerPath, query: &Query, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(&path.pod, "pod does not exist")?;
        let options = stream_options(query, false)?;
        let command: Vec<String> = query.all("command").map(str::to_owned).collect();
        if command.is_empty() {
            return Err(Refusal::bad_request("you must specify at least one command for the container"));
        }
        let id = running_container(&pod, &path.container)?;
        let url = self.backend.exec(&id, command, options).await?;
        self.remote_command(&url, options, request).await
    }

    async fn attach(&self, path: &ContainerPath, query: &Query, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(&path.pod, "pod does not exist")?;
        // Whether there is a terminal was settled when the process started.
        let mut options = stream_options(query, has_terminal(&pod, &path.container))?;
        options.tty = has_terminal(&pod, &path.container);
        let id = running_container(&pod, &path.container)?;
        let url = self.backend.attach(&id, options).await?;
        self.remote_command(&url, options, request).await
    }

    async fn remote_command(&self, url: &str, options: StreamOptions, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        match upgrade_kind(request.headers())? {
            UpgradeKind::Spdy => self.tunnel(url, request).await,
            UpgradeKind::WebSocket => {
                let accept = web_socket::accept_key(request.headers())?;
                let protocol = web_socket::choose(&web_socket::offered(request.headers()), web_socket::REMOTE_COMMAND)?;
                let command = RemoteCommand::connect(url, options, protocol).await?;
                self.on_upgrade(hyper::upgrade::on(&mut request), |io| async { command.run(web_socket::serve(io).await).await });
                Ok(web_socket_response(&accept, protocol.name))
            }
        }
    }

    async fn port_forward(&self, path: &PodPath, query: &Query, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(path, "pod does not exist")?;
        let sandbox = self
            .backend
            .sandbox(&path.cluster, &pod)
            .ok_or_else(|| Refusal::internal(format!("unable to find pod \"{}\": its sandbox is not running", path.pod)))?;
        let portforward = [HeaderValue::from_static("portforward.k8s.io")];
        if upgrade_kind(request.headers())? == UpgradeKind::Spdy {
            let url = self.backend.port_forward(&sandbox, Vec::new()).await?;
            return self.tunnel(&url, request).await;
        }
        let accept = web_socket::accept_key(request.headers())?;
        let offered = web_socket::offered(request.headers());
        if offered.iter().any(|name| name == web_socket::TUNNELED_PORT_FORWARD) {
            let url = self.backend.port_forward(&sandbox, Vec::new()).await?;
            let runtime = runtime_stream::connect(&url, &portforward).await?;
            self.on_upgrade(hyper::upgrade::on(&mut request), |io| async { tunnel::splice_web_socket(web_socket::serve(io).await, runtime).await });
            return Ok(web_socket_response(&accept, web_socket::TUNNELED_PORT_FORWARD));
        }
        let protocol = web_socket::choose(&offered, web_socket::PORT_FORWARD)?;
        let ports = forwarded_ports(query)?;
        let url = self.backend.port_forward(&sandbox, Vec::new()).await?;
        let channels = PortChannels::open(runtime_stream::connect(&url, &portforward).await?, ports, protocol).await?;
        self.on_upgrade(hyper::upgrade::on(&mut request), |io| async { channels.run(web_socket::serve(io).await).await });
        Ok(web_socket_response(&accept, protocol.name))
    }

    /// Leads the API server to a driver's socket.
    async fn driver(&self, name: &str, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if request.headers().get(UPGRADE).is_none_or(|protocol| protocol != TUNNEL_PROTOCOL) {
            return Err(Refusal::bad_request(format!("Upgrade request required: {TUNNEL_PROTOCOL}")));
        }
        let socket =
            self.backend.driver(name).ok_or_else(|| Refusal::not_found(format!("driver name {name} not found in the list of registered CSI drivers")))?;
        let mut driver = UnixStream::connect(&socket).await.map_err(|error| Refusal::internal(format!("connecting to driver {name}: {error}")))?;
        self.on_upgrade(hyper::upgrade::on(&mut request), |mut server| async move {
            if let Err(error) = tokio::io::copy_bidirectional(&mut server, &mut driver).await {
                tracing::debug!(%error, "a connection to a CSI driver broke off");
            }
        });
        Ok(switching(TUNNEL_PROTOCOL))
    }

    /// Joins a client that speaks SPDY to the runtime, which does so too.
    async fn tunnel(&self, url: &str, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let protocols: Vec<HeaderValue> = request.headers().get_all(STREAM_PROTOCOL).iter().cloned().collect();
        let runtime = runtime_stream::connect(url, &protocols).await?;
        let mut response = switching(runtime_stream::SPDY);
        if let Some(protocol) = &runtime.protocol {
            response.headers_mut().insert(STREAM_PROTOCOL, protocol.clone());
        }
        self.on_upgrade(hyper::upgrade::on(&mut request), |io| tunnel::splice(io, runtime));
        Ok(response)
    }

    fn pod(&self, path: &PodPath, missing: &str) -> Result<Arc<Pod>, Refusal> {
        let pod = self.backend.pod(&path.cluster, &path.namespace, &path.pod);
        let meant = pod.filter(|pod| path.uid.is_none() || path.uid == pod.metadata.uid);
        meant.ok_or_else(|| Refusal::not_found(missing.replace("{}", &path.pod)))
    }

    fn on_upgrade<Work: Future<Output = ()> + Send + 'static>(&self, upgrade: OnUpgrade, work: impl FnOnce(TokioIo<Upgraded>) -> Work + Send + 'static) {
        self.spawn(async move {
            match upgrade.await {
                Ok(upgraded) => work(TokioIo::new(upgraded)).await,
                Err(error) => tracing::debug!(%error, "a client left before its connection was upgraded"),
            }
        });
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

fn upgrade_kind(headers: &HeaderMap) -> Result<UpgradeKind, Refusal> {
    web_socket::upgrade_kind(headers).ok_or_else(|| Refusal::bad_request("unable to upgrade: the request asks for neither a WebSocket nor SPDY/3.1"))
}

/// The streams asked for, by the kubelet's names or the API's. A terminal has no stderr of its own.
fn stream_options(query: &Query, terminal: bool) -> Result<StreamOptions, Refusal> {
    let either = |kubelet: &str, api: &str| query.flag(kubelet) || query.flag(api);
    let tty = query.flag("tty");
    let options =
        StreamOptions { stdin: either("input", "stdin"), stdout: either("output", "stdout"), stderr: either("error", "stderr") && !tty && !terminal, tty };
    if options.stdin || options.stdout || options.stderr {
        Ok(options)
    } else {
        Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
    }
}

fn forwarded_ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let texts: Vec<&str> = query.all("ports").chain(query.all("port")).flat_map(|value| value.split(',')).collect();
    if texts.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    if texts.len() > MOST_PORTS {
        return Err(Refusal::bad_request(format!("at most {MOST_PORTS} ports can be forwarded at once")));
    }
    texts.into_iter().map(|text| text.parse().ok().filter(|port| *port > 0).ok_or_else(|| Refusal::bad_request(format!("invalid port {text:?}")))).collect()
}

fn running_container(pod: &Pod, container: &str) -> Result<String, Refusal> {
    let status = log_source::container_status(pod, container).filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    let id = status.and_then(|status| log_source::runtime_id(status.container_id.as_deref()?));
    id.ok_or_else(|| Refusal::internal(format!("container not found (\"{container}\")")))
}

fn names_container(pod: &Pod, container: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|c| c.name == container)
            || spec.ephemeral_containers.iter().flatten().any(|c| c.name == container)
    })
}

fn has_terminal(pod: &Pod, container: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|c| c.name == container && c.tty == Some(true))
            || spec.ephemeral_containers.iter().flatten().any(|c| c.name == container && c.tty == Some(true))
    })
}

/// The answer after which a connection speaks something else.
fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn web_socket_response(accept: &str, protocol: &'static str) -> Response<Body> {
    let mut response = switching("websocket");
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base64 is a header's value"));
    if !protocol.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

fn json(value: &impl serde::Serialize) -> Result<Response<Body>, Refusal> {
    let bytes = serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut response = Response::new(Full::new(Bytes::from(bytes)).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn text(status: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(message.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
