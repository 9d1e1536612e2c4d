//! Job: runs pods until enough succeed.
use crate::batch::job_spec;
use crate::cells::{CONTAINERS, IMAGES, SELECTOR, condition_is_true, number};
use crate::check::{At, Report, numbers};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use crate::pod_spec::warnings;
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Names, Resource, Row, STATUS, Subresource, WriteContext, human_duration};
use serde_json::{Value, json};

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
        object.put("status", json!({}));
        if !object["spec"]["manualSelector"].flag() {
            generate_selector(object);
            // A Job without labels of its own takes the template's, the generated ones too.
            Self::default(object);
        }
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        job_spec::job_spec(&mut errors, &spec);
        job_spec::selection(&mut errors, &root);
        if spec["completionMode"] == "Indexed" && spec["completions"].int().unwrap_or_default() > 0 {
            // The name of the last pod is the longest host name.
            let last = format!("{}-{}", root["metadata"]["name"].text(), spec["completions"].int().unwrap_or_default() - 1);
            if last.len() > 63 {
                errors.invalid(&root.field("metadata.name"), "will not able to create pod with invalid DNS name: must be no more than 63 bytes");
            }
        }
        if let Some(old) = old {
            update(&mut errors, &spec, old);
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let status = root.field("status");
        numbers::all_non_negative(&mut errors, &status, &["active", "succeeded", "failed", "ready", "terminating"]);
        let done = |object: &Value, kind: &str| condition_is_true(object, kind);
        for (kind, other) in [("Complete", "Failed"), ("Failed", "Complete")] {
            if done(old, kind) && !done(new, kind) {
                errors.invalid(&status.field("conditions"), format!("cannot disable the terminal {kind}=True condition"));
            }
            if done(new, kind) && done(new, other) && kind == "Complete" {
                errors.invalid(&status.field("conditions"), "cannot set Complete=True and Failed=true conditions");
            }
        }
        errors
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec.template.spec")
    }
}

/// Labels that tie pods to their Job: the current names and the ones before them.
pub const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
pub const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];

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

/// What of a Job can't change; its scheduling can, while it is suspended and has not started.
fn update(errors: &mut FieldErrors, spec: &At, old: &Value) {
    let before = &old["spec"];
    let elastic = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    if !elastic {
        errors.immutable(&spec.field("completions"), &before["completions"]);
    }
    for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        errors.immutable(&spec.field(field), &before[field]);
    }
    let (mut after, template) = (spec["template"].clone(), spec.field("template"));
    if before["suspend"].flag() && old["status"]["startTime"].is_null() {
        for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates", "topologySpreadConstraints"] {
            match before["template"]["spec"].get(field) {
                Some(value) => after.open("spec").put(field, value.clone()),
                None => drop(after.open("spec").remove(field)),
            }
        }
        for field in ["labels", "annotations"] {
            match before["template"]["metadata"].get(field) {
                Some(value) => after.open("metadata").put(field, value.clone()),
                None => drop(after.open("metadata").remove(field)),
            }
        }
    }
    if after != before["template"] {
        errors.invalid(&template, "field is immutable");
    }
}
