//! HorizontalPodAutoscaler: scales a workload by its load.
use crate::cells::{NONE, UNSET, number};
use crate::fields::{Fill, Read};
use crate::quantities;
use api_resource::{ALL, Column, Names, Resource, Row, STATUS, Subresource, text};
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
