//! LimitRange: bounds and defaults for single objects of a namespace.
use api_resource::{Names, Resource, text};

pub struct LimitRanges;

impl Resource for LimitRanges {
    const NAMES: Names = Names::with("", "v1", "LimitRange", "limitranges", "limitrange", const { &[text("limits")] }, &[]);
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
