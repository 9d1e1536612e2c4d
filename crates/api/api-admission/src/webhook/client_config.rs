//! ClientConfig: where a webhook listens, and whose word proves that it is it. Admission's and conversions' are alike.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Where a webhook listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Url(String),
    Service { namespace: String, name: String, path: String, port: u16 },
}

/// A WebhookClientConfig of `admissionregistration.k8s.io` or `apiextensions.k8s.io`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    pub(crate) address: Address,
    /// PEM; empty for the system's authorities.
    pub(crate) authority: String,
}

impl ClientConfig {
    /// Reads what was validated when it was written.
    pub fn read(config: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let service = &config["service"];
        let address = match config["url"].as_str() {
            Some(url) => Address::Url(url.to_owned()),
            None => Address::Service {
                namespace: text(&service["namespace"]),
                name: text(&service["name"]),
                path: text(&service["path"]),
                port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            },
        };
        let authority = STANDARD.decode(text(&config["caBundle"])).ok().and_then(|pem| String::from_utf8(pem).ok()).unwrap_or_default();
        Self { address, authority }
    }
}
