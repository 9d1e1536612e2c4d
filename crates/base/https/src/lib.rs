//! Https: what is asked of others over TLS, as JSON, with bounds to what they may answer.
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Key sets of large providers have some ten thousand bytes.
const LARGEST: usize = 512 << 10;
/// The authorities that the machine trusts, where Debian and most others have them.
const MACHINE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// All but what needs no escape anywhere (RFC 3986, 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client that speaks TLS alone.
#[derive(Clone)]
pub struct Https(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Https {
    /// Trusts this authority (PEM), or those that the machine trusts.
    ///
    /// # Errors
    /// When there are none.
    pub fn trusting(authority_pem: Option<&str>) -> Result<Self> {
        let tls = match authority_pem {
            Some(pem) => pki::client_config(pem, None)?,
            None => pki::client_config(&std::fs::read_to_string(MACHINE).with_context(|| format!("the machine's authorities at {MACHINE:?}"))?, None)?,
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    pub async fn get(&self, url: &str) -> Result<Value> {
        let (code, body) = self.ask(url, Request::get(url).header(header::ACCEPT, "application/json").body(Full::default())?).await?;
        if code != 200 {
            bail!("{url} answers {code}");
        }
        Ok(body)
    }

    /// Posts a form; gives the code and the body, as errors (RFC 6749, 5.2) are told in it.
    pub async fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<(u16, Value)> {
        let request = Request::post(url).header(header::ACCEPT, "application/json").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.ask(url, request.body(Full::from(encoded(form)))?).await
    }

    async fn ask(&self, url: &str, request: Request<Full<Bytes>>) -> Result<(u16, Value)> {
        let answered = async {
            let answer = self.0.request(request).await.with_context(|| format!("asking {url}"))?;
            let code = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| anyhow::anyhow!("reading what {url} answers: {error}"))?;
            let body = serde_json::from_slice(&body.to_bytes()).with_context(|| format!("{url} answers {code} without JSON"))?;
            Ok((code, body))
        };
        tokio::time::timeout(TIMEOUT, answered).await.with_context(|| format!("{url} does not answer"))?
    }
}

/// As forms and queries are written.
pub fn encoded(fields: &[(&str, &str)]) -> String {
    let text = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    fields.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect::<Vec<_>>().join("&")
}
