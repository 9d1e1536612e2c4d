//! Metrics that others know: of pods and other objects (custom.metrics.k8s.io), or of nothing in the cluster (external.metrics.k8s.io).
use super::facts::{PodUsage, milli};
use super::replicas::{Measured, Proposal, Target, Tolerances, propose};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus,
    PodsMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The versions of custom.metrics.k8s.io that are understood, the best first.
pub const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

/// What is asked about one metric of an autoscaler.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Of each pod the target's selector selects.
    Pods {
        metric: String,
        selector: String,
        pods: String,
    },
    /// Of one object.
    Object {
        kind: String,
        api_version: String,
        name: String,
        metric: String,
        selector: String,
    },
    External {
        metric: String,
        selector: String,
    },
}

/// A value, and whose it is; in thousandths.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub of: String,
    pub value: i64,
    pub timestamp: Timestamp,
    pub window: Duration,
}

pub type Answer = Result<Vec<Value>, String>;

impl Question {
    /// What a metric of this kind needs; `None` for those of metrics.k8s.io. `pods`: the selector of the target's pods.
    pub fn of(metric: &MetricSpec, pods: &str) -> Option<Self> {
        let selector = |identifier: &MetricIdentifier| identifier.selector.as_ref().map(written).unwrap_or_default();
        if let Some(source) = &metric.pods {
            return Some(Self::Pods { metric: source.metric.name.clone(), selector: selector(&source.metric), pods: pods.to_owned() });
        }
        if let Some(source) = &metric.object {
            let CrossVersionObjectReference { kind, name, api_version } = source.described_object.clone();
            let api_version = api_version.unwrap_or_default();
            return Some(Self::Object { kind, api_version, name, metric: source.metric.name.clone(), selector: selector(&source.metric) });
        }
        let source = metric.external.as_ref()?;
        Some(Self::External { metric: source.metric.name.clone(), selector: selector(&source.metric) })
    }

    pub fn is_external(&self) -> bool {
        matches!(self, Self::External { .. })
    }

    /// Where to ask. `version` of the API; `resource` of the object (`deployments.apps`).
    pub fn path(&self, namespace: &str, version: &str, resource: &str) -> String {
        let query = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
            let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
            if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
        };
        let part = |text: &str| text.replace('%', "%25").replace('/', "%2F").replace('?', "%3F").replace('#', "%23");
        let custom = format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}");
        match self {
            Self::Pods { metric, selector, pods } => {
                format!("{custom}/pods/*/{}{}", part(metric), query(&[("labelSelector", pods), ("metricLabelSelector", selector)]))
            }
            Self::Object { kind, metric, selector, .. } if kind == "Namespace" => {
                format!("{custom}/metrics/{}{}", part(metric), query(&[("metricLabelSelector", selector)]))
            }
            Self::Object { name, metric, selector, .. } => {
                format!("{custom}/{resource}/{name}/{}{}", part(metric), query(&[("metricLabelSelector", selector)]))
            }
            Self::External { metric, selector } => {
                format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}{}", part(metric), query(&[("labelSelector", selector)]))
            }
        }
    }
}

/// A selector as queries write it: what has no meaning selects nothing that is there.
fn written(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let (key, values) = (&expression.key, expression.values.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(","));
        match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

/// MetricValueList of custom.metrics.k8s.io in either version, or ExternalMetricValueList.
#[derive(Deserialize)]
pub struct ValueList {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(default)]
    described_object: Option<Described>,
    timestamp: Option<Timestamp>,
    #[serde(default, alias = "window")]
    window_seconds: Option<u64>,
    value: WireQuantity,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    name: String,
}

impl ValueList {
    pub fn values(self, now: Timestamp) -> Vec<Value> {
        let value = |item: Item| {
            Some(Value {
                of: item.described_object.map(|object| object.name).unwrap_or_default(),
                value: milli(&item.value)?,
                timestamp: item.timestamp.unwrap_or(now),
                window: Duration::from_secs(item.window_seconds.unwrap_or(60)),
            })
        };
        self.items.into_iter().filter_map(value).collect()
    }
}

/// The scale as it is, and whose it is.
pub struct Scaled<'a> {
    pub wanted: i32,
    /// As the target's status has it.
    pub running: i32,
    pub pods: &'a [Arc<Pod>],
    pub tolerances: Tolerances,
    pub now: Timestamp,
}

/// How many replicas a metric asks for, what it is called, and what the status shows of it.
///
/// # Errors
/// In upstream's words.
pub fn decide(metric: &MetricSpec, answer: &Answer, scaled: &Scaled<'_>) -> Result<(i32, String, MetricStatus), String> {
    let plain = MetricStatus { type_: metric.type_.clone(), ..MetricStatus::default() };
    if let Some(source) = &metric.pods {
        let name = &source.metric.name;
        let values = found(answer).map_err(|why| format!("unable to get metric {name}: {why}"))?;
        let target = average(&source.target).ok_or("invalid pods metric source: no average value was set")?;
        let Proposal { replicas, average, .. } = of_pods(values, target, scaled)?;
        let status = PodsMetricStatus { metric: source.metric.clone(), current: shown(None, Some(average)) };
        return Ok((replicas, format!("pods metric {name}"), MetricStatus { pods: Some(status), ..plain }));
    }
    if let Some(source) = &metric.object {
        let (name, object) = (&source.metric.name, &source.described_object);
        let told = |why: String| format!("unable to get metric {name}: {} on {} {}", object.kind, object.name, why);
        let value = found(answer).map_err(told)?.iter().map(|value| value.value).sum();
        let (replicas, current) = of_value(value, &source.target, scaled).map_err(|why| why.replace("{}", "object"))?;
        let status = ObjectMetricStatus { metric: source.metric.clone(), described_object: object.clone(), current };
        return Ok((replicas, format!("{} metric {name}", object.kind), MetricStatus { object: Some(status), ..plain }));
    }
    let source = metric.external.as_ref().ok_or_else(|| format!("unknown metric source type {:?}", metric.type_))?;
    let (name, selector) = (&source.metric.name, source.metric.selector.as_ref().map(written).unwrap_or_default());
    let values = found(answer).map_err(|why| format!("unable to get external metric {name}/{selector}: {why}"))?;
    let (replicas, current) = of_value(values.iter().map(|value| value.value).sum(), &source.target, scaled).map_err(|why| why.replace("{}", "external"))?;
    let status = ExternalMetricStatus { metric: source.metric.clone(), current };
    Ok((replicas, format!("external metric {name}({selector})"), MetricStatus { external: Some(status), ..plain }))
}

fn found(answer: &Answer) -> Result<&[Value], String> {
    match answer {
        Ok(values) if values.is_empty() => Err("no metrics returned from the metrics API".into()),
        Ok(values) => Ok(values),
        Err(why) => Err(why.clone()),
    }
}

fn average(target: &MetricTarget) -> Option<i64> {
    target.average_value.as_ref().and_then(milli)
}

/// A metric of pods is like a resource they use, but for the processor's start.
fn of_pods(values: &[Value], target: i64, scaled: &Scaled<'_>) -> Result<Proposal, String> {
    const METRIC: &str = "metric";
    if scaled.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let usage = values.iter().map(|value| {
        let of_container = BTreeMap::from([(METRIC.to_owned(), value.value)]);
        (value.of.clone(), PodUsage { timestamp: value.timestamp, window: value.window, containers: BTreeMap::from([(String::new(), of_container)]) })
    });
    let usage = usage.collect();
    let measured = Measured {
        replicas: scaled.wanted,
        pods: scaled.pods,
        usage: &usage,
        resource: METRIC,
        container: None,
        tolerances: scaled.tolerances,
        now: scaled.now,
    };
    propose(&measured, Target::AverageValue(target))
}

/// One value for the whole target: to be kept itself, or for each replica.
fn of_value(value: i64, target: &MetricTarget, scaled: &Scaled<'_>) -> Result<(i32, MetricValueStatus), String> {
    if let Some(wanted) = target.value.as_ref().and_then(milli) {
        let ratio = value as f64 / wanted.max(1) as f64;
        if scaled.tolerances.allow(ratio) {
            return Ok((scaled.wanted, shown(Some(value), None)));
        }
        let ready = scaled.pods.iter().filter(|pod| is_ready(pod)).count();
        if scaled.pods.is_empty() {
            return Err("unable to calculate ready pods: no pods returned by selector while calculating replica count".into());
        }
        return Ok((ceil(ratio * ready as f64), shown(Some(value), None)));
    }
    let Some(wanted) = average(target) else {
        return Err("invalid {} metric source: neither a value target nor an average value target was set".into());
    };
    let running = f64::from(scaled.running);
    let ratio = value as f64 / (wanted.max(1) as f64 * running);
    let replicas = if scaled.tolerances.allow(ratio) { scaled.running } else { ceil(value as f64 / wanted.max(1) as f64) };
    let each = if scaled.running > 0 { (value as f64 / running).ceil() as i64 } else { value };
    Ok((replicas, shown(None, Some(each))))
}

fn ceil(value: f64) -> i32 {
    value.ceil() as i32
}

fn is_ready(pod: &Pod) -> bool {
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    running && crate::pods::is_ready(pod)
}

fn shown(value: Option<i64>, average: Option<i64>) -> MetricValueStatus {
    let quantity = |milli: i64| WireQuantity(api_meta::Quantity::from_millis(milli).to_string());
    MetricValueStatus { average_utilization: None, average_value: average.map(quantity), value: value.map(quantity) }
}
