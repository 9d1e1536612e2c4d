//! The allocation of a claim: what the search found, as the API has it.
use super::asked::Asked;
use super::pools::Place;
use super::search::Pick;
use crate::NodeInfo;
use controller_kit::ObjectKey;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult, OpaqueDeviceConfiguration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What was decided for a claim.
#[derive(Clone, Debug)]
pub struct Decided {
    pub key: ObjectKey,
    pub uid: String,
    pub allocation: AllocationResult,
}

pub fn decided(asked: &[Asked], picks: &[Pick<'_>], node: &NodeInfo) -> Vec<Decided> {
    let of_claim = |(at, asked): (usize, &Asked)| {
        let picks: Vec<&Pick<'_>> = picks.iter().filter(|pick| pick.claim == at).collect();
        let devices = DeviceAllocationResult { results: Some(picks.iter().map(|pick| result(pick)).collect()), config: some(configuration(asked, &picks)) };
        let allocation = AllocationResult { allocation_timestamp: None, devices: Some(devices), node_selector: nodes(&picks, node) };
        Decided { key: asked.key.clone(), uid: asked.claim.metadata.uid.clone().unwrap_or_default(), allocation }
    };
    asked.iter().enumerate().map(of_claim).collect()
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn result(pick: &Pick<'_>) -> DeviceRequestAllocationResult {
    let part = pick.part.as_ref();
    DeviceRequestAllocationResult {
        request: pick.alternative.name.clone(),
        driver: pick.device.id.driver.to_string(),
        pool: pick.device.id.pool.to_string(),
        device: pick.device.id.device.to_string(),
        admin_access: pick.alternative.is_admin.then_some(true),
        tolerations: some(pick.alternative.tolerations.clone()),
        share_id: part.map(|_| share_id()),
        consumed_capacity: part.map(|part| part.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string()))).collect()),
        ..Default::default()
    }
}

/// A random UUID.
fn share_id() -> String {
    let mut bytes = clock::random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// What drivers are told besides: first what the classes say, then what the claim says of the requests that were met.
fn configuration(asked: &Asked, picks: &[&Pick<'_>]) -> Vec<DeviceAllocationConfiguration> {
    let entry = |source: &str, requests: Option<Vec<String>>, opaque: Option<&OpaqueDeviceConfiguration>| DeviceAllocationConfiguration {
        source: source.into(),
        requests,
        opaque: opaque.cloned(),
    };
    let mut all = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for pick in picks {
        let name = pick.alternative.name.as_str();
        if names.contains(&name) {
            continue;
        }
        names.push(name);
        let configs = pick.alternative.class.spec.iter().flat_map(|spec| spec.config.iter().flatten());
        all.extend(configs.map(|config| entry("FromClass", Some(vec![name.to_owned()]), config.opaque.as_ref())));
    }
    for config in asked.claim.spec.iter().flat_map(|spec| spec.devices.iter()).flat_map(|devices| devices.config.iter().flatten()) {
        let wanted = config.requests.iter().flatten();
        let is_met = |wanted: &String| names.iter().any(|name| name == wanted || name.split('/').next() == Some(wanted));
        if config.requests.as_ref().is_none_or(Vec::is_empty) || wanted.clone().any(is_met) {
            all.push(entry("FromClaim", config.requests.clone(), config.opaque.as_ref()));
        }
    }
    all
}

/// The nodes where all the devices can be used; `None` for everywhere.
fn nodes(picks: &[&Pick<'_>], node: &NodeInfo) -> Option<NodeSelector> {
    let term = |expressions: Option<Vec<NodeSelectorRequirement>>, fields: Option<Vec<NodeSelectorRequirement>>| {
        Some(NodeSelector { node_selector_terms: vec![NodeSelectorTerm { match_expressions: expressions, match_fields: fields }] })
    };
    if picks.iter().any(|pick| matches!(pick.device.place, Place::Node(_))) {
        let name = NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(vec![node.own_name().to_owned()]) };
        return term(None, Some(vec![name]));
    }
    let (mut expressions, mut fields) = (Vec::new(), Vec::new());
    let mut merge = |into_fields: bool, list: &Option<Vec<NodeSelectorRequirement>>| {
        let into = if into_fields { &mut fields } else { &mut expressions };
        for requirement in list.iter().flatten() {
            if !into.contains(requirement) {
                into.push(requirement.clone());
            }
        }
    };
    for pick in picks {
        // Each has one term, as validation sees to.
        if let Place::Nodes(selector, _) = &pick.device.place
            && let Some(only) = selector.node_selector_terms.first()
        {
            merge(false, &only.match_expressions);
            merge(true, &only.match_fields);
        }
    }
    if expressions.is_empty() && fields.is_empty() { None } else { term(some(expressions), some(fields)) }
}
