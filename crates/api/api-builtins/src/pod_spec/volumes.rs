//! Volumes of a pod: each has a name and one source.
use super::{environment, legacy_volumes};
use crate::check::{At, Report, names::no_backsteps, names::unreserved_path};
use crate::fields::Read;
use api_meta::{FieldErrors, Quantity, names};
use serde_json::Value;
use std::collections::BTreeSet;

const HOST_PATH_TYPES: &[&str] = &["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
const DOWNWARD_FIELDS: &[&str] = &["metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"];

pub fn volumes(errors: &mut FieldErrors, at: &At, pod_name: Option<&str>) {
    let mut seen = BTreeSet::new();
    for volume in at.items() {
        let name = volume.field("name");
        match name.text() {
            "" => errors.required(&name, ""),
            text => {
                let reasons = names::dns1123_label(text);
                let unique = !reasons.is_empty() || seen.insert(text.to_owned());
                errors.reasons(&name, reasons);
                if !unique {
                    errors.duplicate(&name);
                }
            }
        }
        source(errors, &volume, pod_name);
    }
}

fn source(errors: &mut FieldErrors, volume: &At, pod_name: Option<&str>) {
    let mut found = false;
    for (kind, value) in volume.value().entries() {
        if kind == "name" || value.is_null() {
            continue;
        }
        let source = volume.field(kind);
        if found {
            errors.forbidden(&source, "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        match kind.as_str() {
            "emptyDir" => empty_dir(errors, &source),
            "hostPath" => host_path(errors, &source),
            "secret" => {
                errors.present(&source.field("secretName"));
                files(errors, &source);
            }
            "configMap" => {
                errors.present(&source.field("name"));
                files(errors, &source);
            }
            "downwardAPI" => downward(errors, &source),
            "projected" => projected(errors, &source),
            "csi" => csi(errors, &source),
            "ephemeral" => ephemeral(errors, &source, volume["name"].text(), pod_name),
            "image" => image(errors, &source),
            other => legacy_volumes::source(errors, &source, other),
        }
    }
    if !found {
        errors.required(volume, "must specify a volume type");
    }
}

fn image(errors: &mut FieldErrors, source: &At) {
    let reference = source.field("reference");
    errors.present(&reference);
    if reference.text().trim() != reference.text() {
        errors.invalid(&reference, "must not have leading or trailing whitespace");
    }
    errors.one_of_if_set(&source.field("pullPolicy"), &["Always", "IfNotPresent", "Never"]);
}

fn empty_dir(errors: &mut FieldErrors, source: &At) {
    let limit = source.field("sizeLimit");
    if limit.is_set() && !Quantity::parse(limit.text()).is_ok_and(|limit| !limit.is_negative()) {
        errors.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
    }
    let medium = source["medium"].text();
    if !matches!(medium, "" | "Memory" | "HugePages") && !medium.starts_with("HugePages-") {
        errors.not_supported(&source.field("medium"), &["", "HugePages", "HugePages-", "Memory"]);
    }
}

fn host_path(errors: &mut FieldErrors, source: &At) {
    let path = source.field("path");
    if path.text().is_empty() {
        return errors.required(&path, "");
    }
    errors.reasons(&path, no_backsteps(path.text()));
    let kind = source.field("type");
    if kind.is_set() && !HOST_PATH_TYPES.contains(&kind.text()) {
        errors.not_supported(&kind, HOST_PATH_TYPES);
    }
}

/// `defaultMode` and `items` of a Secret, ConfigMap or projection of one.
fn files(errors: &mut FieldErrors, source: &At) {
    mode(errors, &source.field("defaultMode"));
    let items = source.field("items");
    for item in items.items() {
        errors.present(&item.field("key"));
        path(errors, &item.field("path"));
        mode(errors, &item.field("mode"));
    }
}

fn path(errors: &mut FieldErrors, at: &At) {
    if at.text().is_empty() {
        errors.required(at, "");
    } else {
        errors.reasons(at, unreserved_path(at.text()));
    }
}

fn mode(errors: &mut FieldErrors, at: &At) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(at, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn downward(errors: &mut FieldErrors, source: &At) {
    mode(errors, &source.field("defaultMode"));
    let items = source.field("items");
    for item in items.items() {
        path(errors, &item.field("path"));
        let (field, resource) = (item.field("fieldRef"), item.field("resourceFieldRef"));
        match (field.is_set(), resource.is_set()) {
            (true, resource_too) => {
                environment::pod_field(errors, &field, DOWNWARD_FIELDS);
                if resource_too {
                    errors.invalid_as(&item, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
                }
            }
            (false, true) => environment::resource_field(errors, &resource, true),
            (false, false) => errors.required(&item, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(errors, &item.field("mode"));
    }
}

fn projected(errors: &mut FieldErrors, source: &At) {
    mode(errors, &source.field("defaultMode"));
    let mut paths = BTreeSet::new();
    let sources = source.field("sources");
    for projection in sources.items() {
        let kinds: Vec<&String> = projection.value().entries().filter(|(_, value)| value.is_set()).map(|(kind, _)| kind).collect();
        for (index, kind) in kinds.iter().enumerate() {
            let part = projection.field(kind);
            if index > 0 {
                errors.forbidden(&part, "may not specify more than 1 volume type");
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    errors.present(&part.field("name"));
                    files(errors, &part);
                }
                "downwardAPI" => downward(errors, &part),
                "serviceAccountToken" => token(errors, &part),
                "clusterTrustBundle" => trust_bundle(errors, &part),
                "podCertificate" => certificate(errors, &part),
                _ => {}
            }
        }
        if kinds.is_empty() {
            errors.required(&projection, "must specify a volume type");
        }
        for written in projected_paths(projection.value()) {
            if !written.is_empty() && !paths.insert(written.to_owned()) {
                errors.invalid_as(&source.field("sources"), written, "conflicting duplicate paths");
            }
        }
    }
}

/// The files a projection writes, as far as it names them.
fn projected_paths(projection: &Value) -> impl Iterator<Item = &str> {
    let items = ["secret", "configMap", "downwardAPI"].into_iter().flat_map(|kind| projection[kind]["items"].list()).map(|item| item["path"].text());
    let certificate = ["credentialBundlePath", "keyPath", "certificateChainPath"].into_iter().map(|file| projection["podCertificate"][file].text());
    items.chain(["serviceAccountToken", "clusterTrustBundle"].into_iter().map(|kind| projection[kind]["path"].text())).chain(certificate)
}

fn token(errors: &mut FieldErrors, part: &At) {
    let seconds = part.field("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < 600) {
        errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds.int().is_some_and(|seconds| seconds > 1 << 32) {
        errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
    }
    path(errors, &part.field("path"));
}

fn trust_bundle(errors: &mut FieldErrors, part: &At) {
    let (name, signer) = (part["name"].is_set(), part["signerName"].is_set());
    match (name, signer) {
        (true, true) => errors.invalid(part, "only one of name and signerName may be used"),
        (false, false) => errors.required(part, "either name or signerName must be set"),
        _ => {}
    }
    path(errors, &part.field("path"));
}

/// A key and certificate that a signer gives the pod.
fn certificate(errors: &mut FieldErrors, part: &At) {
    const KEY_TYPES: &[&str] = &["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
    crate::certificates::signer_name(errors, &part.field("signerName"));
    errors.one_of(&part.field("keyType"), KEY_TYPES);
    let seconds = part.field("maxExpirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < 3600) {
        errors.invalid(&seconds, "if provided, maxExpirationSeconds must be >= 3600");
    }
    if seconds.int().is_some_and(|seconds| seconds > 7_862_400) {
        errors.invalid(&seconds, "if provided, maxExpirationSeconds must be <= 7862400");
    }
    let files = ["credentialBundlePath", "keyPath", "certificateChainPath"].map(|field| part.field(field));
    if files.iter().all(|file| file.text().is_empty()) {
        errors.required(part, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
    for file in files.iter().filter(|file| !file.text().is_empty()) {
        path(errors, file);
    }
}

fn csi(errors: &mut FieldErrors, source: &At) {
    errors.named(&source.field("driver"), csi_driver_name);
    let secret = source.field("nodePublishSecretRef");
    if secret.is_set() {
        errors.present(&secret.field("name"));
    }
}

/// The name of a CSI driver: a subdomain in any case, of at most 63 bytes.
pub fn csi_driver_name(name: &str) -> Vec<String> {
    let mut reasons = names::dns1123_subdomain(&name.to_lowercase());
    if name.len() > 63 {
        reasons.push("must be no more than 63 bytes".into());
    }
    reasons
}

fn ephemeral(errors: &mut FieldErrors, source: &At, volume: &str, pod_name: Option<&str>) {
    let template = source.field("volumeClaimTemplate");
    if template.is_null() {
        return errors.required(&template, "");
    }
    crate::core::claim_spec(errors, &template.field("spec"));
    // The claim takes its name from the pod and the volume.
    if let Some(pod) = pod_name.filter(|pod| !pod.is_empty()) {
        for reason in names::dns1123_subdomain(&format!("{pod}-{volume}")) {
            errors.invalid_as(source, volume, format!("PVC name {:?}: {reason}", format!("{pod}-{volume}")));
        }
    }
}
