//! Webhook: one webhook of a configuration, read once when the configuration is written.
use super::client_config::ClientConfig;
use crate::cel::Conditions;
use crate::matching::Criteria;
use crate::request::items;
use serde_json::Value;
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub client: ClientConfig,
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
        let versions: Vec<&str> = items(&hook["admissionReviewVersions"]).iter().filter_map(Value::as_str).collect();
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
            client: ClientConfig::read(&hook["clientConfig"]),
            name,
        }
    }
}
