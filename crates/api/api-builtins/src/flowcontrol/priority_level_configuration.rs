//! PriorityLevelConfiguration: how requests of a priority level share the server.
use crate::cells::NONE;
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use crate::flowcontrol::mandatory;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource, WriteContext};
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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let (kind, limited, exempt) = (spec.field("type"), spec.field("limited"), spec.field("exempt"));
        match kind.text() {
            "Exempt" if limited.is_set() => errors.forbidden(&limited, "must be nil if the type is not Limited"),
            "Limited" if exempt.is_set() => errors.forbidden(&exempt, "must be nil if the type is Limited"),
            "Limited" if limited.is_null() => errors.required(&limited, "must not be empty when type is Limited"),
            "Exempt" => {}
            "Limited" => self::limited(&mut errors, &limited),
            _ => errors.not_supported(&kind, &["Exempt", "Limited"]),
        }
        let name = new["metadata"]["name"].text();
        if (name == "exempt") != (kind.text() == "Exempt") {
            errors.invalid(&kind, "type must be 'Exempt' if and only if name is 'exempt'");
        }
        if name == "catch-all" {
            mandatory(&mut errors, &spec, name, "PriorityLevelConfiguration");
        }
        if exempt.is_set() {
            shares(&mut errors, &exempt);
        }
        errors
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({}));
    }
}

fn shown(value: &Value) -> Value {
    if value.is_null() { NONE.into() } else { value.clone() }
}

fn limited(errors: &mut FieldErrors, limited: &At) {
    const MOST_QUEUES: i64 = 10_000_000;
    // A hand is dealt from one 64 bit hash, a few bits of which are lost to rounding.
    const MOST_ENTROPY: f64 = 60.0;
    shares(errors, limited);
    let borrowing = limited.field("borrowingLimitPercent");
    if borrowing.int().is_some_and(|percent| percent < 0) {
        errors.invalid(&borrowing, "if specified, must be a non-negative integer");
    }
    let (response, queuing) = (limited.field("limitResponse"), limited.field("limitResponse.queuing"));
    match response["type"].text() {
        "Reject" if queuing.is_set() => errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited"),
        "Reject" => {}
        "Queue" if queuing.is_null() => errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited"),
        "Queue" => {
            let (queues, hand, length) = (queuing.field("queues"), queuing.field("handSize"), queuing.field("queueLengthLimit"));
            for count in [&queues, &hand, &length] {
                if count.int().unwrap_or_default() <= 0 {
                    errors.invalid(count, "must be positive");
                }
            }
            if queues.int().is_some_and(|count| count > MOST_QUEUES) {
                errors.invalid(&queues, format!("must not be greater than {MOST_QUEUES}"));
            }
            let (deck, cards) = (queues.int().unwrap_or_default(), hand.int().unwrap_or_default());
            if cards > deck {
                errors.invalid(&hand, format!("should not be greater than queues ({deck})"));
            } else if cards > 0 && ((deck as f64).log2() * cards as f64).ceil() > MOST_ENTROPY {
                let what = format!("required entropy bits of deckSize {deck} and handSize {cards} should not be greater than {MOST_ENTROPY}");
                errors.invalid(&hand, what);
            }
        }
        _ => errors.not_supported(&response.field("type"), &["Queue", "Reject"]),
    }
}

fn shares(errors: &mut FieldErrors, at: &At) {
    let shares = at.field("nominalConcurrencyShares");
    if shares.int().is_some_and(|shares| shares < 0) {
        errors.invalid(&shares, "must be a non-negative integer");
    }
    let lendable = at.field("lendablePercent");
    if lendable.int().is_some_and(|percent| !(0..=100).contains(&percent)) {
        errors.invalid(&lendable, "must be between 0 and 100, inclusive");
    }
}
