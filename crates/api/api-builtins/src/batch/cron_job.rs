//! CronJob: makes Jobs by the clock.
use api_resource::{ALL, Names, Resource, STATUS, Subresource, text};

pub struct CronJobs;

impl Resource for CronJobs {
    const NAMES: Names = Names::with("batch", "v1", "CronJob", "cronjobs", "cronjob", const { &[text("cj")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
}
