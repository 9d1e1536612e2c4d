//! The JobSpec, of Jobs and of the Jobs that CronJobs make.
use crate::check::{At, Report, numbers, selectors};
use crate::fields::Read;
use crate::pod_spec::template;
use api_meta::{FieldErrors, names};
use serde_json::Value;
use std::collections::BTreeSet;

const MOST_PARALLEL_INDEXED: i64 = 100_000;
const MOST_FAILED_INDEXES: i64 = 100_000;

/// A JobSpec but for its selector, which a template of a Job doesn't have.
pub fn job_spec(errors: &mut FieldErrors, spec: &At) {
    numbers::all_non_negative(
        errors,
        spec,
        &["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes"],
    );
    let mode = spec.field("completionMode");
    errors.one_of_if_set(&mode, &["Indexed", "NonIndexed"]);
    if mode.text() == "Indexed" {
        indexed(errors, spec);
    } else {
        for field in ["backoffLimitPerIndex", "successPolicy"] {
            if spec[field].is_set() {
                errors.invalid(&spec.field(field), "requires indexed completion mode");
            }
        }
    }
    let most_failed = spec.field("maxFailedIndexes");
    if most_failed.is_set() && spec["backoffLimitPerIndex"].is_null() {
        errors.required(&spec.field("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    failure_policy(errors, spec);
    errors.one_of_if_set(&spec.field("podReplacementPolicy"), &["Failed", "TerminatingOrFailed"]);
    if spec["podFailurePolicy"].is_set() && spec["podReplacementPolicy"] == "TerminatingOrFailed" {
        errors.not_supported(&spec.field("podReplacementPolicy"), &["Failed"]);
    }
    manager(errors, &spec.field("managedBy"));
    let at = spec.field("template");
    template::template(errors, &at);
    let policy = at.field("spec.restartPolicy");
    match policy.text() {
        "OnFailure" | "Never" => {}
        // Always is what an absent policy becomes.
        "Always" => errors.required(&policy, "valid values: \"OnFailure\", \"Never\""),
        _ => errors.not_supported(&policy, &["OnFailure", "Never"]),
    }
}

fn indexed(errors: &mut FieldErrors, spec: &At) {
    let (completions, parallelism, most_failed) = (spec.field("completions"), spec.field("parallelism"), spec.field("maxFailedIndexes"));
    if completions.is_null() {
        errors.required(&completions, "when completion mode is Indexed");
    }
    if parallelism.int().is_some_and(|count| count > MOST_PARALLEL_INDEXED) {
        errors.invalid(&parallelism, format!("must be less than or equal to {MOST_PARALLEL_INDEXED} when completion mode is Indexed"));
    }
    if let (Some(failed), Some(total)) = (most_failed.int(), completions.int())
        && failed > total
    {
        errors.invalid(&most_failed, "must be less than or equal to completions");
    }
    if most_failed.int().is_some_and(|count| count > MOST_FAILED_INDEXES) {
        errors.invalid(&most_failed, format!("must be less than or equal to {MOST_FAILED_INDEXES}"));
    }
    let rules = spec.field("successPolicy.rules");
    if spec["successPolicy"].is_set() && rules.list().is_empty() {
        errors.required(&rules, "at least one rules must be specified");
    }
    for rule in rules.items() {
        if rule["succeededCount"].is_null() && rule["succeededIndexes"].is_null() {
            errors.required(&rule, "at least one of succeededCount or succeededIndexes must be specified");
        }
        numbers::non_negative(errors, &rule.field("succeededCount"));
    }
}

fn failure_policy(errors: &mut FieldErrors, spec: &At) {
    let policy = spec.field("podFailurePolicy");
    if policy.is_null() {
        return;
    }
    let restart = spec.field("template.spec.restartPolicy");
    if restart.text() != "Never" {
        errors.invalid(&restart, "only \"Never\" is supported when podFailurePolicy is specified");
    }
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.value()["template"]["spec"][*list].list())
        .map(|container| container["name"].text())
        .collect();
    let rules = policy.field("rules");
    if rules.list().len() > 20 {
        errors.too_many(&rules, rules.list().len(), 20);
    }
    for rule in rules.items() {
        errors.one_of(&rule.field("action"), &["Count", "FailIndex", "FailJob", "Ignore"]);
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        match (codes.is_set(), !conditions.list().is_empty()) {
            (true, true) => errors.invalid_as(&rule, Value::Null, "specifying both OnExitCodes and OnPodConditions is not supported"),
            (false, false) => errors.invalid_as(&rule, Value::Null, "specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
        if codes.is_set() {
            let (operator, values, name) = (codes.field("operator"), codes.field("values"), codes.field("containerName"));
            errors.one_of(&operator, &["In", "NotIn"]);
            if name.is_set() && !containers.contains(name.text()) {
                errors.invalid(&name, "must be one of the container or initContainer names in the pod template");
            }
            match values.list().len() {
                0 => errors.invalid(&values, "at least one value is required"),
                count if count > 255 => errors.too_many(&values, count, 255),
                _ => {}
            }
            for value in values.items() {
                if operator.text() == "In" && value.int() == Some(0) {
                    errors.invalid(&value, "must not be 0 for the In operator");
                }
            }
        }
        for condition in conditions.items() {
            errors.reasons(&condition.field("type"), names::qualified_name(condition["type"].text()));
            errors.one_of(&condition.field("status"), &["False", "True", "Unknown"]);
        }
    }
}

fn manager(errors: &mut FieldErrors, at: &At) {
    if at.is_null() {
        return;
    }
    errors.reasons(at, crate::check::names::domain_prefixed_path(at.text()));
    if at.text().len() > 63 {
        errors.too_long(at, 63);
    }
}

/// What ties pods to their Job: the selector matches the template, and is the Job's own.
pub fn selection(errors: &mut FieldErrors, root: &At) {
    let spec = root.field("spec");
    let selector = spec.field("selector");
    if selector.is_null() {
        return errors.required(&selector, "");
    }
    selectors::label_selector(errors, &selector);
    let parsed = selectors::parse(selector.value());
    template::matched(errors, &spec.field("template"), parsed.as_ref());
    if spec["manualSelector"].flag() {
        return;
    }
    let labels = spec.field("template.metadata.labels");
    for (keys, wanted) in [(super::job::NAME_LABELS, root["metadata"]["name"].text()), (super::job::UID_LABELS, root["metadata"]["uid"].text())] {
        for key in keys {
            match labels[key].as_str() {
                Some(label) if label == wanted => {}
                Some(_) => errors.invalid(&labels, format!("must be '{wanted}'")),
                None => errors.required(&labels.key(key), ""),
            }
        }
    }
    let owner = selector.value()["matchLabels"][super::job::UID_LABELS[0]].text();
    if owner != root["metadata"]["uid"].text() {
        errors.invalid(&selector, "`selector` not auto-generated");
    }
}
