//! Resource lists: names, amounts, requests against limits.
use super::at::{At, Report};
use super::numbers::NEGATIVE;
use crate::fields::Read;
use crate::quantities::{is_extended, is_huge_pages, is_native, read};
use api_meta::{FieldErrors, Quantity, names};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whose resources they are: it decides which names are allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Container,
    Pod,
}

/// The resources of a container or of a pod as a whole. `claims` are the pod's resource claims.
pub fn requirements(errors: &mut FieldErrors, at: &At, owner: Owner, claims: &BTreeSet<&str>) {
    let (limits, requests) = (at.field("limits"), at.field("requests"));
    let (mut basic, mut huge) = (false, false);
    for (name, amount) in limits.entries().chain(requests.entries()) {
        resource_name(errors, &amount, name, owner);
        let quantity = amount_of(errors, &amount, name);
        basic |= matches!(name, "cpu" | "memory");
        if is_huge_pages(name) {
            huge = true;
            if let Some(quantity) = quantity
                && !is_multiple_of_page(name, quantity)
            {
                errors.invalid(&amount, format!("{quantity} is not positive integer multiple of {name}"));
            }
        }
    }
    for (name, request) in requests.entries() {
        let Some(asked) = read(&request) else { continue };
        match read(&limits[name]) {
            Some(limit) if asked != limit && !may_overcommit(name) => {
                errors.invalid_as(&requests, asked.to_string(), format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if asked > limit => {
                errors.invalid_as(&requests, asked.to_string(), format!("must be less than or equal to {name} limit of {limit}"));
            }
            None if limits.value()[name].is_null() && !may_overcommit(name) => {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if huge && !basic {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
    claim_references(errors, &at.field("claims"), claims);
}

/// An amount: a quantity, not negative, and whole where the resource is counted.
pub fn amount_of(errors: &mut FieldErrors, at: &At, name: &str) -> Option<Quantity> {
    let quantity = quantity(errors, at)?;
    if is_counted(name) && !quantity.is_integer() {
        errors.invalid(at, "must be an integer");
    }
    Some(quantity)
}

/// A quantity that is not negative; absent ones pass.
pub fn quantity(errors: &mut FieldErrors, at: &At) -> Option<Quantity> {
    if at.is_null() {
        return None;
    }
    match Quantity::parse(at.text()) {
        Ok(quantity) => {
            if quantity.is_negative() {
                errors.invalid(at, NEGATIVE);
            }
            Some(quantity)
        }
        Err(reason) => {
            errors.invalid(at, reason);
            None
        }
    }
}

fn resource_name(errors: &mut FieldErrors, at: &At, name: &str, owner: Owner) {
    for reason in names::qualified_name(name) {
        errors.invalid_as(at, name, reason);
    }
    match owner {
        Owner::Pod => {
            if !crate::quantities::is_pod_level(name) {
                errors.not_supported_name(at, name);
            }
        }
        Owner::Container if !name.contains('/') => {
            if !is_standard(name) {
                errors.invalid_as(at, name, "must be a standard resource type or fully qualified");
            }
            if !is_standard_for_containers(name) {
                errors.invalid_as(at, name, "must be a standard resource for containers");
            }
        }
        Owner::Container => {
            if !is_native(name) && !is_extended(name) {
                errors.invalid_as(at, name, "doesn't follow extended resource name standard");
            }
        }
    }
}

trait ReportName {
    fn not_supported_name(&mut self, at: &At, name: &str);
}

impl ReportName for FieldErrors {
    fn not_supported_name(&mut self, at: &At, name: &str) {
        self.push(api_meta::FieldError::not_supported(&at.path(), name, &["cpu", "hugepages-", "memory"]));
    }
}

/// The names without a prefix that anything may use.
fn is_standard(name: &str) -> bool {
    is_standard_for_containers(name) || is_standard_for_quotas(name)
}

pub fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_pages(name)
}

pub fn is_standard_for_quotas(name: &str) -> bool {
    const COUNTED: &[&str] = &[
        "pods",
        "services",
        "services.nodeports",
        "services.loadbalancers",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
    ];
    const MEASURED: &[&str] = &["cpu", "memory", "ephemeral-storage", "storage"];
    let measured = |name: &str| MEASURED.contains(&name);
    COUNTED.contains(&name)
        || measured(name)
        || name.strip_prefix("requests.").is_some_and(|rest| measured(rest) || is_huge_pages(rest))
        || name.strip_prefix("limits.").is_some_and(|rest| measured(rest) && rest != "storage")
        || name.starts_with("count/")
        || name.contains(".storageclass.storage.k8s.io/")
        || is_huge_pages(name)
}

/// Resources that come in whole numbers.
fn is_counted(name: &str) -> bool {
    is_extended(name)
        || matches!(
            name,
            "pods"
                | "services"
                | "services.nodeports"
                | "services.loadbalancers"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
        )
        || name.starts_with("count/")
}

/// Whether more of it may be requested in sum than there is.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn is_multiple_of_page(name: &str, quantity: Quantity) -> bool {
    let Some(page) = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok()) else { return true };
    page.units() > 0 && quantity.units() % page.units() == 0
}

fn claim_references(errors: &mut FieldErrors, at: &At, claims: &BTreeSet<&str>) {
    let mut seen = BTreeSet::new();
    for reference in at.items() {
        let (name, request) = (reference.value()["name"].text(), reference.value()["request"].text());
        if name.is_empty() {
            errors.required(&reference, "");
            continue;
        }
        if !seen.insert((name, request)) || seen.contains(&(name, "")) && !request.is_empty() {
            errors.duplicate_as(&reference, if request.is_empty() { Value::from(name) } else { format!("{name}/{request}").into() });
        }
        if !claims.contains(name) {
            let mut error = api_meta::FieldError::not_found(&reference.path(), name);
            error.detail = match claims.iter().copied().collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "must be one of the names in pod.spec.resourceClaims which is empty".into(),
                names => format!("must be one of the names in pod.spec.resourceClaims: {names}"),
            };
            errors.push(error);
        }
    }
}
