//! Job: runs pods until enough succeed.
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, condition_is_true, number};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use api_resource::{ALL, Column, Names, Resource, Row, STATUS, Subresource, WriteContext, human_duration};
use serde_json::Value;

pub struct Jobs;

impl Resource for Jobs {
    const NAMES: Names = Names::with("batch", "v1", "Job", "jobs", "job", &[], ALL);
    const COLUMNS: &'static [Column] =
        &[Column::with("Status", status), Column::with("Completions", completions), Column::with("Duration", duration), CONTAINERS, IMAGES, SELECTOR];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const ORPHANS_BY_DEFAULT: bool = true;
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        if spec["completions"].is_null() && spec["parallelism"].is_null() {
            spec.put("completions", 1);
        }
        spec.absent("parallelism", 1);
        spec.absent("backoffLimit", if spec["backoffLimitPerIndex"].is_null() { 6 } else { i32::MAX });
        spec.absent("completionMode", "NonIndexed");
        spec.absent("suspend", false);
        spec.absent("manualSelector", false);
        let failure_policy = spec.child("podFailurePolicy");
        let replacement = if failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        if let Some(policy) = failure_policy {
            for rule in policy.each("rules") {
                rule.each("onPodConditions").for_each(|pattern| pattern.zero("status", "True"));
            }
        }
        spec.absent("podReplacementPolicy", replacement);
        defaults::template(spec.open("template"));
        let labels = spec["template"]["metadata"]["labels"].clone();
        if !labels.is_zero() {
            object.open("metadata").zero("labels", labels);
        }
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        if !object["spec"]["manualSelector"].flag() {
            generate_selector(object);
        }
    }
}

/// Labels that tie pods to their Job: the current names and the ones before them.
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];

/// Gives the template labels, and the Job a selector, that no other Job has. What the user set
/// already is kept, so that validation can refuse it.
fn generate_selector(object: &mut Value) {
    let (name, uid) = (object["metadata"]["name"].clone(), object["metadata"]["uid"].clone());
    let spec = object.open("spec");
    let labels = spec.open("template").open("metadata").open("labels");
    for label in NAME_LABELS {
        labels.absent(label, name.clone());
    }
    for label in UID_LABELS {
        labels.absent(label, uid.clone());
    }
    spec.open("selector").open("matchLabels").absent(UID_LABELS[0], uid);
}

fn status(row: &Row) -> Value {
    let is = |kind: &str| condition_is_true(row.object, kind);
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if row.object["metadata"]["deletionTimestamp"].is_set() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
    .into()
}

fn completions(row: &Row) -> Value {
    let (spec, succeeded) = (&row.object["spec"], number(&row.object["status"]["succeeded"]));
    match (spec["completions"].int(), spec["parallelism"].int().unwrap_or_default()) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
    .into()
}

fn duration(row: &Row) -> Value {
    let time = |key: &str| row.object["status"][key].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match (time("startTime"), time("completionTime").unwrap_or(row.now)) {
        (None, _) => "".into(),
        (Some(start), end) => human_duration(end.as_second() - start.as_second()).into(),
    }
}
