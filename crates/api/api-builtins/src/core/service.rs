//! Service: a stable address in front of pods.
use crate::fields::selectable;
use crate::subresources::SERVICE_PROXY;
use api_resource::{ALL, Field, NameRule, Names, Resource, STATUS, Subresource, text};

pub struct Services;

impl Resource for Services {
    const NAMES: Names = Names::with("", "v1", "Service", "services", "service", const { &[text("svc")] }, ALL);
    const NAME_RULE: NameRule = NameRule::Dns1035;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SERVICE_PROXY];
    const FIELDS: &'static [Field] = &[selectable("spec.clusterIP", ""), selectable("spec.type", "")];
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
