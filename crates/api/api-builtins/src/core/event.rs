//! Event: something that happened to an object.
use crate::fields::selectable;
use api_resource::{Field, Names, Resource, text};

pub struct Events;

impl Resource for Events {
    const NAMES: Names = Names::with("", "v1", "Event", "events", "event", const { &[text("ev")] }, &[]);
    const FIELDS: &'static [Field] = &[
        selectable("involvedObject.kind", ""),
        selectable("involvedObject.namespace", ""),
        selectable("involvedObject.name", ""),
        selectable("involvedObject.uid", ""),
        selectable("involvedObject.apiVersion", ""),
        selectable("involvedObject.resourceVersion", ""),
        selectable("involvedObject.fieldPath", ""),
        selectable("reason", ""),
        selectable("reportingComponent", ""),
        selectable("type", ""),
    ];
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
