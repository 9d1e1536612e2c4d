//! HorizontalPodAutoscaler in autoscaling/v1: a view of what is stored as autoscaling/v2.
//!
//! What v1 has no fields for travels in annotations, as upstream has it.
use super::HorizontalPodAutoscalers;
use crate::fields::{Fill, Read};
use api_meta::FieldErrors;
use api_resource::{ALL, BuiltinCell, Column, Names, Resource, Row, STATUS, Subresource, Versions, WriteContext, text};
use api_schema::SchemaRef;
use serde_json::{Map, Value, json};

pub struct HorizontalPodAutoscalersV1;

const V1: &str = "autoscaling/v1";
const V2: &str = "autoscaling/v2";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
/// Upstream's, in percent, for who asks for nothing.
const DEFAULT_UTILIZATION: i64 = 80;

pub struct AutoscalerVersions;

/// Both versions of autoscalers.
pub static VERSIONS: AutoscalerVersions = AutoscalerVersions;

impl Versions for AutoscalerVersions {
    fn storage(&self) -> &str {
        V2
    }
    fn convert(&self, object: Value, to: &str) -> Result<Value, String> {
        Ok(match (object["apiVersion"].text(), to) {
            (V1, V2) => to_v2(object),
            (V2, V1) => to_v1(object),
            _ => object,
        })
    }
    fn schema_of(&self, api_version: &str) -> Option<SchemaRef> {
        let (group, version) = api_meta::split_api_version(api_version);
        api_schema::builtin::for_kind(group, version, "HorizontalPodAutoscaler")
    }
}

impl Resource for HorizontalPodAutoscalersV1 {
    const NAMES: Names =
        Names::with("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler", const { &[text("hpa")] }, ALL);
    const VERSIONS: Option<&'static dyn Versions> = Some(&VERSIONS);
    const COLUMNS: &'static [Column] = &[
        Column::with("Reference", |row| cell(row, 0)),
        Column::with("Targets", |row| cell(row, 1)),
        Column::with("MinPods", |row| cell(row, 2)),
        Column::with("MaxPods", |row| cell(row, 3)),
        Column::with("Replicas", |row| cell(row, 4)),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        let others = decoded(object, METRICS).is_some_and(|metrics| !metrics.list().is_empty());
        let spec = object.open("spec");
        spec.absent("minReplicas", 1);
        if !others {
            spec.absent("targetCPUUtilizationPercentage", DEFAULT_UTILIZATION);
        }
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let stored = |object: &Value| {
            let mut object = to_v2(object.clone());
            HorizontalPodAutoscalers::default(&mut object);
            object
        };
        HorizontalPodAutoscalers::validate(&stored(new), old.map(stored).as_ref())
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"currentReplicas": 0, "desiredReplicas": 0}));
    }
}

/// A cell of v2's Table.
fn cell(row: &Row, index: usize) -> Value {
    let object = to_v2(row.object.clone());
    let row = Row { object: &object, now: row.now };
    match HorizontalPodAutoscalers::COLUMNS[index].cell {
        BuiltinCell::With(cell) => cell(&row),
        BuiltinCell::Path(path) => api_resource::at_path(row.object, path).cloned().unwrap_or(Value::Null),
    }
}

/// The JSON an annotation holds.
fn decoded(object: &Value, annotation: &str) -> Option<Value> {
    serde_json::from_str(object["metadata"]["annotations"][annotation].as_str()?).ok()
}

/// The metric that v1 has a field for.
fn is_cpu(metric: &Value, amounts: &str) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && metric["resource"][amounts]["averageUtilization"].is_set()
}

fn to_v1(mut object: Value) -> Value {
    object.put("apiVersion", V1);
    let metrics = object["spec"].remove("metrics").unwrap_or_default();
    let behavior = object["spec"].remove("behavior");
    let (mut current, mut conditions) = (None, None);
    if let Some(status) = object.child("status") {
        current = status.remove("currentMetrics");
        conditions = status.remove("conditions");
        if let Some(cpu) = current.as_ref().and_then(|all| all.list().iter().find(|metric| is_cpu(metric, "current"))) {
            status.put("currentCPUUtilizationPercentage", cpu["resource"]["current"]["averageUtilization"].clone());
        }
        status.absent("currentReplicas", 0);
        status.absent("desiredReplicas", 0);
    }
    if let Some(cpu) = metrics.list().iter().find(|metric| is_cpu(metric, "target")) {
        object.open("spec").put("targetCPUUtilizationPercentage", cpu["resource"]["target"]["averageUtilization"].clone());
    }
    let others: Vec<Value> = metrics.list().iter().filter(|metric| !is_cpu(metric, "target")).map(|metric| flat(metric, "target")).collect();
    let current: Vec<Value> = current.unwrap_or_default().list().iter().map(|metric| flat(metric, "current")).collect();
    let mut annotate = |annotation: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.open("metadata").open("annotations").put(annotation, value.to_string());
        }
    };
    annotate(METRICS, Some(Value::Array(others)).filter(|all| !all.is_zero()));
    annotate(CURRENT_METRICS, Some(Value::Array(current)).filter(|all| !all.is_zero()));
    annotate(BEHAVIOR, behavior.filter(Value::is_object));
    annotate(CONDITIONS, conditions.filter(|all| !all.is_zero()));
    object
}

fn to_v2(mut object: Value) -> Value {
    object.put("apiVersion", V2);
    let cpu = object["spec"].remove("targetCPUUtilizationPercentage");
    let mut metrics: Vec<Value> = decoded(&object, METRICS).unwrap_or_default().list().iter().map(|metric| deep(metric, "target")).collect();
    if let Some(cpu) = cpu {
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": cpu}}}));
    }
    if !metrics.is_empty() {
        object.open("spec").put("metrics", metrics);
    }
    if let Some(behavior) = decoded(&object, BEHAVIOR).filter(Value::is_object) {
        object.open("spec").put("behavior", behavior);
    }
    let current: Vec<Value> = decoded(&object, CURRENT_METRICS).unwrap_or_default().list().iter().map(|metric| deep(metric, "current")).collect();
    let conditions = decoded(&object, CONDITIONS).filter(|all| !all.list().is_empty());
    if object["status"].is_object() || !current.is_empty() || conditions.is_some() {
        let status = object.open("status");
        let percent = status.remove("currentCPUUtilizationPercentage");
        if !current.is_empty() {
            status.put("currentMetrics", current);
        } else if let Some(percent) = percent {
            // v1 does not say how much that is.
            status.put(
                "currentMetrics",
                json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent, "averageValue": "0"}}}]),
            );
        }
        if let Some(conditions) = conditions {
            status.put("conditions", conditions);
        }
    }
    if let Some(annotations) = object["metadata"].child("annotations") {
        [METRICS, CURRENT_METRICS, BEHAVIOR, CONDITIONS].into_iter().for_each(|name| drop(annotations.remove(name)));
        if annotations.is_zero() {
            object["metadata"].remove("annotations");
        }
    }
    object
}

/// The fields of each kind of metric that are called alike: here and in v1's annotation.
fn renamed(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "pods" => &[("/metric/name", "metricName"), ("/metric/selector", "selector")],
        "object" => &[("/metric/name", "metricName"), ("/metric/selector", "selector"), ("/describedObject", "target")],
        "external" => &[("/metric/name", "metricName"), ("/metric/selector", "metricSelector")],
        _ => &[("/name", "name"), ("/container", "container")],
    }
}

/// The amounts of each kind of metric, `amounts` being `target` or `current`: in v2 and in v1's annotation.
fn amounts_of(kind: &str, amounts: &str) -> Vec<(&'static str, String)> {
    match kind {
        "pods" => vec![("averageValue", format!("{amounts}AverageValue"))],
        "object" => vec![("value", format!("{amounts}Value")), ("averageValue", "averageValue".into())],
        "external" => vec![("value", format!("{amounts}Value")), ("averageValue", format!("{amounts}AverageValue"))],
        _ => vec![("averageUtilization", format!("{amounts}AverageUtilization")), ("averageValue", format!("{amounts}AverageValue"))],
    }
}

const KINDS: [&str; 5] = ["resource", "containerResource", "pods", "object", "external"];

/// A metric of v2 as v1's annotation has it.
fn flat(metric: &Value, amounts: &str) -> Value {
    let mut out = json!({ "type": metric["type"] });
    for kind in KINDS {
        let Some(source) = metric.get(kind).filter(|source| source.is_object()) else { continue };
        let mut fields = Map::new();
        for (path, name) in renamed(kind) {
            if let Some(value) = source.pointer(path).filter(|value| value.is_set()) {
                fields.insert((*name).into(), value.clone());
            }
        }
        for (field, name) in amounts_of(kind, amounts) {
            if let Some(value) = source[amounts].get(field).filter(|value| value.is_set()) {
                fields.insert(name, value.clone());
            }
        }
        out[kind] = Value::Object(fields);
    }
    out
}

/// A metric of v1's annotation as v2 has it.
fn deep(metric: &Value, amounts: &str) -> Value {
    let mut out = json!({ "type": metric["type"] });
    for kind in KINDS {
        let Some(source) = metric.get(kind).filter(|source| source.is_object()) else { continue };
        let mut fields = json!({});
        for (path, name) in renamed(kind) {
            let Some(value) = source.get(*name) else { continue };
            match path.trim_start_matches('/').split_once('/') {
                Some((outer, inner)) => fields.open(outer).put(inner, value.clone()),
                None => fields.put(&path[1..], value.clone()),
            }
        }
        let mut held = json!({});
        for (field, name) in amounts_of(kind, amounts) {
            // A zero stands for none where Go has no other way to say it.
            if let Some(value) = source.get(&name).filter(|value| !(kind == "object" && field == "value" && **value == "0")) {
                held.put(field, value.clone());
            }
        }
        if amounts == "target" {
            let kind = if held["averageUtilization"].is_set() {
                "Utilization"
            } else if held["value"].is_set() {
                "Value"
            } else {
                "AverageValue"
            };
            held.put("type", kind);
        }
        fields.put(amounts, held);
        out[kind] = fields;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_has_no_fields_for_comes_back() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "rps", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "100"}}});
        let object = json!({"type": "Object", "object": {"metric": {"name": "q"}, "describedObject": {"kind": "Ingress", "name": "i"}, "target": {"type": "Value", "value": "5"}}});
        let external = json!({"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "AverageValue", "averageValue": "3"}}});
        let current = json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "200m"}}}]);
        let stored = json!({
            "apiVersion": V2, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "annotations": {"mine": "x"}},
            "spec": {"maxReplicas": 3, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "metrics": [memory, pods, object, external, cpu],
                "behavior": {"scaleDown": {"selectPolicy": "Max"}}},
            "status": {"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": current, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let view = to_v1(stored.clone());
        assert_eq!(
            view["spec"],
            json!({"maxReplicas": 3, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "targetCPUUtilizationPercentage": 50})
        );
        assert_eq!(view["status"], json!({"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 40}));
        let annotation = |name: &str| -> Value { serde_json::from_str(view["metadata"]["annotations"][name].text()).unwrap() };
        assert_eq!(
            annotation(METRICS).list()[..2],
            json!([
                {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
                {"type": "Pods", "pods": {"metricName": "rps", "selector": {"matchLabels": {"a": "b"}}, "targetAverageValue": "100"}},
            ])
            .list()[..]
        );
        assert_eq!(to_v2(view), stored);
    }
}
