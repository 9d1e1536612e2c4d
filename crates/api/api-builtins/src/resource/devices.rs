//! Devices as drivers publish them: names of drivers, pools and attributes, and what an attribute may hold.
use crate::check::{At, Report, resources};
use crate::fields::Read;
use crate::resource::counters;
use crate::resource::device_taint_rule::taint;
use api_meta::{FieldErrors, names};

const LONGEST_DRIVER: usize = 63;
const LONGEST_POOL: usize = 253;
const MOST_ATTRIBUTES: usize = 32;
const MOST_TAINTS: usize = 16;
const LONGEST_DOMAIN: usize = 63;
const LONGEST_IDENTIFIER: usize = 32;
const LONGEST_VALUE: usize = 64;

/// The name of a driver: a domain.
pub fn driver_name(errors: &mut FieldErrors, at: &At) {
    if at.text().is_empty() {
        return errors.required(at, "");
    }
    if at.text().len() > LONGEST_DRIVER {
        errors.too_long(at, LONGEST_DRIVER);
    }
    errors.reasons(at, names::dns1123_subdomain(&at.text().to_lowercase()));
}

/// The name of a pool: domains with slashes between.
pub fn pool_name(errors: &mut FieldErrors, at: &At) {
    if at.text().is_empty() {
        return errors.required(at, "");
    }
    if at.text().len() > LONGEST_POOL {
        errors.too_long(at, LONGEST_POOL);
    }
    for part in at.text().split('/') {
        errors.reasons(at, names::dns1123_subdomain(part));
    }
}

/// An attribute's name: a C identifier, after a domain and a slash if it is not the driver's own.
pub fn qualified_name(errors: &mut FieldErrors, at: &At, name: &str) {
    let (domain, identifier) = match name.split_once('/') {
        Some((domain, identifier)) => (Some(domain), identifier),
        None => (None, name),
    };
    if let Some(domain) = domain {
        if domain.is_empty() {
            errors.required(at, "the domain must not be empty");
        } else {
            if domain.len() > LONGEST_DOMAIN {
                errors.too_long(at, LONGEST_DOMAIN);
            }
            for reason in names::dns1123_subdomain(domain) {
                errors.invalid_as(at, domain, reason);
            }
        }
    }
    let first_fits = identifier.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if identifier.is_empty() {
        errors.required(at, "the name must not be empty");
    } else if identifier.len() > LONGEST_IDENTIFIER {
        errors.too_long(at, LONGEST_IDENTIFIER);
    } else if !first_fits || !identifier.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        errors.invalid_as(
            at,
            identifier,
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
        );
    }
}

/// One device of a slice. `placed`: its slice says per device where it is.
pub fn device(errors: &mut FieldErrors, at: &At, placed: bool) {
    let (attributes, capacity, taints) = (at.field("attributes"), at.field("capacity"), at.field("taints"));
    let total = attributes.entries().count() + capacity.entries().count();
    if total > MOST_ATTRIBUTES {
        errors.invalid_as(at, total, format!("the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES}"));
    }
    for (name, value) in attributes.entries() {
        qualified_name(errors, &value, name);
        attribute(errors, &value);
    }
    for (name, value) in capacity.entries() {
        qualified_name(errors, &value, name);
        resources::quantity(errors, &value.field("value"));
    }
    counters::consumption(errors, &at.field("consumesCounters"));
    if taints.list().len() > MOST_TAINTS {
        errors.too_many(&taints, taints.list().len(), MOST_TAINTS);
    }
    taints.items().for_each(|at| taint(errors, &at));
    let where_to: Vec<&str> = ["nodeName", "nodeSelector", "allNodes"].into_iter().filter(|field| !at[*field].is_zero()).collect();
    match where_to.len() {
        0 if placed => errors.required(at, "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the spec"),
        0 => {}
        _ if !placed => {
            for field in where_to {
                errors.invalid(&at.field(field), "may only be specified when `perDeviceNodeSelection` is set to true in the spec");
            }
        }
        1 => {}
        _ => errors.invalid_as(
            at,
            format!("{{{}}}", where_to.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")),
            "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the spec, but multiple fields are set",
        ),
    }
}

fn attribute(errors: &mut FieldErrors, at: &At) {
    match ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"].into_iter().filter(|field| at[*field].is_set()).count() {
        0 => errors.required(at, "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(at, "exactly one value must be specified"),
    }
    for field in ["string", "version"] {
        let text = at.field(field);
        if text.text().len() > LONGEST_VALUE {
            errors.too_long(&text, LONGEST_VALUE);
        }
    }
    let version = at.field("version");
    if version.is_set() && !is_semantic_version(version.text()) {
        errors.invalid(&version, "must be a string compatible with semver.org spec 2.0.0");
    }
}

/// `1.2.3`, with a pre-release after a dash and a build after a plus.
fn is_semantic_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
    let identifier = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let counted = |part: &str| identifier(part) && (!part.bytes().all(|byte| byte.is_ascii_digit()) || numeric(part));
    core.split('.').count() == 3
        && core.split('.').all(numeric)
        && pre.is_none_or(|pre| pre.split('.').all(counted))
        && build.is_none_or(|build| build.split('.').all(identifier))
}
