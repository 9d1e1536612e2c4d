//! ApiArguments: `--kube-apiserver-arg`, by the names upstream's API server has for them.
use crate::review_webhook::RemoteAudit;
use anyhow::{Context, Result, anyhow};
use api_admission::AdmissionChain;
use api_server::audit::{Audit, LogFile, LogFileSettings, Mode, Policy, Webhook, WebhookSettings};
use api_server::{ConfigurationFile, SecretsEncryption, ServerOptions};
use clock::Clock;
use jiff::SignedDuration;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::CompactionPolicy;

/// What can be set, and what it is unless set.
#[derive(Debug, PartialEq)]
pub struct ApiArguments {
    /// `etcd-compaction-interval`; history is kept for two intervals. `None` keeps it for ever.
    pub compaction: Option<CompactionPolicy>,
    /// `audit-policy-file`; nothing is recorded without.
    pub audit_policy: Option<PathBuf>,
    /// `audit-log-path`, `-maxage`, `-maxbackup`, `-maxsize`.
    pub audit_log: LogFileSettings,
    /// Whether `audit-log-path` is set: what is posted need not be logged.
    pub audit_log_wanted: bool,
    /// `audit-webhook-config-file`; nothing is posted without.
    pub audit_webhook: Option<PathBuf>,
    /// `audit-webhook-mode`, `-initial-backoff`, `-batch-*`.
    pub audit_posting: WebhookSettings,
    /// `audit-webhook-batch-throttle-enable`, `-qps`, `-burst`.
    pub audit_throttle: (bool, f64, u32),
    pub priority_and_fairness: bool,
    pub max_reads: usize,
    pub max_changes: usize,
    pub event_ttl: Duration,
    pub request_timeout: Duration,
    pub least_watch: Duration,
    pub extend_tokens: bool,
    pub longest_token: Option<Duration>,
    /// `service-account-issuer`; the cluster's own unless set.
    pub issuer: Option<String>,
    /// `api-audiences`; the issuer unless set.
    pub audiences: Vec<String>,
    /// `service-account-jwks-uri`; this server's own unless set.
    pub jwks_uri: Option<String>,
    pub authentication_config: Option<PathBuf>,
    pub authorization_config: Option<PathBuf>,
    pub token_webhook: Option<PathBuf>,
    pub token_webhook_ttl: Duration,
    /// `enable-admission-plugins`, besides those that are on by default.
    pub enabled_plugins: Vec<String>,
    /// `disable-admission-plugins`.
    pub disabled_plugins: Vec<String>,
}

impl Default for ApiArguments {
    fn default() -> Self {
        let server = ServerOptions::default();
        Self {
            compaction: Some(CompactionPolicy::default()),
            audit_policy: None,
            audit_log: LogFileSettings { path: "-".into(), max_age: 0, max_backups: 0, max_size: 0 },
            audit_log_wanted: false,
            audit_webhook: None,
            audit_posting: WebhookSettings::default(),
            audit_throttle: (true, 10.0, 15),
            priority_and_fairness: server.priority_and_fairness,
            max_reads: server.max_reads,
            max_changes: server.max_changes,
            event_ttl: server.event_ttl,
            request_timeout: server.request_timeout,
            least_watch: server.least_watch,
            extend_tokens: server.extend_tokens,
            longest_token: server.longest_token,
            issuer: None,
            audiences: Vec::new(),
            jwks_uri: None,
            authentication_config: None,
            authorization_config: None,
            token_webhook: None,
            token_webhook_ttl: Duration::from_secs(120),
            enabled_plugins: Vec::new(),
            disabled_plugins: Vec::new(),
        }
    }
}

impl ApiArguments {
    pub fn of(arguments: &[(String, String)]) -> Result<Self> {
        let mut parsed = Self::default();
        for (name, value) in arguments {
            parsed.set(name, value).with_context(|| format!("kube-apiserver-arg {name}={value}"))?;
        }
        if parsed.audit_policy.is_none() && parsed.audit_log != Self::default().audit_log {
            return Err(anyhow!("kube-apiserver-arg audit-log-path: there is nothing to log without audit-policy-file"));
        }
        if parsed.audit_policy.is_none() && parsed.audit_webhook.is_some() {
            return Err(anyhow!("kube-apiserver-arg audit-webhook-config-file: there is nothing to post without audit-policy-file"));
        }
        let (throttled, rate, burst) = parsed.audit_throttle;
        parsed.audit_posting.throttle = throttled.then_some((rate, burst));
        // Names nobody knows are told before anything starts.
        parsed.admission()?;
        Ok(parsed)
    }

    /// Upstream's plugins, with those turned on and off.
    pub fn admission(&self) -> Result<AdmissionChain> {
        AdmissionChain::upstream_defaults().with(&self.enabled_plugins, &self.disabled_plugins).map_err(|why| anyhow!("kube-apiserver-arg {why}"))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let path = || if value.is_empty() { Err(anyhow!("it must not be empty")) } else { Ok(PathBuf::from(value)) };
        match name {
            "etcd-compaction-interval" => {
                let every = duration(value)?;
                self.compaction = (!every.is_zero()).then(|| CompactionPolicy { every, keep: every * 2 });
            }
            "audit-policy-file" => self.audit_policy = Some(path()?),
            "audit-log-path" => {
                self.audit_log.path = path()?;
                self.audit_log_wanted = true;
            }
            "audit-log-maxage" => self.audit_log.max_age = value.parse()?,
            "audit-log-maxbackup" => self.audit_log.max_backups = value.parse()?,
            "audit-log-maxsize" => self.audit_log.max_size = value.parse()?,
            "audit-webhook-config-file" => self.audit_webhook = Some(path()?),
            "audit-webhook-mode" => {
                self.audit_posting.mode = match value {
                    "batch" => Mode::Batch,
                    "blocking" => Mode::Blocking,
                    "blocking-strict" => Mode::BlockingStrict,
                    _ => return Err(anyhow!("invalid audit webhook mode {value}, allowed modes are batch,blocking,blocking-strict")),
                }
            }
            "audit-webhook-initial-backoff" => self.audit_posting.initial_backoff = short(value)?,
            "audit-webhook-batch-buffer-size" => self.audit_posting.buffer = positive(value)?,
            "audit-webhook-batch-max-size" => self.audit_posting.largest = positive(value)?,
            "audit-webhook-batch-max-wait" => self.audit_posting.longest_wait = some(short(value)?)?,
            "audit-webhook-batch-throttle-enable" => self.audit_throttle.0 = value.parse()?,
            "audit-webhook-batch-throttle-qps" => {
                let rate: f64 = value.parse()?;
                if !(rate.is_finite() && rate > 0.0) {
                    return Err(anyhow!("invalid audit batch throttle QPS {value}, must be a positive number"));
                }
                self.audit_throttle.1 = rate;
            }
            "audit-webhook-batch-throttle-burst" => self.audit_throttle.2 = u32::try_from(positive(value)?)?,
            "audit-webhook-version" if value == "audit.k8s.io/v1" => {}
            "audit-webhook-version" => return Err(anyhow!("only audit.k8s.io/v1 is spoken")),
            "enable-priority-and-fairness" => self.priority_and_fairness = value.parse()?,
            "max-requests-inflight" => self.max_reads = value.parse()?,
            "max-mutating-requests-inflight" => self.max_changes = value.parse()?,
            "event-ttl" => self.event_ttl = some(duration(value)?)?,
            "request-timeout" => self.request_timeout = some(duration(value)?)?,
            "min-request-timeout" => self.least_watch = some(Duration::from_secs(value.parse()?))?,
            "service-account-extend-token-expiration" => self.extend_tokens = value.parse()?,
            "service-account-max-token-expiration" => {
                let longest = duration(value)?;
                if !(Duration::from_secs(3600)..=Duration::from_secs(1 << 32)).contains(&longest) {
                    return Err(anyhow!("the service-account-max-token-expiration must be between 1 hour and 2^32 seconds"));
                }
                self.longest_token = Some(longest);
            }
            "service-account-issuer" => self.issuer = Some(value.to_owned()).filter(|issuer| !issuer.is_empty()),
            "service-account-jwks-uri" => self.jwks_uri = Some(value.to_owned()).filter(|uri| !uri.is_empty()),
            "api-audiences" => self.audiences = value.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect(),
            "authentication-config" => self.authentication_config = Some(path()?),
            "authorization-config" => self.authorization_config = Some(path()?),
            "authentication-token-webhook-config-file" => self.token_webhook = Some(path()?),
            "authentication-token-webhook-cache-ttl" => self.token_webhook_ttl = duration(value)?,
            "authentication-token-webhook-version" if value == "v1" => {}
            "authentication-token-webhook-version" => return Err(anyhow!("only v1 is spoken")),
            "enable-admission-plugins" => self.enabled_plugins.extend(list(value)),
            "disable-admission-plugins" => self.disabled_plugins.extend(list(value)),
            _ => return Err(anyhow!("there is no such argument; there are {}", KNOWN.join(", "))),
        }
        Ok(())
    }

    /// What the API server is told of these.
    pub fn server_options(&self, audit: Option<Arc<Audit>>, encryption: Arc<dyn SecretsEncryption>) -> ServerOptions {
        ServerOptions {
            // What was read from these is told by who read it.
            authentication_config: None,
            authorization_config: None,
            // What is not upstream's is not told by its arguments.
            extension: None,
            front_proxy: None,
            encryption: Some(encryption),
            audit,
            priority_and_fairness: self.priority_and_fairness,
            max_reads: self.max_reads,
            max_changes: self.max_changes,
            event_ttl: self.event_ttl,
            request_timeout: self.request_timeout,
            least_watch: self.least_watch,
            extend_tokens: self.extend_tokens,
            longest_token: self.longest_token,
            // The server's own threads.
            behind: None,
        }
    }

    /// The configuration files, read.
    pub fn configuration_file(path: Option<&PathBuf>) -> Result<Option<ConfigurationFile>> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).with_context(|| format!("configuration file {path:?}"))?;
            Ok(ConfigurationFile { path: path.clone(), text })
        };
        path.map(read).transpose()
    }

    /// What is recorded: the log, opened, and the webhook, begun.
    pub async fn audit(&self, clock: Arc<dyn Clock>) -> Result<Option<Arc<Audit>>> {
        let Some(path) = &self.audit_policy else { return Ok(None) };
        let text = std::fs::read_to_string(path).with_context(|| format!("audit policy {path:?}"))?;
        let policy = Policy::parse(&text).with_context(|| format!("audit policy {path:?}"))?;
        let webhook = match &self.audit_webhook {
            Some(file) => Some(Webhook::start(Box::new(RemoteAudit::of_kubeconfig(file).await?), &self.audit_posting, clock.clone())),
            None => None,
        };
        let logs = self.audit_log_wanted || webhook.is_none();
        let log = if logs { Some(LogFile::open(self.audit_log.clone(), clock)?) } else { None };
        Ok(Some(Arc::new(Audit::new(policy, log, webhook))))
    }
}

fn list(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

const KNOWN: [&str; 34] = [
    "api-audiences",
    "audit-log-maxage",
    "audit-log-maxbackup",
    "audit-log-maxsize",
    "audit-log-path",
    "audit-policy-file",
    "audit-webhook-batch-buffer-size",
    "audit-webhook-batch-max-size",
    "audit-webhook-batch-max-wait",
    "audit-webhook-batch-throttle-burst",
    "audit-webhook-batch-throttle-enable",
    "audit-webhook-batch-throttle-qps",
    "audit-webhook-config-file",
    "audit-webhook-initial-backoff",
    "audit-webhook-mode",
    "audit-webhook-version",
    "authentication-config",
    "authentication-token-webhook-cache-ttl",
    "authentication-token-webhook-config-file",
    "authentication-token-webhook-version",
    "authorization-config",
    "disable-admission-plugins",
    "enable-admission-plugins",
    "enable-priority-and-fairness",
    "etcd-compaction-interval",
    "event-ttl",
    "max-mutating-requests-inflight",
    "max-requests-inflight",
    "min-request-timeout",
    "request-timeout",
    "service-account-extend-token-expiration",
    "service-account-issuer",
    "service-account-jwks-uri",
    "service-account-max-token-expiration",
];

fn some(duration: Duration) -> Result<Duration> {
    if duration.is_zero() { Err(anyhow!("it must not be zero")) } else { Ok(duration) }
}

fn positive(text: &str) -> Result<usize> {
    let number: usize = text.parse()?;
    if number == 0 { Err(anyhow!("it must be a positive number")) } else { Ok(number) }
}

/// A duration such as `90s` or `100ms`.
fn short(text: &str) -> Result<Duration> {
    let parsed: SignedDuration = if text == "0" { SignedDuration::ZERO } else { text.parse()? };
    Duration::try_from(parsed).map_err(|_| anyhow!("it must not be negative"))
}

/// A duration such as `90s` or `1h30m`, in whole seconds at least.
fn duration(text: &str) -> Result<Duration> {
    let parsed = short(text)?;
    if !parsed.is_zero() && parsed < Duration::from_secs(1) { Err(anyhow!("it must be a second at least")) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_durations_and_names_are_known() {
        let of = |name: &str, value: &str| ApiArguments::of(&[(name.to_owned(), value.to_owned())]);
        let every = |seconds: u64| Some(CompactionPolicy { every: Duration::from_secs(seconds), keep: Duration::from_secs(2 * seconds) });
        assert_eq!(of("etcd-compaction-interval", "1m30s").unwrap().compaction, every(90));
        assert_eq!(of("etcd-compaction-interval", "0").unwrap().compaction, None);
        let chain = of("enable-admission-plugins", "OwnerReferencesPermissionEnforcement,Priority").unwrap().admission().unwrap();
        assert!(chain.names().contains(&"OwnerReferencesPermissionEnforcement") && chain.names().last() == Some(&"ResourceQuota"));
        for (name, value) in [
            ("etcd-compaction-interval", "-1s"),
            ("etcd-compaction-interval", "1ms"),
            ("etcd-compaction-interval", "soon"),
            ("v", "4"),
            ("enable-admission-plugins", "Nope"),
            ("event-ttl", "0"),
            ("max-requests-inflight", "-1"),
            ("audit-log-path", "a.log"),
            ("audit-webhook-config-file", "a.yaml"),
            ("audit-webhook-mode", "sometimes"),
            ("audit-webhook-batch-throttle-qps", "0"),
            ("audit-webhook-batch-max-size", "0"),
        ] {
            assert!(of(name, value).is_err(), "{name}={value}");
        }
    }
}
