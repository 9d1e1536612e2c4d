//! Secret: sensitive data.
use crate::fields::selectable;
use api_resource::{Field, Names, Resource};

pub struct Secrets;

impl Resource for Secrets {
    const NAMES: Names = Names::new("", "v1", "Secret", "secrets", "secret");
    const FIELDS: &'static [Field] = &[selectable("type", "")];
    const GENERATION: bool = false;
}
