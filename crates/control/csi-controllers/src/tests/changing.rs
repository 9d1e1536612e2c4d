//! Changes settle: volumes grow and are modified as their claims ask, and then nothing is asked for any more.
use super::settling::{deleted, now};
use super::{ALL, patch, typed, volume};
use crate::driver::{Facts, Rpc, is_final, is_infeasible};
use crate::{modifier, persistent_volume, resizer};
use controller_kit::{Controller, converges};
use csi::v1::ControllerExpandVolumeResponse;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// Does what is asked for, by a driver that answers so, and then grows what it is asked to; gives the sizes it was asked for, in Gi.
fn grow(world: resizer::World, by_node: bool, mut refusals: Vec<Code>) -> (resizer::World, Vec<i64>) {
    refusals.reverse();
    let mut asked = Vec::new();
    let end = converges(world, 3, resizer::Resizer::reconcile, |world, action| {
        let status = match action {
            resizer::Action::Begin(bytes) => resizer::begun(&world.claim, bytes, &now()),
            resizer::Action::Expand(request) => {
                let capacity_bytes = request.capacity_range.unwrap().required_bytes;
                asked.push(capacity_bytes >> 30);
                (world.refused, world.wait) = (false, None);
                if let Some(refusal) = refusals.pop().map(|code| Status::new(code, "no")) {
                    if !is_final(&refusal) {
                        return;
                    }
                    world.refused = true;
                    world.wait = is_infeasible(&refusal).then_some(Duration::from_secs(60));
                    resizer::failed(&world.claim, &refusal, &now())
                } else {
                    patch(&mut world.volume, json!({"spec": {"capacity": {"storage": persistent_volume::quantity(capacity_bytes)}}}));
                    resizer::expanded(&world.claim, &ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: by_node }, &now())
                }
            }
        };
        patch(&mut world.claim, json!({ "status": status }));
    });
    (end, asked)
}

#[test]
fn a_volume_grows_once_and_what_can_not_be_is_waited_for() {
    let new = |asked: &str| resizer::World {
        facts: Arc::new(Facts::of_test(ALL)),
        claim: typed(json!({"metadata": {"name": "data", "namespace": "n"}, "spec": {"volumeName": "v", "resources": {"requests": {"storage": asked}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})),
        volume: typed(volume(json!({"status": {"phase": "Bound"}}))),
        refused: false,
        wait: None,
    };
    let told = |world: &resizer::World| {
        let status = serde_json::to_value(&world.claim.status).unwrap();
        let kinds = status["conditions"].as_array().into_iter().flatten().map(|condition| condition["type"].as_str().unwrap().to_owned());
        let state = status["allocatedResourceStatuses"]["storage"].as_str().unwrap_or_default().to_owned();
        (status["capacity"]["storage"].as_str().unwrap().to_owned(), state, kinds.collect::<Vec<_>>().join(","))
    };
    let (same, asked) = grow(new("1Gi"), false, vec![]);
    assert_eq!((told(&same), asked), (("1Gi".into(), String::new(), String::new()), vec![]));
    let (whole, asked) = grow(new("2Gi"), false, vec![]);
    assert_eq!((told(&whole), asked), (("2Gi".into(), String::new(), String::new()), vec![2]));
    let (pending, asked) = grow(new("2Gi"), true, vec![Code::Unavailable]);
    assert_eq!((told(&pending), asked), (("1Gi".into(), "NodeResizePending".into(), "FileSystemResizePending".into()), vec![2, 2]));
    let (refused, asked) = grow(new("9Gi"), false, vec![Code::Internal]);
    assert_eq!((told(&refused).0, asked), ("9Gi".into(), vec![9, 9]));
    let (mut infeasible, asked) = grow(new("9Gi"), false, vec![Code::OutOfRange]);
    assert_eq!((told(&infeasible), asked), (("1Gi".into(), "ControllerResizeInfeasible".into(), "Resizing,ControllerResizeError".into()), vec![9]));
    // The claim asks for less, which is another question.
    patch(&mut infeasible.claim, json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}}));
    let (less, asked) = grow(infeasible, false, vec![]);
    assert_eq!((told(&less), asked), (("3Gi".into(), String::new(), String::new()), vec![3]));
    let mut going = new("2Gi");
    patch(&mut going.claim, deleted());
    assert_eq!(grow(going, false, vec![]).1, [0; 0]);
}

/// Does what is asked for; the driver refuses so at first. Gives how often the driver was asked.
fn modify(world: modifier::World, mut refusal: Option<Code>) -> (modifier::World, usize) {
    let mut asked = 0;
    let end = converges(world, 3, modifier::Modifier::reconcile, |world, action| {
        let wanted = world.claim.spec.as_ref().unwrap().volume_attributes_class_name.clone().unwrap_or_default();
        let status = match action {
            modifier::Action::Wait => modifier::waiting(),
            modifier::Action::Begin => modifier::begun(&world.claim, &wanted, &now()),
            modifier::Action::Modify { .. } => {
                asked += 1;
                if let Some(code) = refusal.take() {
                    let infeasible = code == Code::InvalidArgument;
                    world.wait = infeasible.then_some(Duration::from_secs(60));
                    modifier::failed(&world.claim, "no", infeasible, &now())
                } else {
                    world.wait = None;
                    patch(&mut world.volume, json!({"spec": {"volumeAttributesClassName": wanted}}));
                    modifier::ended(&world.claim, Some(&wanted), &now())
                }
            }
            modifier::Action::Refuse(why) => {
                world.wait = Some(Duration::from_secs(60));
                modifier::failed(&world.claim, &why, true, &now())
            }
            modifier::Action::Forget => {
                world.wait = None;
                modifier::ended(&world.claim, None, &now())
            }
        };
        patch(&mut world.claim, json!({ "status": status }));
    });
    (end, asked)
}

#[test]
fn attributes_are_given_once_and_what_can_not_be_is_given_up() {
    let class = |driver: &str| Some(typed(json!({"metadata": {"name": "gold"}, "driverName": driver, "parameters": {"a": "b"}})));
    let new = || {
        let claim = json!({"metadata": {"name": "data", "namespace": "n"}, "spec": {"volumeName": "v", "volumeAttributesClassName": "gold"},
            "status": {"phase": "Bound", "currentVolumeAttributesClassName": "silver"}});
        let facts = Arc::new(Facts::of_test(&[Rpc::ModifyVolume]));
        modifier::World { facts, claim: typed(claim), volume: typed(volume(json!({}))), class: class("d.example"), wait: None }
    };
    let told = |world: &modifier::World| {
        let status = world.claim.status.as_ref().unwrap();
        let state = status.modify_volume_status.as_ref().map(|of| of.status.clone()).unwrap_or_default();
        let kinds: Vec<_> = status.conditions.iter().flatten().map(|condition| condition.type_.clone()).collect();
        format!("{} {state} {}", status.current_volume_attributes_class_name.as_ref().unwrap(), kinds.join(","))
    };
    let (given, asked) = modify(new(), None);
    assert_eq!((told(&given).as_str(), given.volume.spec.as_ref().unwrap().volume_attributes_class_name.as_deref(), asked), ("gold  ", Some("gold"), 1));
    let (given, asked) = modify(new(), Some(Code::Unavailable));
    assert_eq!((told(&given).as_str(), asked), ("gold  ", 2));
    let (mut missing, asked) = modify(modifier::World { class: None, ..new() }, None);
    assert_eq!((told(&missing).as_str(), asked), ("silver Pending ", 0));
    missing.class = class("d.example");
    assert_eq!(told(&modify(missing, None).0), "gold  ");
    let (others, asked) = modify(modifier::World { class: class("other.example"), ..new() }, None);
    assert_eq!((told(&others).as_str(), asked), ("silver Infeasible ModifyVolumeError,ModifyingVolume", 0));
    let (mut infeasible, asked) = modify(new(), Some(Code::InvalidArgument));
    assert_eq!((told(&infeasible).as_str(), asked), ("silver Infeasible ModifyVolumeError,ModifyingVolume", 1));
    // The claim goes back to what it has.
    patch(&mut infeasible.claim, json!({"spec": {"volumeAttributesClassName": "silver"}}));
    let (back, asked) = modify(infeasible, None);
    assert_eq!((told(&back).as_str(), asked), ("silver  ", 0));
    let mut going = new();
    patch(&mut going.claim, deleted());
    assert_eq!(modify(going, None).1, 0);
}
