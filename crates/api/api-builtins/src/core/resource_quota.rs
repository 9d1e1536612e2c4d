//! ResourceQuota: limits what a namespace may use in sum.
use api_resource::{Names, Resource, STATUS, Subresource, text};

pub struct ResourceQuotas;

impl Resource for ResourceQuotas {
    const NAMES: Names = Names::with("", "v1", "ResourceQuota", "resourcequotas", "resourcequota", const { &[text("quota")] }, &[]);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
}
