//! Endpoints: the addresses behind a Service, in the old form.
use api_resource::{Names, Resource, text};

pub struct Endpoints;

impl Resource for Endpoints {
    const NAMES: Names = Names::with("", "v1", "Endpoints", "endpoints", "endpoints", const { &[text("ep")] }, &[]);
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
