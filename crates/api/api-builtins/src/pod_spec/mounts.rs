//! Volume mounts and block devices of a container.
use super::validate::Surroundings;
use crate::check::{At, Report, names};
use crate::fields::Read;
use api_meta::FieldErrors;
use std::collections::{BTreeMap, BTreeSet};

pub fn mounts(errors: &mut FieldErrors, container: &At, surroundings: &Surroundings) {
    let devices: BTreeMap<&str, &str> = container["volumeDevices"].list().iter().map(|device| (device["name"].text(), device["devicePath"].text())).collect();
    let mut paths = BTreeSet::new();
    let list = container.field("volumeMounts");
    for mount in list.items() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        if name.text().is_empty() {
            errors.required(&name, "");
        }
        let volume = surroundings.volumes.get(name.text());
        if volume.is_none() {
            errors.not_found(&name);
        }
        if path.text().is_empty() {
            errors.required(&path, "");
        }
        if !paths.insert(path.text().to_owned()) {
            errors.invalid(&path, "must be unique");
        }
        if devices.contains_key(name.text()) {
            errors.invalid(&name, "must not already exist in volumeDevices");
        }
        if devices.values().any(|device| *device == path.text()) {
            errors.invalid(&path, "must not already exist as a path in volumeDevices");
        }
        let (sub_path, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
        for reason in names::descending_path(sub_path.text()) {
            errors.invalid_as(&list.field("subPath"), sub_path.text(), reason);
        }
        if !expression.text().is_empty() {
            if !sub_path.text().is_empty() {
                errors.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
            }
            for reason in names::descending_path(expression.text()) {
                errors.invalid_as(&list.field("subPathExpr"), expression.text(), reason);
            }
        }
        propagation(errors, container, &mount, &list);
        read_only(errors, &mount, &list);
    }
}

fn propagation(errors: &mut FieldErrors, container: &At, mount: &At, list: &At) {
    let propagation = mount["mountPropagation"].text();
    let at = list.field("mountPropagation");
    match propagation {
        "" | "None" | "HostToContainer" => {}
        "Bidirectional" => {
            if !container["securityContext"]["privileged"].flag() {
                errors.forbidden(&at, "Bidirectional mount propagation is available only to privileged containers");
            }
        }
        other => errors.push(api_meta::FieldError::not_supported(&at.path(), other, &["Bidirectional", "HostToContainer", "None"])),
    }
}

fn read_only(errors: &mut FieldErrors, mount: &At, list: &At) {
    let at = list.field("recursiveReadOnly");
    match mount["recursiveReadOnly"].text() {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount["readOnly"].flag() {
                errors.forbidden(&at, "may only be specified when readOnly is true");
            }
            if !matches!(mount["mountPropagation"].text(), "" | "None") {
                errors.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
            }
        }
        other => errors.push(api_meta::FieldError::not_supported(&at.path(), other, &["Disabled", "Enabled", "IfPossible"])),
    }
}

pub fn devices(errors: &mut FieldErrors, container: &At, surroundings: &Surroundings) {
    let mounts: BTreeMap<&str, &str> = container["volumeMounts"].list().iter().map(|mount| (mount["name"].text(), mount["mountPath"].text())).collect();
    let (mut seen_names, mut seen_paths) = (BTreeSet::new(), BTreeSet::new());
    let list = container.field("volumeDevices");
    for device in list.items() {
        let (name, path) = (device.field("name"), device.field("devicePath"));
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if !seen_names.insert(name.text().to_owned()) {
            errors.invalid(&name, "must be unique");
        }
        match surroundings.volumes.get(name.text()) {
            None => errors.not_found(&name),
            Some(volume) if volume["persistentVolumeClaim"].is_null() && volume["ephemeral"].is_null() => {
                errors.invalid(&name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode");
            }
            Some(_) => {}
        }
        if path.text().is_empty() {
            errors.required(&path, "");
        } else if !names::no_backsteps(path.text()).is_empty() {
            errors.invalid(&path, "can not contain backsteps ('..')");
        } else if !seen_paths.insert(path.text().to_owned()) {
            errors.invalid(&path, "must be unique");
        }
        if mounts.contains_key(name.text()) {
            errors.invalid(&name, "must not already exist in volumeMounts");
        }
        if mounts.values().any(|mount| *mount == path.text()) {
            errors.invalid(&path, "must not already exist as a path in volumeMounts");
        }
    }
}
