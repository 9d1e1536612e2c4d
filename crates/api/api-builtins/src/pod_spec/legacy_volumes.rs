//! Volume sources of particular storage systems, most of them served by CSI drivers by now: each has rules of its own.
use crate::check::names::unreserved_path;
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;

/// Fields that have to be there.
const REQUIRED: &[(&str, &[&str])] = &[
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flexVolume", &["driver"]),
    ("cinder", &["volumeID"]),
    ("rbd", &["image"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("quobyte", &["registry", "volume"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
];

/// Since when a source is discouraged, and since when it does nothing.
pub const DEPRECATED: &[(&str, &str)] = &[
    ("gitRepo", "deprecated in v1.11"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// A source of this kind.
pub fn source(errors: &mut FieldErrors, source: &At, kind: &str) {
    let required = REQUIRED.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, fields)| fields);
    for field in required {
        errors.present(&source.field(field));
    }
    match kind {
        "nfs" => {
            let path = source.field("path");
            if !path.text().is_empty() && !path.text().starts_with('/') {
                errors.invalid(&path, "must be an absolute path");
            }
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(errors, &source.field("partition")),
        "gitRepo" => {
            let directory = source.field("directory");
            errors.reasons(&directory, unreserved_path(directory.text()));
        }
        "rbd" | "cephfs" => {
            let monitors = source.field("monitors");
            if monitors.list().is_empty() {
                errors.required(&monitors, "");
            }
        }
        "flocker" => flocker(errors, source),
        "fc" => fibre_channel(errors, source),
        "iscsi" => iscsi(errors, source),
        "quobyte" => quobyte(errors, source),
        "azureDisk" => azure_disk(errors, source),
        "scaleIO" if source["secretRef"]["name"].text().is_empty() => errors.required(&source.field("secretRef"), ""),
        "cinder" => {
            let secret = source.field("secretRef");
            if secret.is_set() {
                errors.present(&secret.field("name"));
            }
        }
        _ => {}
    }
}

fn partition(errors: &mut FieldErrors, at: &At) {
    if at.int().is_some_and(|partition| !(0..=255).contains(&partition)) {
        errors.invalid(at, "must be between 0 and 255, inclusive");
    }
}

fn flocker(errors: &mut FieldErrors, source: &At) {
    let name = source.field("datasetName");
    match (name.text().is_empty(), source["datasetUUID"].text().is_empty()) {
        (true, true) => errors.required(source, "one of datasetName and datasetUUID is required"),
        (false, false) => errors.invalid_as(source, "resource", "datasetName and datasetUUID can not be specified simultaneously"),
        _ => {}
    }
    if name.text().contains('/') {
        errors.invalid(&name, "must not contain '/'");
    }
}

fn fibre_channel(errors: &mut FieldErrors, source: &At) {
    let (names, ids, lun) = (source.field("targetWWNs"), source.field("wwids"), source.field("lun"));
    match (names.list().is_empty(), ids.list().is_empty()) {
        (true, true) => errors.required(&names, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => errors.invalid(&names, "targetWWNs and wwids can not be specified simultaneously"),
        (false, true) => match lun.int() {
            None => errors.required(&lun, "lun is required if targetWWNs is specified"),
            Some(number) if !(0..=255).contains(&number) => errors.invalid(&lun, "must be between 0 and 255, inclusive"),
            Some(_) => {}
        },
        (true, false) => {}
    }
}

fn iscsi(errors: &mut FieldErrors, source: &At) {
    let (name, lun, initiator) = (source.field("iqn"), source.field("lun"), source.field("initiatorName"));
    for name in [&name, &initiator].into_iter().filter(|name| !name.text().is_empty()) {
        if !["iqn", "eui", "naa"].iter().any(|form| name.text().starts_with(form)) {
            errors.invalid(name, "must be valid format");
        }
    }
    if lun.int().is_some_and(|number| !(0..=255).contains(&number)) {
        errors.invalid(&lun, "must be between 0 and 255, inclusive");
    }
    if (source["chapAuthDiscovery"].flag() || source["chapAuthSession"].flag()) && source["secretRef"].is_null() {
        errors.required(&source.field("secretRef"), "");
    }
}

fn quobyte(errors: &mut FieldErrors, source: &At) {
    let registry = source.field("registry");
    if registry.text().len() >= 65 {
        errors.invalid(&source.field("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    }
    for entry in registry.text().split(',').filter(|_| !registry.text().is_empty()) {
        if !entry.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            errors.invalid(&registry, "must be a host:port pair or multiple pairs separated by commas");
        }
    }
}

fn azure_disk(errors: &mut FieldErrors, source: &At) {
    const CACHING: &[&str] = &["None", "ReadOnly", "ReadWrite"];
    const KINDS: &[&str] = &["Dedicated", "Managed", "Shared"];
    let (caching, kind, uri) = (source.field("cachingMode"), source.field("kind"), source.field("diskURI"));
    for (at, supported) in [(&caching, CACHING), (&kind, KINDS)] {
        if at.is_set() && !supported.contains(&at.text()) {
            errors.not_supported(at, supported);
        }
    }
    // Managed disks are named by resource, the others by the blob they are.
    let managed = kind.text() == "Managed";
    if managed && !uri.text().starts_with("/subscriptions/") {
        errors.not_supported(&uri, &["/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"]);
    } else if kind.is_set() && !managed && !uri.text().starts_with("https://") {
        errors.not_supported(&uri, &["https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"]);
    }
}
