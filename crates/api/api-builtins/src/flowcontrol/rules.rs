//! The rules of a FlowSchema: whose requests, to which resources and paths.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, names};

const VERBS: &[&str] = &["*", "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// One rule.
pub fn rule(errors: &mut FieldErrors, rule: &At) {
    let (subjects, on_resources, on_paths) = (rule.field("subjects"), rule.field("resourceRules"), rule.field("nonResourceRules"));
    if subjects.list().is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    subjects.items().for_each(|at| subject(errors, &at));
    if on_resources.list().is_empty() && on_paths.list().is_empty() {
        errors.required(rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    on_resources.items().for_each(|at| resources(errors, &at));
    on_paths.items().for_each(|at| paths(errors, &at));
}

fn subject(errors: &mut FieldErrors, at: &At) {
    const KINDS: &[(&str, &str)] = &[("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = at.field("kind");
    let Some((_, own)) = KINDS.iter().find(|(name, _)| *name == kind.text()) else {
        return errors.not_supported(&kind, &["Group", "ServiceAccount", "User"]);
    };
    for (other, field) in KINDS.iter().filter(|(_, field)| field != own && at[*field].is_set()) {
        errors.forbidden(&at.field(field), format!("{field} is forbidden when subject kind is not '{other}'"));
    }
    let named = at.field(own);
    if named.is_null() {
        return errors.required(&named, &format!("{own} is required when subject kind is '{}'", kind.text()));
    }
    let name = named.field("name");
    if name.text().is_empty() {
        errors.required(&name, "");
    }
    if *own == "serviceAccount" {
        if !matches!(name.text(), "" | "*") {
            errors.reasons(&name, names::dns1123_subdomain(name.text()));
        }
        let namespace = named.field("namespace");
        if namespace.text().is_empty() {
            errors.required(&namespace, "must specify namespace for service account");
        } else {
            errors.reasons(&namespace, names::dns1123_label(namespace.text()));
        }
    }
}

fn verbs(errors: &mut FieldErrors, at: &At) {
    if at.list().is_empty() {
        errors.required(at, "verbs must contain at least one value");
    } else if at.list().len() > 1 && has_star(at) {
        errors.invalid(at, "if '*' is present, must not specify other verbs");
    } else if at.texts().any(|verb| !VERBS.contains(&verb)) {
        errors.not_supported(at, VERBS);
    }
}

fn has_star(at: &At) -> bool {
    at.texts().any(|text| text == "*")
}

/// A list that must not be empty, and must not say more beside `*`.
fn some(errors: &mut FieldErrors, at: &At, none: &str, others: &str) {
    if at.list().is_empty() {
        errors.required(at, none);
    } else if at.list().len() > 1 && has_star(at) {
        errors.invalid(at, format!("if '*' is present, must not specify other {others}"));
    }
}

fn resources(errors: &mut FieldErrors, at: &At) {
    verbs(errors, &at.field("verbs"));
    some(errors, &at.field("apiGroups"), "resource rules must supply at least one api group", "api groups");
    some(errors, &at.field("resources"), "resource rules must supply at least one resource", "resources");
    let namespaces = at.field("namespaces");
    if namespaces.list().is_empty() && !at["clusterScope"].flag() {
        errors.required(&namespaces, "resource rules that are not cluster scoped must supply at least one namespace");
    } else if has_star(&namespaces) {
        if namespaces.list().len() > 1 {
            errors.invalid(&namespaces, "if '*' is present, must not specify other namespaces");
        }
    } else {
        for namespace in namespaces.items() {
            errors.reasons(&namespace, names::dns1123_label(namespace.text()));
        }
    }
}

fn paths(errors: &mut FieldErrors, at: &At) {
    verbs(errors, &at.field("verbs"));
    let urls = at.field("nonResourceURLs");
    some(errors, &urls, "nonResourceURLs must contain at least one value", "non-resource URLs");
    if has_star(&urls) {
        return;
    }
    for url in urls.items() {
        if let Some(why) = wrong_with(url.text()) {
            errors.invalid(&url, why);
        }
    }
}

fn wrong_with(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || stars == 1 && !path.ends_with("/*") => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}
