//! PriorityLevelConfiguration: how requests of a priority level share the server.
use crate::cells::NONE;
use crate::fields::{Fill, Read};
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource};
use serde_json::{Value, json};

pub struct PriorityLevelConfigurations;

impl Resource for PriorityLevelConfigurations {
    const NAMES: Names =
        Names::new("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", "prioritylevelconfiguration");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::path("Type", ".spec.type"),
        Column::with("NominalConcurrencyShares", |row| {
            shown(match row.object["spec"]["type"].text() {
                "Exempt" => &row.object["spec"]["exempt"]["nominalConcurrencyShares"],
                _ => &row.object["spec"]["limited"]["nominalConcurrencyShares"],
            })
        }),
        Column::with("Queues", |row| shown(&row.object["spec"]["limited"]["limitResponse"]["queuing"]["queues"])),
        Column::with("HandSize", |row| shown(&row.object["spec"]["limited"]["limitResponse"]["queuing"]["handSize"])),
        Column::with("QueueLengthLimit", |row| shown(&row.object["spec"]["limited"]["limitResponse"]["queuing"]["queueLengthLimit"])),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        if let Some(exempt) = spec.child("exempt") {
            exempt.absent("nominalConcurrencyShares", 0);
            exempt.absent("lendablePercent", 0);
        } else if spec["type"] == "Exempt" {
            spec.put("exempt", json!({"nominalConcurrencyShares": 0, "lendablePercent": 0}));
        }
        if let Some(limited) = spec.child("limited") {
            limited.absent("nominalConcurrencyShares", 30);
            limited.absent("lendablePercent", 0);
            if let Some(queuing) = limited.child("limitResponse").and_then(|response| response.child("queuing")) {
                queuing.zero("handSize", 8);
                queuing.zero("queues", 64);
                queuing.zero("queueLengthLimit", 50);
            }
        }
    }
}

fn shown(value: &Value) -> Value {
    if value.is_null() { NONE.into() } else { value.clone() }
}
