//! batch/v1: its kinds, a file each.
mod cron_job;
mod job;
mod job_spec;
mod schedule;

pub use cron_job::CronJobs;
pub use job::Jobs;
