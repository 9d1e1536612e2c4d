//! Webhook: one webhook of a configuration, read once when the configuration is written.
use crate::cel::Conditions;
use crate::matching::Criteria;
use crate::request::items;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a webhook listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Url(String),
    Service { namespace: String, name: String, path: String, port: u16 },
}

#[derive(Debug)]
pub(crate) struct Webhook {
    /// Unique among all webhooks.
    pub id: String,
    pub name: String,
    pub criteria: Criteria,
    pub conditions: Conditions,
    /// Whether a webhook that can't be asked is passed over.
    pub ignores_failure: bool,
    pub timeout: Duration,
    /// Whether it may be asked about dry runs; `None`: it doesn't say.
    pub side_effects: Option<String>,
    pub reinvoke: bool,
    /// The review version it is sent; `None`: it knows none that is spoken here.
    pub version: Option<&'static str>,
    pub address: Address,
    /// PEM; empty for the system's authorities.
    pub authority: String,
}

impl Webhook {
    /// All webhooks of a configuration, in their order.
    pub fn read_all(configuration: &Value) -> Vec<Self> {
        let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
        items(&configuration["webhooks"]).iter().enumerate().map(|(index, hook)| Self::read(hook, name, index)).collect()
    }

    fn read(hook: &Value, configuration: &str, index: usize) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&hook["name"]);
        let ignores_failure = hook["failurePolicy"] == "Ignore";
        let client = &hook["clientConfig"];
        let service = &client["service"];
        let address = match client["url"].as_str() {
            Some(url) => Address::Url(url.to_owned()),
            None => Address::Service {
                namespace: text(&service["namespace"]),
                name: text(&service["name"]),
                path: text(&service["path"]),
                port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            },
        };
        let versions: Vec<&str> = items(&hook["admissionReviewVersions"]).iter().filter_map(Value::as_str).collect();
        let authority = STANDARD.decode(text(&client["caBundle"])).ok().and_then(|pem| String::from_utf8(pem).ok()).unwrap_or_default();
        Self {
            id: format!("{configuration}/{name}/{index}"),
            // What was validated when it was written reads again; a selector that doesn't would match nothing.
            criteria: Criteria::read(hook, "rules").unwrap_or_default(),
            conditions: Conditions::compile(&hook["matchConditions"], false),
            ignores_failure,
            timeout: hook["timeoutSeconds"].as_u64().map_or(DEFAULT_TIMEOUT, Duration::from_secs),
            side_effects: hook["sideEffects"].as_str().map(str::to_owned),
            reinvoke: hook["reinvocationPolicy"] == "IfNeeded",
            version: versions.iter().find_map(|version| ["v1", "v1beta1"].into_iter().find(|known| known == version)),
            address,
            authority,
            name,
        }
    }
}
