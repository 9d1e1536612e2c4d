//! Pod: containers that run together on one node.
use crate::fields::selectable;
use crate::subresources::{ATTACH, BINDING, EPHEMERAL_CONTAINERS, EVICTION, EXEC, LOG, POD_PROXY, PORT_FORWARD, RESIZE};
use api_resource::{ALL, Field, Names, Resource, STATUS, Subresource, text};

pub struct Pods;

impl Resource for Pods {
    const NAMES: Names = Names::with("", "v1", "Pod", "pods", "pod", const { &[text("po")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, LOG, EXEC, ATTACH, PORT_FORWARD, POD_PROXY, BINDING, EVICTION, EPHEMERAL_CONTAINERS, RESIZE];
    const FIELDS: &[Field] = &[
        selectable("spec.nodeName", ""),
        selectable("spec.restartPolicy", ""),
        selectable("spec.schedulerName", ""),
        selectable("spec.serviceAccountName", ""),
        selectable("spec.hostNetwork", "false"),
        selectable("status.phase", ""),
        selectable("status.podIP", ""),
        selectable("status.nominatedNodeName", ""),
    ];
}
