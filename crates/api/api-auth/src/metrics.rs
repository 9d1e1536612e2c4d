//! Metrics of authentication and authorization, by upstream's names.
use crate::remembered::hash_label;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::LazyLock;
use std::time::Duration;
use telemetry::metrics::register;

/// From a millisecond to ten seconds.
const LATENCIES: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histograms<L: Clone + std::hash::Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor(|| Histogram::new(LATENCIES))
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct JwtLabels {
    result: &'static str,
    jwt_issuer_hash: String,
}

static JWT: LazyLock<Histograms<JwtLabels>> = LazyLock::new(|| {
    let family = histograms();
    let help = "Latency of jwt authentication operations in seconds. This is the time spent authenticating a token for cache miss only (i.e. when the token is not found in the cache)";
    register("apiserver_authentication_jwt_authenticator_latency_seconds", help, Histograms::clone(&family));
    family
});

/// A token was looked at that is not remembered.
pub(crate) fn jwt_latency(issuer: &str, good: bool, took: Duration) {
    let labels = JwtLabels { result: if good { "success" } else { "failure" }, jwt_issuer_hash: hash_label(issuer) };
    JWT.get_or_create(&labels).observe(took.as_secs_f64());
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DecisionLabels {
    r#type: String,
    name: String,
    decision: &'static str,
}

static DECISIONS: LazyLock<Family<DecisionLabels, Counter>> = LazyLock::new(|| {
    let family = Family::default();
    register(
        "apiserver_authorization_decisions",
        "Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision",
        Family::clone(&family),
    );
    family
});

/// How often one authorizer has had the last word.
#[derive(Debug)]
pub(crate) struct Decisions {
    pub allowed: Counter,
    pub denied: Counter,
}

impl Decisions {
    pub fn of(authorizer: &str, name: &str) -> Self {
        let counter = |decision| DECISIONS.get_or_create_owned(&DecisionLabels { r#type: authorizer.into(), name: name.into(), decision });
        Self { allowed: counter("allowed"), denied: counter("denied") }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WebhookLabels {
    name: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConditionLabels {
    r#type: &'static str,
    name: String,
}

struct WebhookMetrics {
    evaluations: Family<WebhookLabels, Counter>,
    durations: Histograms<WebhookLabels>,
    fail_open: Family<WebhookLabels, Counter>,
    condition_errors: Family<ConditionLabels, Counter>,
    exclusions: Family<ConditionLabels, Counter>,
    condition_seconds: Histograms<ConditionLabels>,
}

static WEBHOOKS: LazyLock<WebhookMetrics> = LazyLock::new(|| {
    let all = WebhookMetrics {
        evaluations: Family::default(),
        durations: histograms(),
        fail_open: Family::default(),
        condition_errors: Family::default(),
        exclusions: Family::default(),
        condition_seconds: histograms(),
    };
    register("apiserver_authorization_webhook_evaluations", "Round-trips to authorization webhooks", all.evaluations.clone());
    register("apiserver_authorization_webhook_duration_seconds", "Request latency in seconds", all.durations.clone());
    register("apiserver_authorization_webhook_evaluations_fail_open", "NoOpinion results due to webhook timeout or error", all.fail_open.clone());
    register(
        "apiserver_authorization_match_condition_evaluation_errors",
        "Total number of errors when an authorization webhook encounters a match condition error split by authorizer type and name",
        all.condition_errors.clone(),
    );
    register(
        "apiserver_authorization_match_condition_exclusions",
        "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it",
        all.exclusions.clone(),
    );
    register(
        "apiserver_authorization_match_condition_evaluation_seconds",
        "Authorization match condition evaluation time in seconds, split by authorizer type and name",
        all.condition_seconds.clone(),
    );
    all
});

/// What came of asking an authorization webhook: `success`, `timeout` or `error`.
pub(crate) fn webhook_asked(name: &str, result: &'static str, took: Duration, fails_open: bool) {
    let labels = WebhookLabels { name: name.to_owned(), result };
    WEBHOOKS.evaluations.get_or_create(&labels).inc();
    WEBHOOKS.durations.get_or_create(&labels).observe(took.as_secs_f64());
    if result != "success" && fails_open {
        WEBHOOKS.fail_open.get_or_create(&labels).inc();
    }
}

/// What match conditions came to: whether they hold, or that they could not be evaluated.
pub(crate) fn conditions_evaluated(name: &str, held: Option<bool>, took: Duration) {
    let labels = ConditionLabels { r#type: "Webhook", name: name.to_owned() };
    WEBHOOKS.condition_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    match held {
        Some(true) => {}
        Some(false) => drop(WEBHOOKS.exclusions.get_or_create(&labels).inc()),
        None => drop(WEBHOOKS.condition_errors.get_or_create(&labels).inc()),
    }
}
