//! Containers of the three kinds: regular, init and ephemeral.
use super::validate::Surroundings;
use super::{environment, handlers, mounts, security};
use crate::check::resources::{self, Owner};
use crate::check::{At, Report, names::port_name, network};
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use std::collections::BTreeSet;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["FallbackToLogsOnError", "File"];
const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// What an ephemeral container may have; it comes and goes beside the pod's real work.
const EPHEMERAL_FIELDS: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
];

pub fn containers(errors: &mut FieldErrors, spec: &At, surroundings: &Surroundings) {
    let list = spec.field("containers");
    if list.list().is_empty() {
        return errors.required(&list, "");
    }
    let (mut seen, mut host_ports) = (BTreeSet::new(), BTreeSet::new());
    for container in list.items() {
        common(errors, &container, surroundings);
        if !seen.insert(container["name"].text().to_owned()) {
            errors.duplicate(&container.field("name"));
        }
        lifecycle_and_probes(errors, &container, surroundings);
        restart_rules(errors, &container);
        unique_host_ports(errors, &container, &mut host_ports);
    }
}

pub fn init_containers(errors: &mut FieldErrors, spec: &At, surroundings: &Surroundings) {
    let mut seen: BTreeSet<&str> = spec["containers"].list().iter().map(|container| container["name"].text()).collect();
    let list = spec.field("initContainers");
    let names: Vec<&str> = spec["initContainers"].list().iter().map(|container| container["name"].text()).collect();
    for (container, name) in list.items().zip(names) {
        common(errors, &container, surroundings);
        if !seen.insert(name) {
            errors.duplicate(&container.field("name"));
        }
        restart_rules(errors, &container);
        // Init containers run one by one, so their ports can't collide with each other.
        unique_host_ports(errors, &container, &mut BTreeSet::new());
        if container["restartPolicy"] == "Always" {
            lifecycle_and_probes(errors, &container, surroundings);
        } else {
            for field in ["lifecycle"].iter().chain(&PROBES) {
                if container[*field].is_set() {
                    errors.forbidden(&container.field(field), "may not be set for init containers without restartPolicy=Always");
                }
            }
        }
    }
}

pub fn ephemeral_containers(errors: &mut FieldErrors, spec: &At, surroundings: &Surroundings) {
    let others: BTreeSet<&str> = spec["containers"].list().iter().chain(spec["initContainers"].list()).map(|container| container["name"].text()).collect();
    let mut seen = others.clone();
    let list = spec.field("ephemeralContainers");
    let names: Vec<&str> = spec["ephemeralContainers"].list().iter().map(|container| container["name"].text()).collect();
    for (container, name) in list.items().zip(names) {
        common(errors, &container, surroundings);
        trimmed_image(errors, &container);
        if !seen.insert(name) {
            errors.duplicate(&container.field("name"));
        }
        let target = container.field("targetContainerName");
        if !target.text().is_empty() && !others.contains(target.text()) {
            errors.not_found(&target);
        }
        for (field, value) in container.value().entries() {
            if !EPHEMERAL_FIELDS.contains(&field.as_str()) && !value.is_zero() {
                errors.forbidden(&container.field(field), "cannot be set for an Ephemeral Container");
            }
        }
        let mounts = container.field("volumeMounts");
        for mount in mounts.items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount[field].text().is_empty() {
                    errors.forbidden(&mount.field(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// Pods, unlike templates, must name their images without spaces around them.
pub fn trimmed_image(errors: &mut FieldErrors, container: &At) {
    let image = container.field("image");
    if image.text().trim() != image.text() {
        errors.invalid(&image, "must not have leading or trailing whitespace");
    }
}

fn common(errors: &mut FieldErrors, container: &At, surroundings: &Surroundings) {
    errors.named(&container.field("name"), names::dns1123_label);
    errors.present(&container.field("image"));
    errors.one_of(&container.field("terminationMessagePolicy"), MESSAGE_POLICIES);
    ports(errors, &container.field("ports"));
    environment::variables(errors, &container.field("env"));
    environment::sources(errors, &container.field("envFrom"));
    mounts::mounts(errors, container, surroundings);
    mounts::devices(errors, container, surroundings);
    errors.one_of(&container.field("imagePullPolicy"), PULL_POLICIES);
    resources::requirements(errors, &container.field("resources"), Owner::Container, &surroundings.claims);
    resize_policies(errors, &container.field("resizePolicy"), surroundings);
    security::container(errors, &container.field("securityContext"), surroundings.host_users);
}

fn ports(errors: &mut FieldErrors, at: &At) {
    let mut seen = BTreeSet::new();
    for port in at.items() {
        let name = port.field("name");
        if !name.text().is_empty() {
            let reasons = port_name(name.text());
            if reasons.is_empty() && !seen.insert(name.text().to_owned()) {
                errors.duplicate(&name);
            }
            errors.reasons(&name, reasons);
        }
        let number = port.field("containerPort");
        if number.int().unwrap_or_default() == 0 {
            errors.required(&number, "");
        } else {
            network::port(errors, &number);
        }
        let host = port.field("hostPort");
        if host.int().unwrap_or_default() != 0 {
            network::port(errors, &host);
        }
        errors.one_of(&port.field("protocol"), network::PROTOCOLS);
    }
}

fn unique_host_ports(errors: &mut FieldErrors, container: &At, seen: &mut BTreeSet<String>) {
    let ports = container.field("ports");
    for port in ports.items() {
        let number = port["hostPort"].int().unwrap_or_default();
        let key = format!("{}/{}/{number}", port["protocol"].text(), port["hostIP"].text());
        if number != 0 && !seen.insert(key.clone()) {
            errors.duplicate_as(&port.field("hostPort"), key);
        }
    }
}

fn lifecycle_and_probes(errors: &mut FieldErrors, container: &At, surroundings: &Surroundings) {
    let lifecycle = container.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.field(hook);
        if hook.is_set() {
            handlers::lifecycle_hook(errors, &hook, surroundings.grace_seconds);
        }
    }
    let signal = lifecycle.field("stopSignal");
    if signal.is_set() {
        handlers::stop_signal(errors, &signal, surroundings.system);
    }
    for probe in PROBES {
        let probe = container.field(probe);
        if probe.is_set() {
            handlers::probe(errors, &probe);
        }
    }
    let readiness = container.field("readinessProbe.terminationGracePeriodSeconds");
    if readiness.is_set() {
        errors.invalid(&readiness, "must not be set for readinessProbes");
    }
    for probe in ["livenessProbe", "startupProbe"] {
        let probe = container.field(probe);
        if probe.is_set() && probe["successThreshold"].int() != Some(1) {
            errors.invalid(&probe.field("successThreshold"), "must be 1");
        }
    }
}

/// A container's own restart policy, and rules by exit code that take precedence over it.
fn restart_rules(errors: &mut FieldErrors, container: &At) {
    errors.one_of_if_set(&container.field("restartPolicy"), RESTART_POLICIES);
    let rules = container.field("restartPolicyRules");
    if rules.list().is_empty() {
        return;
    }
    if container["restartPolicy"].is_null() {
        errors.required(&container.field("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    const MOST_RULES: usize = 20;
    if rules.list().len() > MOST_RULES {
        errors.too_many(&rules, rules.list().len(), MOST_RULES);
    }
    for rule in rules.items() {
        errors.one_of(&rule.field("action"), &["Restart", "RestartAllContainers"]);
        let codes = rule.field("exitCodes");
        if codes.is_null() {
            errors.required(&codes, "must be specified");
            continue;
        }
        errors.one_of(&codes.field("operator"), &["In", "NotIn"]);
        if codes["values"].list().len() > 255 {
            errors.too_many(&codes.field("values"), codes["values"].list().len(), 255);
        }
    }
}

fn resize_policies(errors: &mut FieldErrors, at: &At, surroundings: &Surroundings) {
    let mut seen = BTreeSet::new();
    for policy in at.items() {
        let (resource, restart) = (policy["resourceName"].text(), policy["restartPolicy"].text());
        if !seen.insert(resource.to_owned()) {
            errors.duplicate_as(&policy, resource);
        }
        for (value, supported) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])] {
            if value.is_empty() {
                errors.required(at, "");
            } else if !supported.contains(&value) {
                errors.push(api_meta::FieldError::not_supported(&at.path(), value, &supported));
            }
        }
        if surroundings.restart_policy == "Never" && restart != "NotRequired" {
            errors.invalid_as(at, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}
