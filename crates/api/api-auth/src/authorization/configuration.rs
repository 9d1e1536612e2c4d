//! AuthorizationConfiguration: which authorizers are asked, in which order (KEP-3221); what may be written there.
//!
//! Source of the rules and their words: apiserver's `pkg/apis/apiserver/validation` and `pkg/kubeapiserver/options`.
use super::conditions::Conditions;
use crate::configuration_file::{aggregated, decoded};
use api_meta::{FieldError, FieldErrors, FieldPath, names};
use jiff::SignedDuration;
use serde::Deserialize;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All but ABAC, whose policy comes from a file of its own that this server does not read.
const TYPES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizationConfiguration {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    authorizers: Vec<Authorizer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Authorizer {
    r#type: String,
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Webhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: String,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: String,
    cache_authorized_requests: bool,
    cache_unauthorized_requests: bool,
    timeout: String,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: ConnectionInfo,
    match_conditions: Vec<MatchCondition>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            authorized_ttl: "5m".into(),
            unauthorized_ttl: "30s".into(),
            cache_authorized_requests: true,
            cache_unauthorized_requests: true,
            timeout: String::new(),
            subject_access_review_version: String::new(),
            match_condition_subject_access_review_version: String::new(),
            failure_policy: String::new(),
            connection_info: ConnectionInfo::default(),
            match_conditions: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConnectionInfo {
    r#type: String,
    kube_config_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MatchCondition {
    expression: String,
}

/// One authorizer, as it was checked.
#[derive(Debug)]
pub(crate) struct Configured {
    pub name: String,
    pub mode: Mode,
}

#[derive(Debug)]
pub(crate) enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(Box<WebhookSettings>),
}

#[derive(Debug)]
pub(crate) struct WebhookSettings {
    pub kubeconfig: PathBuf,
    pub timeout: Duration,
    /// Zero for what is not remembered.
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// Whether no answer is a refusal, or leaves it to those who come after.
    pub fails_closed: bool,
    pub conditions: Conditions,
}

impl Mode {
    pub fn name(&self) -> &'static str {
        match self {
            Self::AlwaysAllow => "AlwaysAllow",
            Self::AlwaysDeny => "AlwaysDeny",
            Self::Node => "Node",
            Self::Rbac => "RBAC",
            Self::Webhook(_) => "Webhook",
        }
    }
}

/// The authorizers that a file's text names. `required`: those of the server's start that have to stay.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn configured(text: &str, required: &BTreeSet<&'static str>) -> Result<Vec<Configured>, String> {
    let configuration: AuthorizationConfiguration = decoded(text, "AuthorizationConfiguration")?;
    let mut errors = FieldErrors::new();
    let root = FieldPath::new("authorizers");
    if configuration.authorizers.is_empty() {
        errors.push(FieldError::required(&root, "at least one authorization mode must be defined"));
    }
    let (mut types, mut seen_names, mut all) = (HashSet::new(), HashSet::new(), Vec::new());
    for (index, authorizer) in configuration.authorizers.iter().enumerate() {
        let path = root.index(index);
        let (of_type, kind, name) = (path.child("type"), authorizer.r#type.as_str(), authorizer.name.as_str());
        if kind.is_empty() {
            errors.push(FieldError::required(&of_type, ""));
            continue;
        }
        if !TYPES.contains(&kind) {
            errors.push(FieldError::not_supported(&of_type, kind, &TYPES));
            continue;
        }
        if !types.insert(kind) && kind != "Webhook" {
            errors.push(FieldError::duplicate(&of_type, kind));
            continue;
        }
        let of_name = path.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&of_name, ""));
        } else if seen_names.contains(name) {
            errors.push(FieldError::duplicate(&of_name, name));
        } else {
            let wrong = names::dns1123_subdomain(name);
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(&of_name, name, format!("authorizer name is invalid: {}", wrong.join(", "))));
            }
        }
        seen_names.insert(name);
        let mode = match (kind, &authorizer.webhook) {
            ("Webhook", None) => {
                errors.push(FieldError::required(&path.child("webhook"), "required when type=Webhook"));
                continue;
            }
            ("Webhook", Some(webhook)) => Mode::Webhook(Box::new(checked_webhook(webhook, &path, &mut errors))),
            (kind, webhook) => {
                if webhook.is_some() {
                    errors.push(FieldError::invalid(&path.child("webhook"), "non-null", "may only be specified when type=Webhook"));
                }
                match kind {
                    "AlwaysAllow" => Mode::AlwaysAllow,
                    "AlwaysDeny" => Mode::AlwaysDeny,
                    "Node" => Mode::Node,
                    _ => Mode::Rbac,
                }
            }
        };
        all.push(Configured { name: name.to_owned(), mode });
    }
    crate::configuration_file::checked(&errors)?;
    let own = all.iter().filter(|authorizer| !matches!(authorizer.mode, Mode::Webhook(_)));
    let misnamed = own.clone().filter(|authorizer| authorizer.name != authorizer.mode.name().to_lowercase()).map(|authorizer| {
        let kind = authorizer.mode.name();
        format!("expected name {} for authorizer {kind} instead of {}", kind.to_lowercase(), authorizer.name)
    });
    let present: BTreeSet<&str> = own.clone().map(|authorizer| authorizer.mode.name()).collect();
    let missing: Vec<&str> = required.iter().copied().filter(|kind| !present.contains(kind)).collect();
    let missing = (!missing.is_empty()).then(|| format!("missing required types: [{}]", missing.join(" ")));
    aggregated(misnamed.chain(missing))?;
    Ok(all)
}

fn checked_webhook(webhook: &Webhook, path: &FieldPath, errors: &mut FieldErrors) -> WebhookSettings {
    let mut positive = |field: &str, text: &str, most: Option<Duration>| {
        let path = path.child(field);
        let parsed = if text == "0" { Some(SignedDuration::ZERO) } else { text.parse::<SignedDuration>().ok() };
        let must = if most.is_some() { "must be > 0s and <= 30s" } else { "must be > 0s" };
        match parsed {
            _ if text.is_empty() => errors.push(FieldError::required(&path, "")),
            None => errors.push(FieldError::invalid(&path, text, format!("time: invalid duration {text:?}"))),
            Some(SignedDuration::ZERO) => errors.push(FieldError::required(&path, "")),
            Some(duration) => match Duration::try_from(duration) {
                Ok(duration) if most.is_none_or(|most| duration <= most) => return duration,
                _ => errors.push(FieldError::invalid(&path, text, must)),
            },
        }
        Duration::ZERO
    };
    let timeout = positive("timeout", &webhook.timeout, Some(LONGEST_TIMEOUT));
    let authorized = positive("authorizedTTL", &webhook.authorized_ttl, None);
    let unauthorized = positive("unauthorizedTTL", &webhook.unauthorized_ttl, None);
    let mut one_of = |field: &str, value: &str, supported: &[&str], needed: Option<&str>| {
        let path = path.child(field);
        match (value, needed) {
            ("", Some(why)) => errors.push(FieldError::required(&path, why)),
            ("", None) => {}
            (value, _) if supported.contains(&value) => {}
            (value, _) => errors.push(FieldError::not_supported(&path, value, supported)),
        }
    };
    one_of("subjectAccessReviewVersion", &webhook.subject_access_review_version, &["v1", "v1beta1"], Some(""));
    let needed = (!webhook.match_conditions.is_empty()).then_some("required if match conditions are specified");
    one_of("matchConditionSubjectAccessReviewVersion", &webhook.match_condition_subject_access_review_version, &["v1"], needed);
    one_of("failurePolicy", &webhook.failure_policy, &["NoOpinion", "Deny"], Some(""));
    let expressions = webhook.match_conditions.iter().map(|condition| condition.expression.as_str());
    WebhookSettings {
        kubeconfig: connection(&webhook.connection_info, &path.child("connectionInfo"), errors),
        timeout,
        authorized_ttl: if webhook.cache_authorized_requests { authorized } else { Duration::ZERO },
        unauthorized_ttl: if webhook.cache_unauthorized_requests { unauthorized } else { Duration::ZERO },
        version: webhook.subject_access_review_version.clone(),
        fails_closed: webhook.failure_policy == "Deny",
        conditions: Conditions::compile(expressions, &path.child("matchConditions"), errors),
    }
}

fn connection(info: &ConnectionInfo, path: &FieldPath, errors: &mut FieldErrors) -> PathBuf {
    let of_file = path.child("kubeConfigFile");
    let file = info.kube_config_file.as_deref().unwrap_or_default();
    match info.r#type.as_str() {
        "" => errors.push(FieldError::required(&path.child("type"), "")),
        "InClusterConfig" if info.kube_config_file.is_some() => {
            errors.push(FieldError::invalid(&of_file, file, "can only be set when type=KubeConfigFile"));
        }
        // There is no pod around this server to have such a configuration from.
        "InClusterConfig" => errors.push(FieldError::invalid(&path.child("type"), "InClusterConfig", "this server runs in no cluster")),
        "KubeConfigFile" if file.is_empty() => errors.push(FieldError::required(&of_file, "")),
        "KubeConfigFile" if !Path::new(file).is_absolute() => errors.push(FieldError::invalid(&of_file, file, "must be an absolute path")),
        "KubeConfigFile" => match std::fs::metadata(file) {
            Err(error) => errors.push(FieldError::invalid(&of_file, file, format!("error loading file: {error}"))),
            Ok(found) if !found.is_file() => errors.push(FieldError::invalid(&of_file, file, "must be a regular file")),
            Ok(_) => {}
        },
        other => errors.push(FieldError::not_supported(&path.child("type"), other, &["InClusterConfig", "KubeConfigFile"])),
    }
    file.into()
}
