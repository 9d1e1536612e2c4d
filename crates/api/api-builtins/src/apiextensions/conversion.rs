//! How objects of one version become objects of another.
use crate::admissionregistration::client_config;
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, FieldPath, names};
use serde_json::Value;

pub fn validate(errors: &mut FieldErrors, conversion: &At) {
    if conversion.is_null() {
        return;
    }
    errors.one_of(&conversion.field("strategy"), &["None", "Webhook"]);
    // Upstream's errors name the fields as they are called inside of it.
    let config = &conversion["webhook"]["clientConfig"];
    let versions = &conversion["webhook"]["conversionReviewVersions"];
    let path = conversion.path();
    let (config_path, versions_path) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let (config_at, versions_at) = (At::new(config, config_path.as_str()), At::new(versions, versions_path.as_str()));
    if conversion["strategy"] != "Webhook" {
        const NOT_SET: &str = "should not be set when strategy is not set to Webhook";
        if config.is_set() {
            errors.forbidden(&config_at, NOT_SET);
        }
        if !versions.list().is_empty() {
            errors.forbidden(&versions_at, NOT_SET);
        }
        return;
    }
    if config.is_null() {
        errors.required(&config_at, "required when strategy is set to Webhook");
    } else {
        client_config(errors, &config_at);
    }
    review_versions(errors, &versions_at, &versions_path);
}

fn review_versions(errors: &mut FieldErrors, versions: &At, path: &FieldPath) {
    if versions.list().is_empty() {
        return errors.required(versions, "");
    }
    let mut seen: Vec<&Value> = Vec::new();
    for at in versions.items() {
        if seen.contains(&at.value()) {
            errors.invalid(&at, "duplicate version");
            continue;
        }
        seen.push(at.value());
        errors.reasons(&at, names::dns1035_label(at.text()));
    }
    if !versions.texts().any(|version| matches!(version, "v1" | "v1beta1")) {
        errors.push(api_meta::FieldError::invalid(path, versions.value().clone(), "must include at least one of v1, v1beta1"));
    }
}
