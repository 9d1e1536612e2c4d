//! IAM over HTTPS: the paths it answers at, to whom; the same inside the API server and standing alone.
use crate::administration::OWN;
use crate::engine::{Iam, Issued, TokenRequest};
use crate::{Directory, IamError, grpc, plan};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

pub const PREFIX: &str = "/apis/iam.plasmacloud.io/v1/";
/// The largest body: a TokenReview with the longest token fits many times.
const BODY_LIMIT: usize = 64 << 10;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 1024;

/// Who asks, as whoever carried the request here knows.
#[derive(Clone, Debug)]
pub enum Asker {
    Nobody,
    /// A part of the platform, which may have tokens and accesses reviewed, by name.
    Part(String),
    /// An administrator of the platform, by name.
    Platform(String),
    /// An account, and the project its token is for.
    Account {
        subject: String,
        project: Option<String>,
    },
}

/// An HTTP answer with a JSON body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
}

/// Whether a path is IAM's (`Some`), and, if so, whether anybody may ask there.
pub fn is_open(path: &str) -> Option<bool> {
    match path.strip_prefix(PREFIX)? {
        "login" | "oidc" | "providers" | "exchange" | "jwks" => Some(true),
        own if own.starts_with(OWN) => Some(false),
        "authenticate" | "authorize" | "token" | "key" | "revoke" | "password" | "rotate" => Some(false),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Login {
    email: String,
    password: String,
    #[serde(default)]
    project: String,
}

/// An ID token of a provider.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Elsewhere {
    issuer: String,
    id_token: String,
    #[serde(default)]
    project: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Exchange {
    key: String,
    #[serde(default)]
    project: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewKey {
    subject: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    expires: Option<Timestamp>,
}

/// One token by itself or by its id, or all of a subject's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    token: Option<String>,
    /// With the token: the login it came from ends too.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    subject: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Password {
    user: String,
    password: String,
    /// Needed of whoever changes their own.
    #[serde(default)]
    current: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Rotate {
    at_once: bool,
}

impl Iam {
    /// Answers at one of IAM's paths. `client` is whom rates are counted for.
    pub async fn answer(&self, asker: &Asker, client: &str, method: &Method, path: &str, body: &[u8]) -> Answer {
        let done = self.answered(asker, client, method, path.strip_prefix(PREFIX).unwrap_or_default(), body).await;
        done.unwrap_or_else(|error| {
            let code = error.code();
            if code == 500 {
                tracing::warn!(error = &error as &dyn std::error::Error, path, "a request failed");
            }
            let why = if let IamError::Api(api_client::kube::Error::Api(status)) = &error { status.message.clone() } else { error.to_string() };
            Answer { code, body: json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": why, "code": code}) }
        })
    }

    pub(crate) async fn answered(&self, asker: &Asker, client: &str, method: &Method, path: &str, body: &[u8]) -> Result<Answer, IamError> {
        let ok = |body: Value| Ok(Answer { code: 200, body });
        if path == "jwks" && *method == Method::GET {
            return ok(self.jwks()?);
        }
        if path == "providers" && *method == Method::GET {
            let all: Vec<Value> = self.issuers().iter().map(|(issuer, client)| json!({"issuer": issuer, "clientId": client})).collect();
            return ok(json!({ "providers": all }));
        }
        if let Some(rest) = path.strip_prefix(OWN) {
            return self.administered(asker, method, rest, body).await;
        }
        if *method != Method::POST {
            return Err(IamError::Method);
        }
        match path {
            "authenticate" => {
                if !self.may_review(client) {
                    return Err(IamError::TooMany);
                }
                let review: Value = read(body)?;
                if review["kind"] != "TokenReview" || review["apiVersion"] != "authentication.k8s.io/v1" {
                    return Err(IamError::Invalid("the body must be a TokenReview of authentication.k8s.io/v1".into()));
                }
                ok(self.review(&review))
            }
            "authorize" => {
                if !self.may_review(client) {
                    return Err(IamError::TooMany);
                }
                let review: Value = read(body)?;
                if review["kind"] != "SubjectAccessReview" || review["apiVersion"] != "authorization.k8s.io/v1" {
                    return Err(IamError::Invalid("the body must be a SubjectAccessReview of authorization.k8s.io/v1".into()));
                }
                ok(self.access(&review))
            }
            "login" => {
                let login: Login = read(body)?;
                let (issued, session) = self.login(&login.email, &login.password, &login.project).await?;
                ok(told(&issued, Some(session)))
            }
            "oidc" => {
                // Nobody guesses a signature; this is for the load alone.
                if !self.may_review(client) {
                    return Err(IamError::TooMany);
                }
                let Elsewhere { issuer, id_token, project } = read(body)?;
                let (issued, session) = self.login_elsewhere(&issuer, &id_token, &project).await?;
                ok(told(&issued, Some(session)))
            }
            "exchange" => {
                let exchange: Exchange = read(body)?;
                let (issued, key) = self.exchange(&exchange.key, exchange.project.as_deref()).await?;
                ok(told(&issued, Some(key)))
            }
            "token" => {
                let mut request: TokenRequest = read(body)?;
                if let Asker::Account { subject, project } = asker {
                    if request.subject.is_empty() {
                        request.subject.clone_from(subject);
                    }
                    // A token for one project gives none for others.
                    if let Some(project) = project.as_ref().filter(|_| request.project.is_empty()) {
                        request.project.clone_from(project);
                    }
                }
                request.subject = self.subject(&request.subject)?;
                self.may_speak_for(asker, &request.subject, &request.project)?;
                ok(told(&self.issue(&request)?, None))
            }
            "key" => {
                let key: NewKey = read(body)?;
                let subject = self.subject(&key.subject)?;
                self.may_speak_for(asker, &subject, &key.project)?;
                let (id, secret) = self.create_key(&subject, &key.project, &key.description, key.expires, false).await?;
                ok(json!({"id": id, "key": secret}))
            }
            "revoke" => {
                self.revoked(asker, read(body)?).await?;
                ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
            }
            "password" => {
                let Password { user, password, current } = read(body)?;
                let subject = self.subject(&user)?;
                match asker {
                    Asker::Account { subject: own, .. } if *own == subject => {
                        let email = Directory::get(&self.directory.users, own).map(|user| user.spec.email.clone()).unwrap_or_default();
                        self.login(&email, &current, "").await?;
                    }
                    _ => self.may_administer(asker, &subject)?,
                }
                self.set_password(&subject, &password).await?;
                ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
            }
            "rotate" => {
                let Asker::Platform(_) = asker else { return Err(IamError::Forbidden("only the platform's administrators may rotate its keys".into())) };
                let rotate: Rotate = if body.is_empty() { Rotate::default() } else { read(body)? };
                self.rotate(rotate.at_once).await?;
                ok(self.jwks()?)
            }
            _ => Err(IamError::NotFound { kind: "path", name: path.to_owned() }),
        }
    }

    async fn revoked(&self, asker: &Asker, revoke: Revoke) -> Result<(), IamError> {
        match revoke {
            // Whoever has a token may end it.
            Revoke { token: Some(token), key, .. } => {
                if let Some(key) = key {
                    self.end_key(&key).await?;
                }
                let identity = self.identify(&token, &[]).map_err(|_| IamError::Credentials)?;
                self.revoke(&identity.claims.jti, Timestamp::from_second(identity.claims.exp).unwrap_or(Timestamp::MAX)).await
            }
            Revoke { id: Some(id), .. } => {
                let Asker::Platform(_) = asker else {
                    return Err(IamError::Forbidden("only the platform's administrators may revoke tokens by their id".into()));
                };
                let longest = jiff::SignedDuration::try_from(self.settings.longest_token).unwrap_or(jiff::SignedDuration::MAX);
                let now = self.now();
                self.revoke(&id, now.saturating_add(longest).unwrap_or(Timestamp::MAX)).await
            }
            Revoke { subject: Some(subject), .. } => {
                let subject = self.subject(&subject)?;
                if !matches!(asker, Asker::Account { subject: own, .. } if *own == subject) {
                    self.may_administer(asker, &subject)?;
                }
                self.revoke_all(&subject).await
            }
            _ => Err(IamError::Invalid("one of token, id and subject is needed".into())),
        }
    }

    /// Tokens are made for oneself, and for service accounts by those who manage their project; no administrator becomes a user.
    fn may_speak_for(&self, asker: &Asker, subject: &str, project: &str) -> Result<(), IamError> {
        let refused = || IamError::Forbidden(format!("you may not have tokens of {subject:?}"));
        match asker {
            Asker::Platform(_) => Ok(()),
            Asker::Account { subject: own, project: scope } if own == subject => {
                if scope.as_ref().is_none_or(|scope| scope == project) {
                    Ok(())
                } else {
                    Err(refused())
                }
            }
            Asker::Account { .. } if subject.contains('@') => self.may_administer(asker, subject),
            _ => Err(refused()),
        }
    }

    /// Users are administered by their organisation's administrators, service accounts by their project's.
    fn may_administer(&self, asker: &Asker, subject: &str) -> Result<(), IamError> {
        let refused = || IamError::Forbidden(format!("you may not administer {subject:?}"));
        let (own, scope) = match asker {
            Asker::Platform(_) => return Ok(()),
            Asker::Account { subject, project } => (subject, project),
            Asker::Nobody | Asker::Part(_) => return Err(refused()),
        };
        let (asking, asked) = (self.directory.account(own).ok_or_else(refused)?, self.directory.account(subject).ok_or_else(refused)?);
        if asking.principal.organization != asked.principal.organization {
            return Err(refused());
        }
        let grants = self.directory.grants(&asking);
        let may = match subject.split_once('@') {
            Some((_, project)) => plan::may_manage_project(&grants, project) && scope.as_ref().is_none_or(|scope| scope == project),
            None => plan::administers_organization(&grants) && scope.is_none(),
        };
        if may { Ok(()) } else { Err(refused()) }
    }
}

fn told(issued: &Issued, key: Option<String>) -> Value {
    let mut answer = json!({"token": issued.token, "id": issued.id, "expires": clock::rfc3339_seconds(issued.expires)});
    if let Some(key) = key {
        answer["key"] = key.into();
    }
    answer
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, IamError> {
    serde_json::from_slice(body).map_err(|error| IamError::Invalid(format!("the body can't be read: {error}")))
}

/// Serves IAM by itself, paths and gRPC, until `stop`. A client that shows a certificate (`tls` has checked it) is a part or an
/// administrator of the platform; the others are who their bearer token says. What is not open to all is answered to nobody else.
pub async fn serve(iam: Arc<Iam>, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let routes = grpc::routes(iam.clone());
    let connections = TaskTracker::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others may close some.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (iam, acceptor, routes, stop) = (iam.clone(), acceptor.clone(), routes.clone(), stop.clone());
        connections.spawn(async move {
            let _slot = slot;
            if stream.set_nodelay(true).is_err() {
                return; // The connection is already gone.
            }
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let shown = certificate.map(|der| pki::subject_of(der).map(Asker::of_certificate).unwrap_or(Asker::Part(String::new())));
            let serial = certificate.and_then(|der| pki::serial_of(der).ok());
            let client = shown.as_ref().map_or_else(|| peer.ip().to_string(), |shown| shown.name().to_owned());
            let service = service_fn(move |request: Request<Incoming>| {
                // Asked at each use: the connection may be older than what was taken back.
                let good = serial.as_ref().is_some_and(|serial| !iam.is_revoked_certificate(serial));
                let (iam, shown, client, routes) = (iam.clone(), shown.clone().filter(|_| good), client.clone(), routes.clone());
                async move {
                    let answer =
                        if is_call(&request) { call(&iam, routes, shown, client, request).await } else { respond(&iam, shown, &client, request).await };
                    Ok::<_, Infallible>(answer)
                }
            });
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).max_concurrent_streams(250);
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(serving);
            let ended = tokio::select! {
                ended = serving.as_mut() => ended,
                () = stop.cancelled() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections were cut off at the end");
    }
}

/// Whether a request is gRPC.
fn is_call(request: &Request<Incoming>) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/grpc"))
}

async fn call(iam: &Iam, routes: Routes, shown: Option<Asker>, client: String, mut request: Request<Incoming>) -> Response<Body> {
    let asker = match (shown, bearer(request.headers())) {
        (Some(shown), _) => Some(shown),
        (None, Some(token)) => iam.identify(token, &[]).ok().map(|identity| Asker::of(&identity)),
        (None, None) => grpc::is_open(request.uri().path()).then_some(Asker::Nobody),
    };
    let Some(asker) = asker else { return tonic::Status::unauthenticated("invalid or expired token").into_http() };
    request.headers_mut().remove(header::AUTHORIZATION);
    request.extensions_mut().insert(grpc::Origin { asker, client });
    match routes.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

async fn respond(iam: &Iam, shown: Option<Asker>, client: &str, request: Request<Incoming>) -> Response<Body> {
    let (parts, incoming) = request.into_parts();
    let path = parts.uri.path();
    let refusal = |code: u16, reason: &str| Answer {
        code,
        body: json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code}),
    };
    let answer = match (path, is_open(path)) {
        ("/healthz" | "/livez" | "/readyz", _) => Answer { code: if iam.jwks().is_ok() { 200 } else { 503 }, body: json!("ok") },
        (_, None) => refusal(404, "NotFound"),
        (_, Some(open)) => {
            let asker = match (shown, bearer(&parts.headers)) {
                (Some(shown), _) => Some(shown),
                // Reviews are for API servers, which have certificates.
                (None, Some(token)) if !path.ends_with("/authenticate") && !path.ends_with("/authorize") => {
                    iam.identify(token, &[]).ok().map(|identity| Asker::of(&identity))
                }
                _ => open.then_some(Asker::Nobody),
            };
            match (asker, Limited::new(incoming, BODY_LIMIT).collect().await) {
                (None, _) => refusal(401, "Unauthorized"),
                (_, Err(_)) => refusal(413, "RequestEntityTooLarge"),
                (Some(asker), Ok(body)) => iam.answer(&asker, client, &parts.method, path, &body.to_bytes()).await,
            }
        }
    };
    let mut response = Response::new(Body::new(Full::new(Bytes::from(answer.body.to_string()))));
    *response.status_mut() = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if answer.code == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

impl Asker {
    /// For the log.
    pub fn name(&self) -> &str {
        match self {
            Self::Nobody => "",
            Self::Part(name) | Self::Platform(name) => name,
            Self::Account { subject, .. } => subject,
        }
    }

    /// Who shows a good certificate: the platform's administrators are those who are a cluster's.
    fn of_certificate(subject: pki::Subject) -> Self {
        let administers = subject.organizations.iter().any(|group| group == "system:masters");
        if administers { Self::Platform(subject.common_name) } else { Self::Part(subject.common_name) }
    }

    pub fn of(identity: &crate::Identity) -> Self {
        let project = Some(identity.claims.project_id.clone()).filter(|project| !project.is_empty());
        Self::Account { subject: identity.claims.sub.clone(), project }
    }
}
