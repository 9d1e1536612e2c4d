//! Filters: whether a pod can run on a node. Each is prepared once per pod, and only if it has a say.
pub mod dynamic_resources;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
pub mod pod_topology_spread;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;

use crate::fit_error::Rejection;
use crate::{Needs, NodeInfo, Plugin, PodInfo, Snapshot};

pub trait Filter {
    fn plugin(&self) -> Plugin;

    fn check(&self, node: &NodeInfo) -> Result<(), Rejection>;

    /// A pod is thought away from a node (`by` -1) or back (`by` 1), to see whether that makes room.
    fn imagine(&mut self, _pod: &PodInfo, _node: &NodeInfo, _by: i64) {}
}

/// The filters that have a say about this pod, in upstream's order.
pub fn prepare<'a>(pod: &'a PodInfo, needs: &'a Needs, snapshot: &'a Snapshot) -> Vec<Box<dyn Filter + 'a>> {
    let volumes = &needs.volumes;
    let mut filters: Vec<Box<dyn Filter + 'a>> = Vec::new();
    fn add<'a, F: Filter + 'a>(filters: &mut Vec<Box<dyn Filter + 'a>>, filter: Option<F>) {
        filters.extend(filter.map(|filter| Box::new(filter) as Box<dyn Filter + 'a>));
    }
    add(&mut filters, node_unschedulable::prepare(pod));
    add(&mut filters, node_name::prepare(pod));
    add(&mut filters, taint_toleration::prepare(pod));
    add(&mut filters, node_affinity::prepare(pod));
    add(&mut filters, node_ports::prepare(pod));
    add(&mut filters, Some(node_resources_fit::prepare(pod)));
    add(&mut filters, volume_restrictions::prepare(pod, volumes, snapshot));
    add(&mut filters, node_volume_limits::prepare(volumes));
    add(&mut filters, volume_binding::prepare(volumes));
    add(&mut filters, pod_topology_spread::prepare(pod, snapshot));
    add(&mut filters, inter_pod_affinity::prepare(pod, snapshot));
    add(&mut filters, dynamic_resources::prepare(&needs.devices));
    filters
}
