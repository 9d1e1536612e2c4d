//! Configuration: FlowSchemas and PriorityLevelConfigurations as the server goes by them.
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a cluster has two kinds of, in `flowcontrol.apiserver.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationKind {
    FlowSchema,
    PriorityLevel,
}

impl ConfigurationKind {
    pub const GROUP: &'static str = "flowcontrol.apiserver.k8s.io";
    pub const ALL: [Self; 2] = [Self::FlowSchema, Self::PriorityLevel];

    pub fn resource(self) -> &'static str {
        match self {
            Self::FlowSchema => "flowschemas",
            Self::PriorityLevel => "prioritylevelconfigurations",
        }
    }
}

/// What everybody is served by who no FlowSchema knows; upstream has it whatever the objects say.
const CATCH_ALL: &str = "catch-all";
const EXEMPT: &str = "exempt";

/// All schemas and levels that are in force.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// In the order in which they are tried.
    pub(crate) schemas: Vec<Arc<FlowSchema>>,
    pub(crate) levels: BTreeMap<String, PriorityLevel>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
}

#[derive(Clone, Debug)]
pub(crate) struct FlowSchema {
    pub name: String,
    pub uid: String,
    pub precedence: i64,
    pub level: String,
    pub distinguisher: Distinguisher,
    pub rules: Vec<PolicyRules>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Distinguisher {
    #[default]
    None,
    ByUser,
    ByNamespace,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PolicyRules {
    pub subjects: Vec<Subject>,
    pub resource_rules: Vec<ResourceRule>,
    pub non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Subject {
    pub user: Option<Named>,
    pub group: Option<Named>,
    pub service_account: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ResourceRule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub cluster_scope: bool,
    pub namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NonResourceRule {
    pub verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

/// A level's shares; what they come to in seats depends on all levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PriorityLevel {
    pub uid: Arc<str>,
    /// `None`: its requests wait for nobody.
    pub limited: Option<Limited>,
    /// Seats that an exempt level's share takes from the others.
    pub exempt_shares: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Limited {
    pub nominal_concurrency_shares: u32,
    pub lendable_percent: u32,
    /// `None`: as much as there is.
    pub borrowing_limit_percent: Option<u32>,
    pub limit_response: LimitResponse,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct LimitResponse {
    #[serde(rename = "type")]
    pub kind: String,
    pub queuing: Option<Queuing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Queuing {
    pub queues: usize,
    pub hand_size: usize,
    pub queue_length_limit: usize,
}

impl Default for Limited {
    fn default() -> Self {
        Self { nominal_concurrency_shares: 30, lendable_percent: 0, borrowing_limit_percent: None, limit_response: LimitResponse::default() }
    }
}

impl Default for Queuing {
    fn default() -> Self {
        Self { queues: 64, hand_size: 8, queue_length_limit: 50 }
    }
}

impl Limited {
    pub fn queuing(&self) -> Option<Queuing> {
        (self.limit_response.kind == "Queue").then(|| self.limit_response.queuing.clone().unwrap_or_default())
    }
}

impl Configuration {
    /// What is in force where these objects are; objects that don't parse are none, which validation keeps from being stored.
    pub fn of<'a>(schemas: impl IntoIterator<Item = &'a Value>, levels: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut levels: BTreeMap<String, PriorityLevel> = levels.into_iter().filter_map(level).collect();
        levels.entry(EXEMPT.into()).or_insert_with(|| PriorityLevel { uid: Arc::default(), limited: None, exempt_shares: 0 });
        let catch_all = Limited { nominal_concurrency_shares: 5, ..Limited::default() };
        levels.entry(CATCH_ALL.into()).or_insert_with(|| PriorityLevel { uid: Arc::default(), limited: Some(catch_all), exempt_shares: 0 });
        let mut schemas: Vec<FlowSchema> = schemas.into_iter().filter_map(schema).collect();
        for mandatory in mandatory().iter().filter_map(schema) {
            if !schemas.iter().any(|schema| schema.name == mandatory.name) {
                schemas.push(mandatory);
            }
        }
        // A schema whose level is not there is dangling, and takes no part.
        schemas.retain(|schema| levels.contains_key(&schema.level));
        schemas.sort_by(|one, other| (one.precedence, &one.name).cmp(&(other.precedence, &other.name)));
        Self { schemas: schemas.into_iter().map(Arc::new).collect(), levels }
    }
}

fn metadata(object: &Value) -> Option<Metadata> {
    Metadata::deserialize(object.get("metadata")?).ok()
}

fn schema(object: &Value) -> Option<FlowSchema> {
    let Metadata { name, uid } = metadata(object)?;
    let spec = object.get("spec")?;
    let distinguisher = match spec.pointer("/distinguisherMethod/type").and_then(Value::as_str) {
        Some("ByUser") => Distinguisher::ByUser,
        Some("ByNamespace") => Distinguisher::ByNamespace,
        _ => Distinguisher::None,
    };
    let rules = spec.get("rules").map(Vec::<PolicyRules>::deserialize).transpose().ok()?.unwrap_or_default();
    let level = spec.pointer("/priorityLevelConfiguration/name")?.as_str()?.to_owned();
    let precedence = spec.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(1000);
    Some(FlowSchema { name, uid, precedence, level, distinguisher, rules })
}

fn level(object: &Value) -> Option<(String, PriorityLevel)> {
    let Metadata { name, uid } = metadata(object)?;
    let spec = object.get("spec")?;
    let limited = match spec.get("type")?.as_str()? {
        "Limited" => Some(spec.get("limited").map(Limited::deserialize).transpose().ok()?.unwrap_or_default()),
        _ => None,
    };
    let shares = spec.pointer("/exempt/nominalConcurrencyShares").and_then(Value::as_u64).unwrap_or_default();
    Some((name, PriorityLevel { uid: uid.into(), limited, exempt_shares: u32::try_from(shares).unwrap_or(u32::MAX) }))
}

fn mandatory() -> [Value; 2] {
    let everything = json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] }]);
    let everywhere = json!([{ "verbs": ["*"], "nonResourceURLs": ["*"] }]);
    let schema = |name: &str, precedence: u32, by: Value, groups: &[&str]| {
        let subjects: Vec<Value> = groups.iter().map(|group| json!({ "kind": "Group", "group": { "name": group } })).collect();
        json!({ "metadata": { "name": name }, "spec": {
            "priorityLevelConfiguration": { "name": name }, "matchingPrecedence": precedence, "distinguisherMethod": by,
            "rules": [{ "subjects": subjects, "resourceRules": everything, "nonResourceRules": everywhere }],
        } })
    };
    [
        schema(EXEMPT, 1, Value::Null, &[api_auth::MASTERS]),
        schema(CATCH_ALL, 10_000, json!({ "type": "ByUser" }), &[api_auth::UNAUTHENTICATED, api_auth::AUTHENTICATED]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_there_is_there_and_what_dangles_is_not() {
        let empty = Configuration::of([], []);
        assert_eq!(empty.schemas.iter().map(|schema| schema.name.as_str()).collect::<Vec<_>>(), ["exempt", "catch-all"]);
        let dangling = json!({ "metadata": { "name": "x" }, "spec": { "priorityLevelConfiguration": { "name": "gone" } } });
        let late = json!({ "metadata": { "name": "late" }, "spec": { "priorityLevelConfiguration": { "name": "exempt" }, "matchingPrecedence": 9000 } });
        let early = json!({ "metadata": { "name": "early" }, "spec": { "priorityLevelConfiguration": { "name": "exempt" } } });
        let names = Configuration::of([&dangling, &late, &early], []);
        assert_eq!(names.schemas.iter().map(|schema| schema.name.as_str()).collect::<Vec<_>>(), ["exempt", "early", "late", "catch-all"]);
    }

    #[test]
    fn levels_are_read_with_upstreams_defaults() {
        let object = json!({ "metadata": { "name": "x", "uid": "u" }, "spec": { "type": "Limited", "limited": {
            "nominalConcurrencyShares": 7, "limitResponse": { "type": "Queue", "queuing": { "queues": 3 } } } } });
        let (name, level) = level(&object).unwrap();
        let limited = level.limited.unwrap();
        assert_eq!((name.as_str(), limited.nominal_concurrency_shares), ("x", 7));
        assert_eq!(limited.queuing(), Some(Queuing { queues: 3, hand_size: 8, queue_length_limit: 50 }));
    }
}
