//! CronJob: makes Jobs by the clock.
use crate::batch::{job_spec, schedule};
use crate::cells::{NONE, UNSET, container_images, container_names, label_selector, since, text_or};
use crate::check::{At, Report, numbers};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use crate::pod_spec::warnings;
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Names, Resource, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct CronJobs;

impl Resource for CronJobs {
    const NAMES: Names = Names::with("batch", "v1", "CronJob", "cronjobs", "cronjob", const { &[text("cj")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::path("Schedule", ".spec.schedule"),
        Column::with("Timezone", |row| text_or(&row.object["spec"]["timeZone"], NONE)),
        Column::with("Suspend", |row| match &row.object["spec"]["suspend"] {
            Value::Bool(true) => "True".into(),
            Value::Bool(false) => "False".into(),
            _ => UNSET.into(),
        })
        .boolean(),
        Column::with("Active", |row| row.object["status"]["active"].list().len().into()).integer(),
        Column::with("Last Schedule", |row| match &row.object["status"]["lastScheduleTime"] {
            Value::Null => NONE.into(),
            time => since(time, row).into(),
        }),
        Column::with("Containers", |row| container_names(&row.object["spec"]["jobTemplate"]["spec"]["template"])).wide(),
        Column::with("Images", |row| container_images(&row.object["spec"]["jobTemplate"]["spec"]["template"])).wide(),
        Column::with("Selector", |row| label_selector(&row.object["spec"]["jobTemplate"]["spec"]["selector"]).into()).wide(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.zero("concurrencyPolicy", "Allow");
        spec.absent("suspend", false);
        spec.absent("successfulJobsHistoryLimit", 3);
        spec.absent("failedJobsHistoryLimit", 1);
        let job = spec.open("jobTemplate").open("spec");
        defaults::template(job.open("template"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        timing(&mut errors, &spec, old.map_or(&Value::Null, |old| &old["spec"]));
        numbers::all_non_negative(&mut errors, &spec, &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"]);
        errors.one_of(&spec.field("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
        let job = spec.field("jobTemplate.spec");
        job_spec::job_spec(&mut errors, &job);
        if job["manualSelector"].flag() {
            errors.not_supported(&job.field("manualSelector"), &["nil", "false"]);
        }
        if job["selector"].is_set() {
            errors.invalid(&job.field("selector"), "`selector` will be auto-generated");
        }
        // Jobs are named after their CronJob and the minute they are due, of 11 characters.
        if old.is_none() && root["metadata"]["name"].text().len() > 52 {
            errors.invalid(&root.field("metadata.name"), "must be no more than 52 characters");
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec.jobTemplate.spec.template.spec")
    }
}

fn timing(errors: &mut FieldErrors, spec: &At, old: &Value) {
    let (at, zone) = (spec.field("schedule"), spec.field("timeZone"));
    if at.text().is_empty() {
        errors.required(&at, "");
    } else if at.text().contains("TZ") {
        // Schedules stored before this was refused stay valid.
        if old["schedule"] != *at.value() {
            errors.invalid(&at, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
    } else if let Err(reason) = schedule::check(at.text()) {
        errors.invalid(&at, reason);
    }
    if zone.is_null() || old["timeZone"] == *zone.value() {
        return;
    }
    match zone.text() {
        "" => errors.invalid(&zone, "timeZone must be nil or non-empty string"),
        name if name.eq_ignore_ascii_case("local") => {
            errors.invalid(&zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
        }
        name => {
            if jiff::tz::TimeZone::get(name).is_err() {
                errors.invalid(&zone, format!("unknown time zone {name}"));
            }
        }
    }
}
