//! Job: runs pods until enough succeed.
use api_resource::{ALL, Names, Resource, STATUS, Subresource};

pub struct Jobs;

impl Resource for Jobs {
    const NAMES: Names = Names::with("batch", "v1", "Job", "jobs", "job", &[], ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const ORPHANS_BY_DEFAULT: bool = true;
}
