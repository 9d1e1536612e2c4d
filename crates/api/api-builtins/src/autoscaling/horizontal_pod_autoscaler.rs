//! HorizontalPodAutoscaler: scales a workload by its load.
use crate::cells::{NONE, UNSET, number};
use crate::check::{At, Report, resources};
use crate::fields::{Fill, Read};
use crate::quantities;
use api_meta::{FieldErrors, names};
use api_resource::{ALL, Column, Names, Resource, Row, STATUS, Subresource, Versions, WriteContext, text};
use serde_json::{Value, json};

pub struct HorizontalPodAutoscalers;

impl Resource for HorizontalPodAutoscalers {
    const NAMES: Names =
        Names::with("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler", const { &[text("hpa")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Reference", |row| {
            format!("{}/{}", row.object["spec"]["scaleTargetRef"]["kind"].text(), row.object["spec"]["scaleTargetRef"]["name"].text()).into()
        }),
        Column::with("Targets", |row| targets(row).into()),
        Column::with("MinPods", |row| row.object["spec"]["minReplicas"].int().map_or(UNSET.into(), |minimum| minimum.to_string()).into()),
        Column::with("MaxPods", |row| number(&row.object["spec"]["maxReplicas"])),
        Column::with("Replicas", |row| number(&row.object["status"]["currentReplicas"])),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const VERSIONS: Option<&'static dyn Versions> = Some(&super::horizontal_pod_autoscaler_v1::VERSIONS);
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.absent("minReplicas", 1);
        spec.zero("metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]));
        for metric in spec.each("metrics") {
            for source in ["resource", "containerResource", "pods", "object", "external"] {
                if let Some(target) = metric.child(source).and_then(|source| source.child("target")) {
                    quantities::canonical(target, "value");
                    quantities::canonical(target, "averageValue");
                }
            }
        }
        if let Some(behavior) = spec.child("behavior") {
            let up = behavior.open("scaleUp");
            up.absent("stabilizationWindowSeconds", 0);
            up.absent("selectPolicy", "Max");
            up.absent("policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]));
            let down = behavior.open("scaleDown");
            down.absent("selectPolicy", "Max");
            down.absent("policies", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
        }
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let (least, most) = (spec.field("minReplicas"), spec.field("maxReplicas"));
        let minimum = least.int().unwrap_or(1);
        if minimum < 1 {
            errors.invalid(&least, "must be greater than or equal to 1");
        }
        let maximum = most.int().unwrap_or_default();
        if maximum < 1 {
            errors.invalid_as(&most, maximum, "must be greater than 0");
        }
        if maximum < minimum {
            errors.invalid_as(&most, maximum, "must be greater than or equal to `minReplicas`");
        }
        reference(&mut errors, &spec.field("scaleTargetRef"));
        let metrics = spec.field("metrics");
        for metric in metrics.items() {
            self::metric(&mut errors, &metric);
        }
        for direction in ["scaleUp", "scaleDown"] {
            let behavior = spec.field("behavior");
            scaling_rules(&mut errors, &behavior.field(direction));
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"desiredReplicas": 0}));
    }
}

/// The metric sources, as `type` names them and as their field is called.
const SOURCES: [(&str, &str); 5] =
    [("Resource", "resource"), ("ContainerResource", "containerResource"), ("Pods", "pods"), ("Object", "object"), ("External", "external")];

/// `current/target` of the first two metrics, and how many more there are.
fn targets(row: &Row) -> String {
    let (metrics, current) = (row.object["spec"]["metrics"].list(), &row.object["status"]["currentMetrics"]);
    let shown: Vec<String> = metrics.iter().take(2).enumerate().map(|(index, metric)| target(metric, &current[index])).collect();
    match metrics.len() {
        0 => NONE.into(),
        count if count > 2 => format!("{} + {} more...", shown.join(", "), count - 2),
        _ => shown.join(", "),
    }
}

fn target(metric: &Value, status: &Value) -> String {
    let kind = metric["type"].text();
    let Some((_, source)) = SOURCES.iter().find(|(name, _)| *name == kind) else { return "<unknown type>".into() };
    let (target, current) = (&metric[*source]["target"], &status[*source]["current"]);
    let amount = |value: &Value| match value {
        Value::Null => "<unknown>".to_owned(),
        Value::String(text) => text.clone(),
        other => format!("{other}%"),
    };
    let (key, suffix) = match kind {
        "Resource" | "ContainerResource" if target["averageValue"].is_set() => ("averageValue", ""),
        "Resource" | "ContainerResource" => ("averageUtilization", ""),
        "Pods" => ("averageValue", ""),
        _ if target["averageValue"].is_set() => ("averageValue", " (avg)"),
        _ => ("value", ""),
    };
    let wanted = if target[key].is_null() { "<auto>".to_owned() } else { amount(&target[key]) };
    let name = match kind {
        "Resource" | "ContainerResource" => format!("{}: ", metric[*source]["name"].text()),
        _ => String::new(),
    };
    format!("{name}{}/{wanted}{suffix}", amount(&current[key]))
}

/// What names an object of a kind.
fn reference(errors: &mut FieldErrors, at: &At) {
    errors.named(&at.field("kind"), names::path_segment);
    errors.named(&at.field("name"), names::path_segment);
}

fn metric(errors: &mut FieldErrors, metric: &At) {
    let kind = metric.field("type");
    if kind.text().is_empty() {
        return errors.required(&kind, "must specify a metric source type");
    }
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind.text()) else {
        return errors.not_supported(&kind, &["ContainerResource", "External", "Object", "Pods", "Resource"]);
    };
    for (_, other) in &SOURCES {
        if other != field && metric[*other].is_set() {
            errors.forbidden(&metric.field(other), "must populate the given metric source only");
        }
    }
    let source = metric.field(field);
    if source.is_null() {
        return errors.required(&source, "must populate information for the given metric source");
    }
    match *field {
        "resource" | "containerResource" => {
            if source["name"].text().is_empty() {
                errors.required(&source.field("name"), "must specify a resource name");
            }
            if *field == "containerResource" && source["container"].text().is_empty() {
                errors.required(&source.field("container"), "must specify a container");
            }
        }
        _ => {
            errors.named(&source.field("metric.name"), names::path_segment);
            crate::check::selectors::label_selector(errors, &source.field("metric.selector"));
        }
    }
    if *field == "object" {
        reference(errors, &source.field("describedObject"));
    }
    metric_target(errors, &source.field("target"), field);
}

fn metric_target(errors: &mut FieldErrors, target: &At, source: &str) {
    let (kind, value, average, utilization) = (target.field("type"), target.field("value"), target.field("averageValue"), target.field("averageUtilization"));
    if kind.text().is_empty() {
        errors.required(&kind, "must specify a metric target type");
    } else if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        errors.invalid(&kind, "must be either Utilization, Value, or AverageValue");
    }
    for amount in [&value, &average] {
        if let Some(quantity) = resources::quantity(errors, amount)
            && (quantity.is_zero() || quantity.is_negative())
        {
            errors.invalid(amount, "must be positive");
        }
    }
    if utilization.int().is_some_and(|percent| percent < 1) {
        errors.invalid(&utilization, "must be greater than 0");
    }
    match source {
        "resource" | "containerResource" => match (utilization.is_set(), average.is_set()) {
            (false, false) => errors.required(&utilization, "must set either a target raw value or a target utilization"),
            (true, true) => errors.forbidden(&average, "may not set both a target raw value and a target utilization"),
            _ => {}
        },
        "pods" if average.is_null() => errors.required(&average, "must specify a positive target averageValue"),
        "object" | "external" if value.is_null() && average.is_null() => {
            errors.required(&average, "must set either a target value for metric or a per-pod target");
        }
        "external" if value.is_set() && average.is_set() => {
            errors.forbidden(&value, "may not set both a target value for metric and a per-pod target");
        }
        _ => {}
    }
}

fn scaling_rules(errors: &mut FieldErrors, rules: &At) {
    const LONGEST_WINDOW: i64 = 3600;
    const LONGEST_PERIOD: i64 = 1800;
    if rules.is_null() {
        return;
    }
    let (window, policies) = (rules.field("stabilizationWindowSeconds"), rules.field("policies"));
    if window.int().is_some_and(|seconds| seconds < 0) {
        errors.invalid(&window, "must be greater than or equal to zero");
    }
    if window.int().is_some_and(|seconds| seconds > LONGEST_WINDOW) {
        errors.invalid(&window, format!("must be less than or equal to {LONGEST_WINDOW}"));
    }
    let select = rules.field("selectPolicy");
    if select.is_set() && !matches!(select.text(), "Max" | "Min" | "Disabled") {
        errors.not_supported(&select, &["Disabled", "Max", "Min"]);
    }
    if policies.list().is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        let (kind, value, period) = (policy.field("type"), policy.field("value"), policy.field("periodSeconds"));
        if !matches!(kind.text(), "Pods" | "Percent") {
            errors.not_supported(&kind, &["Percent", "Pods"]);
        }
        for amount in [&value, &period] {
            if amount.int().unwrap_or_default() <= 0 {
                errors.invalid_as(amount, amount.int().unwrap_or_default(), "must be greater than zero");
            }
        }
        if period.int().is_some_and(|seconds| seconds > LONGEST_PERIOD) {
            errors.invalid(&period, format!("must be less than or equal to {LONGEST_PERIOD}"));
        }
    }
}
