//! The spec of a definition as a whole.
//!
//! Upstream keeps what all versions have in common at the top of the spec, and names it there in its
//! errors: `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns`, `spec.selectableFields`.
use super::{conversion, names, version};
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, FieldPath, names as rules};
use serde_json::Value;

/// Where a part of every version stands, for errors.
pub fn place(versions: &[Value], index: usize, part: &str, common: &str) -> Option<FieldPath> {
    let same = versions.iter().all(|version| version.get(part).is_some_and(|value| !value.is_zero()) && version[part] == versions[0][part]);
    match (same, index) {
        (true, 0) => Some(FieldPath::new("spec").child(common)),
        // It has been told of the first version.
        (true, _) => None,
        _ => Some(FieldPath::new("spec.versions").index(index).child(part)),
    }
}

pub fn validate(errors: &mut FieldErrors, spec: &At, old: Option<&Value>) {
    let group = spec.field("group");
    let why = rules::dns1123_subdomain(group.text());
    if group.text().is_empty() {
        errors.required(&group, "");
    } else if !why.is_empty() {
        errors.invalid(&group, why.join(","));
    } else if !group.text().contains('.') {
        errors.invalid(&group, "should be a domain with at least one dot");
    }
    errors.one_of(&spec.field("scope"), &["Cluster", "Namespaced"]);
    let preserve = spec.field("preserveUnknownFields");
    let versions = spec.field("versions");
    for at in versions.items() {
        let schema = at.field("schema.openAPIV3Schema");
        if schema.is_null() {
            errors.required(&schema, "");
        }
    }
    if preserve.flag() && versions.list().iter().any(|version| version::has_defaults(&version["schema"]["openAPIV3Schema"])) {
        errors.invalid_as(&preserve, true, "must be false in order to use defaults in the schema");
    }
    let mut seen = Vec::new();
    let mut unique = true;
    for (index, at) in versions.items().enumerate() {
        let name = at.field("name");
        unique &= !seen.contains(&name.text().to_owned());
        seen.push(name.text().to_owned());
        let why = rules::dns1035_label(name.text());
        if !why.is_empty() {
            errors.invalid_as(&name, name.text(), why.join(","));
        }
        version::validate(errors, &at, versions.list(), index, old);
    }
    if !unique {
        errors.invalid(&versions, "must contain unique version names");
    }
    if versions.list().iter().filter(|version| version["storage"].flag()).count() != 1 {
        errors.invalid(&versions, "must have exactly one version marked as storage version");
    }
    for field in ["plural", "singular", "kind", "listKind"] {
        errors.present(&spec.field("names").field(field));
    }
    names::validate(errors, &spec.field("names"));
    let strategy = spec.field("conversion.strategy");
    if preserve.flag() && strategy.text() != "None" {
        errors.invalid(&strategy, "must be None if spec.preserveUnknownFields is true");
    }
    conversion::validate(errors, &spec.field("conversion"));
    if let Some(old) = old {
        let before = &old["spec"];
        let established = old["status"]["conditions"].list().iter().any(|c| c["type"] == "Established" && c["status"] == "True");
        if established {
            errors.immutable(&spec.field("scope"), &before["scope"]);
            errors.immutable(&spec.field("names").field("kind"), &before["names"]["kind"]);
        }
        errors.immutable(&spec.field("group"), &before["group"]);
        errors.immutable(&spec.field("names").field("plural"), &before["names"]["plural"]);
    }
    if preserve.flag() && old.is_none_or(|old| !old["spec"]["preserveUnknownFields"].flag()) {
        errors.invalid_as(&preserve, true, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead");
    }
}
