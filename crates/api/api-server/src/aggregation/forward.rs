//! Forwarding: a request handed on to an aggregated server, in the name of who sent it.
use super::Backend;
use crate::ApiServer;
use crate::body::{self, Answer, Body};
use crate::protobuf::PassedOn;
use crate::special::{DIAL_TIMEOUT, HOP_BY_HOP, exchange, joined};
use api_admission::{Dial, service_endpoint};
use api_auth::User;
use api_meta::Status;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
/// What tells who somebody is: only this server says that.
const REMOTE: &str = "x-remote-";
const EXTRA: &str = "x-remote-extra-";
/// Keys of extras become parts of header names.
const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

impl ApiServer {
    /// Hands a request on; its path is that of the client inside its cluster.
    pub(crate) async fn forward<B>(&self, backend: &Backend, user: &User, parts: &Parts, incoming: B) -> Result<Answer, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !backend.state().available {
            return Ok(body::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n"));
        }
        let whole = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = inside(whole, backend.cluster.as_str());
        let mut request = Request::builder().method(parts.method.clone()).uri(path).body(incoming).map_err(Status::internal)?;
        let passed = |name: &HeaderName| !HOP_BY_HOP.contains(name) && *name != header::HOST && !name.as_str().starts_with(REMOTE);
        for (name, value) in parts.headers.iter().filter(|(name, _)| passed(name)) {
            request.headers_mut().append(name, value.clone());
        }
        speak_for(user, request.headers_mut()).map_err(Status::internal)?;
        // A connection that is to become another protocol's (WebSocket, SPDY) is the client's and the other server's from then on.
        let upgrade = wanted_upgrade(&parts.headers);
        if let Some(protocol) = &upgrade {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            request.headers_mut().insert(header::UPGRADE, protocol.clone());
        }
        let asked = self.ask_backend(backend, request).await;
        let mut answer = asked.map_err(|why| Status::service_unavailable(format!("error trying to reach service: {why}")))?;
        if upgrade.is_some() && answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (client, other) = (hyper::upgrade::on(Request::from_parts(parts.clone(), ())), hyper::upgrade::on(&mut answer));
            tokio::spawn(joined(client, other));
            let (mut parts, _) = answer.into_parts();
            parts.extensions.insert(PassedOn);
            return Ok(Answer::from_parts(parts, body::full(Bytes::new())));
        }
        let (mut parts, body) = answer.into_parts();
        for name in HOP_BY_HOP {
            parts.headers.remove(name);
        }
        parts.extensions.insert(PassedOn);
        let body: Body = body.map_err(std::io::Error::other).boxed_unsync();
        Ok(Answer::from_parts(parts, body))
    }

    /// One request over a connection of its own. The error says why there is no answer.
    pub(super) async fn ask_backend<B>(&self, backend: &Backend, mut request: Request<B>) -> Result<http::Response<hyper::body::Incoming>, String>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let tls = self.options.front_proxy.as_ref().ok_or("this server has no certificate for aggregated servers")?.tls(backend)?;
        let dial = service_endpoint(&backend.namespace, &backend.service, backend.port, &backend.cluster, self).await?;
        let way = self.tenants.way(&backend.cluster);
        let connecting = async {
            match &dial {
                Dial::Name(host, port) => way.connect(host, *port).await,
                Dial::At(address) => way.connect_to(*address).await,
            }
        };
        let stream = tokio::time::timeout(DIAL_TIMEOUT, connecting).await.map_err(|_| "i/o timeout".to_owned())?.map_err(|error| error.to_string())?;
        let host = backend.host();
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(&host).map_err(|error| error.to_string())?);
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
        exchange(stream, request).await.map_err(|error| error.to_string())
    }
}

/// The protocol that a client wants the connection to become.
fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asked = connection.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Says in whose name a request comes.
pub(super) fn speak_for(user: &User, headers: &mut HeaderMap) -> Result<(), http::Error> {
    headers.insert(USER, HeaderValue::from_str(&user.username)?);
    if !user.uid.is_empty() {
        headers.insert(UID, HeaderValue::from_str(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, HeaderValue::from_str(group)?);
    }
    for (key, values) in &user.extra {
        let name = HeaderName::try_from(format!("{EXTRA}{}", utf8_percent_encode(key, &KEPT)))?;
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value)?);
        }
    }
    Ok(())
}

/// A path as it is inside of its cluster.
fn inside<'a>(path: &'a str, cluster: &str) -> &'a str {
    path.strip_prefix("/clusters/").and_then(|rest| rest.strip_prefix(cluster)).filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregated_server_is_asked_for_what_it_serves() {
        assert_eq!(inside("/clusters/a.b/apis/g/v1/x?watch=1", "a.b"), "/apis/g/v1/x?watch=1");
        assert_eq!(inside("/apis/g/v1/x", "root"), "/apis/g/v1/x");
        assert_eq!(inside("/clusters/a.bc/apis", "a.b"), "/clusters/a.bc/apis");
    }

    #[test]
    fn headers_say_who_asks() {
        let extra = [("example.com/key".to_owned(), vec!["1".to_owned(), "2".to_owned()])].into();
        let user = User { username: "jane".into(), uid: "7".into(), groups: vec!["a".into(), "b".into()], extra };
        let mut headers = HeaderMap::new();
        speak_for(&user, &mut headers).unwrap();
        let all = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("x-remote-user"), all("x-remote-uid"), all("x-remote-group")), (vec!["jane"], vec!["7"], vec!["a", "b"]));
        assert_eq!(all("x-remote-extra-example.com%2fkey"), ["1", "2"]);
    }
}
