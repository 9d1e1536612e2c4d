//! CronJob: makes Jobs by the clock.
use crate::cells::{NONE, UNSET, container_images, container_names, label_selector, since, text_or};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use api_resource::{ALL, Column, Names, Resource, STATUS, Subresource, text};
use serde_json::Value;

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
}
