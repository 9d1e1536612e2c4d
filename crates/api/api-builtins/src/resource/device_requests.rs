//! The device requests of ResourceClaims and their templates.
use crate::check::metadata::label_key;
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use crate::resource::devices;
use api_meta::{FieldError, FieldErrors, names};
use api_schema::cel::device::{self, DeviceSelector};
use serde_json::Value;

/// Defaults a ResourceClaimSpec.
pub fn default(spec: &mut Value) {
    let Some(devices) = spec.child("devices") else { return };
    for request in devices.each("requests") {
        if let Some(exactly) = request.child("exactly") {
            one(exactly);
        }
        request.each("firstAvailable").for_each(one);
    }
}

fn one(request: &mut Value) {
    request.zero("allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        request.zero("count", 1);
    }
    request.each("tolerations").for_each(|toleration| toleration.zero("operator", "Equal"));
}

/// The device requests of a claim: named, each for devices of a class.
pub fn validate(errors: &mut FieldErrors, spec: &At) {
    const MOST_REQUESTS: usize = 32;
    let requests = spec.field("devices.requests");
    if requests.list().len() > MOST_REQUESTS {
        errors.too_many(&requests, requests.list().len(), MOST_REQUESTS);
    }
    for (index, request) in requests.items().enumerate() {
        let name = request.field("name");
        errors.named(&name, names::dns1123_label);
        if requests.list()[..index].iter().any(|other| other["name"] == request["name"]) {
            errors.duplicate(&name);
        }
        let (exactly, first) = (request.field("exactly"), request.field("firstAvailable"));
        match (exactly.is_set(), !first.list().is_empty()) {
            (true, true) => errors.invalid(&request, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"),
            (false, false) => errors.required(&request, "exactly one of `exactly` or `firstAvailable` is required"),
            _ => {}
        }
        if exactly.is_set() {
            device_request(errors, &exactly);
        }
        for (index, alternative) in first.items().enumerate() {
            errors.named(&alternative.field("name"), names::dns1123_label);
            if first.list()[..index].iter().any(|other| other["name"] == alternative["name"]) {
                errors.duplicate(&alternative.field("name"));
            }
            device_request(errors, &alternative);
        }
    }
    let (constraints, configs) = (spec.field("devices.constraints"), spec.field("devices.config"));
    for list in [&constraints, &configs] {
        if list.list().len() > MOST_REQUESTS {
            errors.too_many(list, list.list().len(), MOST_REQUESTS);
        }
    }
    for constraint in constraints.items() {
        let (same, other) = (constraint.field("matchAttribute"), constraint.field("distinctAttribute"));
        match (same.is_set(), other.is_set()) {
            (true, true) => errors.invalid(&constraint, "exactly one of `matchAttribute` or `distinctAttribute` must be set"),
            (false, false) => errors.required(&constraint, "exactly one of `matchAttribute` or `distinctAttribute` must be set"),
            _ => {}
        }
        for attribute in [&same, &other].into_iter().filter(|attribute| attribute.is_set()) {
            if !attribute.text().contains('/') {
                errors.invalid(attribute, "must include a domain");
            }
            devices::qualified_name(errors, attribute, attribute.text());
        }
    }
    configs.items().for_each(|config| configuration(errors, &config));
    for list in ["constraints", "config"] {
        let list = spec.field("devices").value()[list].list().iter().enumerate().map(|(index, entry)| (format!("devices.{list}[{index}].requests"), entry));
        for (path, entry) in list {
            for (index, wanted) in entry["requests"].texts().enumerate().filter(|(_, wanted)| !is_known(spec, wanted)) {
                errors.push(FieldError::invalid(&spec.path().child(&path).index(index), wanted, UNKNOWN_REQUEST));
            }
        }
    }
}

pub const UNKNOWN_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Whether a claim has a request of this name, or an alternative of one (`request/alternative`).
pub fn is_known(spec: &Value, wanted: &str) -> bool {
    let (request, alternative) = wanted.split_once('/').unwrap_or((wanted, ""));
    spec["devices"]["requests"]
        .list()
        .iter()
        .any(|other| other["name"] == request && (alternative.is_empty() || other["firstAvailable"].list().iter().any(|other| other["name"] == alternative)))
}

fn device_request(errors: &mut FieldErrors, request: &At) {
    errors.named(&request.field("deviceClassName"), names::dns1123_subdomain);
    let (mode, count) = (request.field("allocationMode"), request.field("count"));
    match mode.text() {
        "ExactCount" if count.int().unwrap_or_default() <= 0 => errors.invalid_as(&count, count.int().unwrap_or_default(), "must be greater than zero"),
        "All" if count.int().unwrap_or_default() != 0 => errors.invalid(&count, "must not be specified when allocationMode is 'All'"),
        "ExactCount" | "All" => {}
        _ => errors.not_supported(&mode, &["All", "ExactCount"]),
    }
    selectors(errors, &request.field("selectors"), false);
    let tolerations = request.field("tolerations");
    if tolerations.list().len() > MOST_TOLERATIONS {
        errors.too_many(&tolerations, tolerations.list().len(), MOST_TOLERATIONS);
    }
    tolerations.items().for_each(|toleration| self::toleration(errors, &toleration));
}

const MOST_TOLERATIONS: usize = 16;

fn toleration(errors: &mut FieldErrors, at: &At) {
    let (key, value, operator) = (at.field("key"), at.field("value"), at.field("operator"));
    if !key.text().is_empty() {
        label_key(errors, &key, key.text());
    }
    match operator.text() {
        "Exists" if !value.text().is_empty() => errors.invalid(&value, "must be empty for operator `Exists`"),
        "Exists" => {}
        "Equal" => errors.reasons(&value, names::label_value(value.text())),
        "" => errors.required(&operator, ""),
        _ => errors.not_supported(&operator, &["Equal", "Exists"]),
    }
    if key.text().is_empty() && operator.text() != "Exists" {
        errors.invalid(&operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    }
    let effect = at.field("effect");
    if !effect.text().is_empty() {
        errors.one_of(&effect, &["NoExecute", "NoSchedule"]);
    }
}

/// What a driver is told besides: parameters only it understands.
pub fn configuration(errors: &mut FieldErrors, at: &At) {
    const LARGEST: usize = 10 << 10;
    let opaque = at.field("opaque");
    if opaque.is_null() {
        return errors.required(&opaque, "");
    }
    devices::driver_name(errors, &opaque.field("driver"));
    let parameters = opaque.field("parameters");
    if parameters.is_null() {
        errors.required(&parameters, "");
    } else if !parameters.is_object() {
        errors.invalid_as(&parameters, "<value omitted>", "must be a valid JSON object");
    } else if parameters.to_string().len() > LARGEST {
        errors.too_long(&parameters, LARGEST);
    }
}

/// Selectors of devices, in CEL. `stored`: they are as they were, and were checked then.
pub fn selectors(errors: &mut FieldErrors, at: &At, stored: bool) {
    const MOST: usize = 32;
    if at.list().len() > MOST {
        errors.too_many(at, at.list().len(), MOST);
    }
    for selector in at.items() {
        let expression = selector.field("cel.expression");
        if selector["cel"].is_null() {
            errors.required(&selector.field("cel"), "");
        } else if expression.text().is_empty() {
            errors.required(&expression, "");
        } else if expression.text().len() > device::LONGEST {
            errors.too_long(&expression, device::LONGEST);
        } else if let Some(Err(why)) = (!stored).then(|| DeviceSelector::compile(expression.text())) {
            errors.invalid(&expression, why);
        }
    }
}
