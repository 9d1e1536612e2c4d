//! Logging in at a provider elsewhere: by a browser on this machine (RFC 8252, PKCE), or by a code that is typed in on another (RFC 8628).
use crate::oidc::discover;
use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use https::{Https, encoded};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SCOPE: &str = "openid email profile";
/// How long somebody may take to log in.
const PATIENCE: Duration = Duration::from_secs(600);
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// RFC 8628, 3.5.
const INTERVAL: u64 = 5;
/// A request line with the longest code there is.
const LONGEST_REQUEST: usize = 16 << 10;

/// A provider, as a client that has no secret sees it.
pub struct Login<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    /// The authority (PEM) of its certificate; `None`: those that the machine trusts.
    pub authority_pem: Option<&'a str>,
}

impl Login<'_> {
    /// An ID token, from whoever logs in with the browser that opens what is printed.
    pub async fn by_browser(&self) -> Result<String> {
        let https = Https::trusting(self.authority_pem)?;
        let told = discover(&https, self.issuer).await?;
        let (authorize, token) = (endpoint(&told, "authorization_endpoint")?, endpoint(&told, "token_endpoint")?);
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening for the browser")?;
        let redirect = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
        let (state, nonce, proof) = (random(), random(), random());
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, proof.as_bytes()));
        let query = encoded(&[
            ("response_type", "code"),
            ("client_id", self.client_id),
            ("redirect_uri", &redirect),
            ("scope", SCOPE),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let mark = if authorize.contains('?') { '&' } else { '?' };
        eprintln!("Open this in a browser to log in:\n{authorize}{mark}{query}");
        let code = tokio::time::timeout(PATIENCE, until_sent_back(&listener, &state)).await.context("nobody has logged in")??;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", &redirect),
            ("client_id", self.client_id),
            ("code_verifier", &proof),
        ];
        let token = id_token(https.post(&token, &form).await?)?;
        ensure!(claim(&token, "nonce").as_deref() == Some(nonce.as_str()), "the provider's token is another login's");
        Ok(token)
    }

    /// An ID token, from whoever types the code that is printed into a browser anywhere.
    pub async fn by_device(&self) -> Result<String> {
        let https = Https::trusting(self.authority_pem)?;
        let told = discover(&https, self.issuer).await?;
        let (device, token) = (endpoint(&told, "device_authorization_endpoint")?, endpoint(&told, "token_endpoint")?);
        let (code, begun) = https.post(&device, &[("client_id", self.client_id), ("scope", SCOPE)]).await?;
        ensure!(code == 200, "the provider begins no login: {}", refusal(&begun));
        let text = |field: &str| begun[field].as_str().with_context(|| format!("the provider's answer has no {field:?}"));
        eprintln!("Open {} in a browser anywhere, and type in {}", text("verification_uri")?, text("user_code")?);
        let mut interval = begun["interval"].as_u64().unwrap_or(INTERVAL).clamp(1, 60);
        let form = [("grant_type", DEVICE_CODE), ("device_code", text("device_code")?), ("client_id", self.client_id)];
        let asked = async {
            loop {
                tokio::time::sleep(Duration::from_secs(interval)).await;
                let (code, answer) = https.post(&token, &form).await?;
                match answer["error"].as_str() {
                    Some("authorization_pending") => {}
                    Some("slow_down") => interval += INTERVAL,
                    _ => return id_token((code, answer)),
                }
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.context("nobody has logged in")?
    }
}

fn endpoint(told: &Value, name: &str) -> Result<String> {
    let url = told[name].as_str().with_context(|| format!("the provider has no {name}"))?;
    ensure!(url.starts_with("https://"), "the provider's {name} is not https");
    Ok(url.to_owned())
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(clock::random_bytes::<32>())
}

fn id_token((code, answer): (u16, Value)) -> Result<String> {
    ensure!(code == 200, "the provider refuses the login: {}", refusal(&answer));
    Ok(answer["id_token"].as_str().context("the provider's answer has no ID token")?.to_owned())
}

fn refusal(answer: &Value) -> String {
    let text = |field: &str| answer[field].as_str().map(str::to_owned);
    text("error_description").or_else(|| text("error")).unwrap_or_else(|| "it does not say why".to_owned())
}

/// What a token says, before anybody has looked at its signature: IAM does that.
fn claim(token: &str, name: &str) -> Option<String> {
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()?;
    claims[name].as_str().map(str::to_owned)
}

/// The code that the browser comes back with. Whatever else it asks for is not there.
async fn until_sent_back(listener: &TcpListener, state: &str) -> Result<String> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let Ok(Some(query)) = tokio::time::timeout(Duration::from_secs(10), query_of(&mut stream)).await else {
            answer(&mut stream, "404 Not Found", "").await;
            continue;
        };
        let field = |name: &str| {
            let found = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
            found.and_then(|(_, value)| Some(percent_decode_str(&value.replace('+', " ")).decode_utf8().ok()?.into_owned()))
        };
        if field("state").as_deref() != Some(state) {
            answer(&mut stream, "400 Bad Request", "This is another login.").await;
            continue;
        }
        if let Some(error) = field("error") {
            answer(&mut stream, "200 OK", "The login was refused. You may close this window.").await;
            bail!("the provider refuses the login: {}", field("error_description").unwrap_or(error));
        }
        let code = field("code").context("the browser came back without a code")?;
        answer(&mut stream, "200 OK", "You are logged in, and may close this window.").await;
        return Ok(code);
    }
}

/// The query of a GET for the callback.
async fn query_of(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > LONGEST_REQUEST || stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8(request).ok()?.lines().next()?.to_owned();
    let path = line.strip_prefix("GET ")?.split(' ').next()?;
    path.strip_prefix("/callback?").map(str::to_owned)
}

async fn answer(stream: &mut TcpStream, code: &str, text: &str) {
    let length = text.len();
    let answer = format!("HTTP/1.1 {code}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}");
    // A browser that went away has been told enough.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
