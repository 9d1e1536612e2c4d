//! HTTP checks: GET, with redirects on the same host; certificates are not looked at, as upstream.
use super::action::{Verdict, connect};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// One GET.
#[derive(Clone, Debug)]
pub struct Get {
    tls: bool,
    host: String,
    port: u16,
    /// With its query.
    path: String,
    headers: Vec<(String, String)>,
}

const MOST_BODY: usize = 10 << 10;
const MOST_REDIRECTS: usize = 10;

impl Get {
    /// `address` is used where the action names no host.
    pub fn new(action: &HTTPGetAction, address: &str, port: u16) -> Self {
        let path = action.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
        Self {
            tls: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| address.to_owned()),
            port,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        }
    }

    /// The same without TLS.
    pub fn plain(&self) -> Self {
        Self { tls: false, ..self.clone() }
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') && !self.host.starts_with('[') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Checks that the answer's code is 200 to 399.
pub async fn check(get: &Get, timeout: Duration) -> Verdict {
    match tokio::time::timeout(timeout, follow(get, timeout)).await {
        Ok(Ok(code)) if (200..400).contains(&code) => Verdict::Success,
        Ok(Ok(code)) => Verdict::Failure(format!("HTTP probe failed with statuscode: {code}")),
        Ok(Err(error)) => Verdict::Failure(error),
        Err(_) => Verdict::Failure(format!("Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)", get.url())),
    }
}

/// The last answer's code, after redirects.
async fn follow(get: &Get, timeout: Duration) -> Result<u16, String> {
    let mut get = get.clone();
    for _ in 0..=MOST_REDIRECTS {
        let (code, location) = send(&get, timeout).await?;
        let Some(location) = location.filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308)) else { return Ok(code) };
        let Ok(target) = location.parse::<http::Uri>() else { return Ok(code) };
        match target.host() {
            None => {}
            Some(host) if host.trim_matches(['[', ']']) == get.host.trim_matches(['[', ']']) => {
                get.tls = target.scheme_str() == Some("https");
                get.port = target.port_u16().unwrap_or(if get.tls { 443 } else { 80 });
            }
            // Another host's health is not this container's.
            Some(_) => return Ok(code),
        }
        get.path = target.path_and_query().map_or_else(|| "/".into(), ToString::to_string);
    }
    Err(format!("Get \"{}\": stopped after {MOST_REDIRECTS} redirects", get.url()))
}

/// Sends one request; gives the answer's code and Location.
pub async fn send(get: &Get, timeout: Duration) -> Result<(u16, Option<String>), String> {
    let failed = |error: &dyn std::fmt::Display| format!("Get \"{}\": {error}", get.url());
    let stream = connect(&get.host, get.port, timeout).await.map_err(|error| failed(&error))?;
    let (mut sender, background) = if get.tls {
        let connector = tokio_rustls::TlsConnector::from(tls_config());
        let name = ServerName::try_from(get.host.trim_matches(['[', ']']).to_owned()).map_err(|error| failed(&error))?;
        let stream = connector.connect(name, stream).await.map_err(|error| failed(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        (sender, tokio::spawn(connection))
    } else {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        (sender, tokio::spawn(connection))
    };
    // The connection ends with the request, however that goes.
    let _background = tokio_util::task::AbortOnDropHandle::new(background);
    let mut request = hyper::Request::get(&get.path).header("Connection", "close");
    let mut host = get.authority();
    let (mut has_agent, mut has_accept) = (false, false);
    for (name, value) in &get.headers {
        if name.eq_ignore_ascii_case("host") {
            host.clone_from(value);
            continue;
        }
        has_agent |= name.eq_ignore_ascii_case("user-agent");
        has_accept |= name.eq_ignore_ascii_case("accept");
        // An empty value asks to leave a default header out.
        if value.is_empty() {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            request = request.header(name, value);
        }
    }
    request = request.header("Host", host);
    if !has_agent {
        request = request.header("User-Agent", "kube-probe/1.37");
    }
    if !has_accept {
        request = request.header("Accept", "*/*");
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let location = answer.headers().get("Location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let code = answer.status().as_u16();
    // Read, so that the server does not see a broken connection; what is over the limit is left.
    let _ = Limited::new(answer.into_body(), MOST_BODY).collect().await;
    Ok((code, location))
}

fn tls_config() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::LazyLock<Arc<rustls::ClientConfig>> = std::sync::LazyLock::new(|| {
        let provider = pki::provider();
        let verifier = Arc::new(NoVerification(provider.clone()));
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has the default protocol versions");
        Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    });
    CONFIG.clone()
}

/// A probe asks whether the container answers, not who it is: certificates of pods are rarely made for their addresses.
#[derive(Debug)]
struct NoVerification(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers each connection in turn; gives the port.
    async fn serve(answers: Vec<&'static str>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    async fn checked(answers: Vec<&'static str>) -> Verdict {
        let port = serve(answers).await;
        check(&Get::new(&HTTPGetAction::default(), "127.0.0.1", port), Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn codes_decide_and_redirects_are_followed() {
        assert_eq!(checked(vec!["HTTP/1.1 204 No Content\r\n\r\n"]).await, Verdict::Success);
        let bad = checked(vec!["HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n"]).await;
        assert_eq!(bad, Verdict::Failure("HTTP probe failed with statuscode: 500".into()));
        let redirect = "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            checked(vec![redirect, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"]).await,
            Verdict::Failure("HTTP probe failed with statuscode: 404".into())
        );
        let away = "HTTP/1.1 302 Found\r\nLocation: http://other.example/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(checked(vec![away]).await, Verdict::Success);
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let verdict = check(&Get::new(&HTTPGetAction::default(), "127.0.0.1", port), Duration::from_secs(5)).await;
        assert_eq!(verdict, Verdict::Failure(format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused")));
    }
}
