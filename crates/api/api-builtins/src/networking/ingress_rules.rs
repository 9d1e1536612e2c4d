//! Validation of Ingresses: hosts, paths and backends.
use crate::check::names::wildcard_subdomain;
use crate::check::{At, Report, names::port_name, network};
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use serde_json::Value;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub fn ingress(new: &Value, old: Option<&Value>) -> FieldErrors {
    let mut all = FieldErrors::new();
    let errors = &mut all;
    let root = At::root(new);
    let spec = root.field("spec");
    let (backend, rules, class) = (spec.field("defaultBackend"), spec.field("rules"), spec.field("ingressClassName"));
    if old.is_none() && new["metadata"]["annotations"][CLASS_ANNOTATION].is_set() && class.is_set() {
        let annotation = &new["metadata"]["annotations"][CLASS_ANNOTATION];
        errors.invalid(&At::new(annotation, "annotations.kubernetes.io/ingress.class"), "can not be set when the class field is also set");
    }
    if rules.list().is_empty() && backend.is_null() {
        errors.invalid_as(&spec, Value::Array(Vec::new()), "either `defaultBackend` or `rules` must be specified");
    }
    if backend.is_set() {
        self::backend(errors, &backend);
    }
    for rule in rules.items() {
        host(errors, &rule.field("host"));
        let paths = rule.field("http.paths");
        if rule["http"].is_set() && paths.list().is_empty() {
            errors.required(&paths, "");
        }
        for path in paths.items() {
            http_path(errors, &path);
        }
    }
    let tls = spec.field("tls");
    for entry in tls.items() {
        let hosts = entry.field("hosts");
        for name in hosts.items() {
            let rule = if name.text().starts_with('*') { wildcard_subdomain } else { names::dns1123_subdomain };
            errors.reasons(&name, rule(name.text()));
        }
        errors.named_if_set(&entry.field("secretName"), names::dns1123_subdomain);
    }
    if class.is_set() {
        errors.reasons(&class, names::dns1123_subdomain(class.text()));
    }
    all
}

fn host(errors: &mut FieldErrors, at: &At) {
    let name = at.text();
    if name.is_empty() {
        return;
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        errors.invalid(at, "must be a DNS name, not an IP address");
    }
    let rule = if name.contains('*') { wildcard_subdomain } else { names::dns1123_subdomain };
    errors.reasons(at, rule(name));
}

fn http_path(errors: &mut FieldErrors, at: &At) {
    const FORBIDDEN_SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
    const FORBIDDEN_ENDS: &[&str] = &["/..", "/."];
    let (kind, path) = (at.field("pathType"), at.field("path"));
    match kind.text() {
        "Exact" | "Prefix" => {
            if !path.text().starts_with('/') {
                errors.invalid_as(&path, path.text(), "must be an absolute path");
            }
            for sequence in FORBIDDEN_SEQUENCES.iter().filter(|sequence| path.text().contains(**sequence)) {
                errors.invalid(&path, format!("must not contain '{sequence}'"));
            }
            for end in FORBIDDEN_ENDS.iter().filter(|end| path.text().ends_with(**end)) {
                errors.invalid(&path, format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.text().is_empty() && !path.text().starts_with('/') {
                errors.invalid(&path, "must be an absolute path");
            }
        }
        "" => errors.required(&kind, "pathType must be specified"),
        _ => errors.not_supported(&kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(errors, &at.field("backend"));
}

fn backend(errors: &mut FieldErrors, at: &At) {
    let (service, resource) = (at.field("service"), at.field("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.invalid_as(at, "", "cannot set both resource and service backends"),
        (false, false) => errors.required(at, "resource or service backend is required"),
        (false, true) => {
            errors.present(&resource.field("kind"));
            errors.present(&resource.field("name"));
        }
        (true, false) => {
            errors.named(&service.field("name"), names::dns1035_label);
            let (name, number) = (service.field("port.name"), service.field("port.number"));
            match (!name.text().is_empty(), number.int().unwrap_or_default() != 0) {
                (true, true) => errors.invalid_as(at, "", "cannot set both port name & port number"),
                (true, false) => errors.reasons(&name, port_name(name.text())),
                (false, true) => network::port(errors, &number),
                (false, false) => errors.required(at, "port name or number is required"),
            }
        }
    }
}
