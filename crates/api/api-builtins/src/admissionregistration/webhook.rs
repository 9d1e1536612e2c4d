//! What admission webhooks and policies have in common: which requests they are about.
use crate::admissionregistration::expressions;
use crate::cells::UNSET;
use crate::check::names::fully_qualified;
use crate::check::{At, Report, selectors};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use serde_json::{Value, json};

/// Defaults one webhook.
pub fn default(webhook: &mut Value) {
    webhook.absent("failurePolicy", "Fail");
    webhook.absent("timeoutSeconds", 10);
    webhook.absent("matchPolicy", "Equivalent");
    webhook.absent("namespaceSelector", json!({}));
    webhook.absent("objectSelector", json!({}));
    webhook.each("rules").for_each(|rule| rule.absent("scope", "*"));
    if let Some(service) = webhook.open("clientConfig").child("service") {
        service.absent("port", 443);
    }
}

/// Defaults a policy's MatchResources.
pub fn default_match(resources: &mut Value) {
    resources.absent("matchPolicy", "Equivalent");
    resources.absent("namespaceSelector", json!({}));
    resources.absent("objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        resources.each(list).for_each(|rule| rule.absent("scope", "*"));
    }
}

/// The cell of a policy's `paramKind`.
pub fn param_kind(kind: &Value) -> Value {
    if kind.is_null() { UNSET.into() } else { format!("{}/{}", kind["apiVersion"].text(), kind["kind"].text()).into() }
}

/// The cell of a binding's `paramRef`; one without a name stands for all that its selector matches.
pub fn param_reference(reference: &Value) -> Value {
    if reference.is_null() {
        return UNSET.into();
    }
    let name = if reference["name"].text().is_empty() { "*" } else { reference["name"].text() };
    match reference["namespace"].text() {
        "" => name.into(),
        namespace => format!("{namespace}/{name}").into(),
    }
}

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

/// The webhooks of a configuration.
pub fn validate(configuration: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let root = At::root(configuration);
    let webhooks = root.field("webhooks");
    for (index, webhook) in webhooks.items().enumerate() {
        let name = webhook.field("name");
        errors.named(&name, fully_qualified);
        if webhooks.list()[..index].iter().any(|other| other["name"] == webhook["name"]) {
            errors.duplicate(&name);
        }
        review_versions(&mut errors, &webhook.field("admissionReviewVersions"));
        resource_rules(&mut errors, &webhook.field("rules"));
        errors.one_of_if_set(&webhook.field("failurePolicy"), &["Fail", "Ignore"]);
        errors.one_of_if_set(&webhook.field("matchPolicy"), &["Equivalent", "Exact"]);
        errors.one_of_if_set(&webhook.field("reinvocationPolicy"), &["IfNeeded", "Never"]);
        errors.one_of(&webhook.field("sideEffects"), &["None", "NoneOnDryRun"]);
        let seconds = webhook.field("timeoutSeconds");
        if seconds.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
            errors.invalid(&seconds, "the timeout value must be between 1 and 30 seconds");
        }
        selectors::label_selector(&mut errors, &webhook.field("namespaceSelector"));
        selectors::label_selector(&mut errors, &webhook.field("objectSelector"));
        client_config(&mut errors, &webhook.field("clientConfig"));
        match_conditions(&mut errors, &webhook.field("matchConditions"), false);
    }
    errors
}

/// A policy's MatchResources.
pub fn validate_match(errors: &mut FieldErrors, at: &At) {
    if at.is_null() {
        return;
    }
    errors.one_of(&at.field("matchPolicy"), &["Equivalent", "Exact"]);
    for selector in ["namespaceSelector", "objectSelector"] {
        let selector = at.field(selector);
        if selector.is_null() {
            errors.required(&selector, "");
        }
        selectors::label_selector(errors, &selector);
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        resource_rules(errors, &at.field(list));
    }
}

/// Conditions in CEL that a request has to meet.
pub fn match_conditions(errors: &mut FieldErrors, at: &At, params: bool) {
    const MOST: usize = 64;
    if at.list().len() > MOST {
        errors.too_many(at, at.list().len(), MOST);
    }
    for (index, condition) in at.items().enumerate() {
        errors.named(&condition.field("name"), names::qualified_name);
        expressions::condition(errors, &condition.field("expression"), params);
        if at.list()[..index].iter().any(|other| other["name"] == condition["name"]) {
            errors.duplicate(&condition.field("name"));
        }
    }
}

/// A policy's `paramKind`.
pub fn validate_param_kind(errors: &mut FieldErrors, at: &At) {
    if at.is_set() {
        errors.present(&at.field("apiVersion"));
        errors.present(&at.field("kind"));
    }
}

/// A binding's `paramRef`.
pub fn validate_param_reference(errors: &mut FieldErrors, at: &At) {
    if at.is_null() {
        return;
    }
    match (!at["name"].text().is_empty(), at["selector"].is_set()) {
        (true, true) => errors.forbidden(&at.field("name"), "name and selector are mutually exclusive"),
        (false, false) => errors.required(at, "one of name or selector must be specified"),
        _ => {}
    }
    selectors::label_selector(errors, &at.field("selector"));
    errors.one_of(&at.field("parameterNotFoundAction"), &["Allow", "Deny"]);
}

fn review_versions(errors: &mut FieldErrors, at: &At) {
    if at.list().is_empty() {
        return errors.required(at, "must specify one of v1, v1beta1");
    }
    for (index, version) in at.items().enumerate() {
        errors.reasons(&version, names::dns1035_label(version.text()));
        if at.list()[..index].contains(&version) {
            errors.invalid(&version, "duplicate version");
        }
    }
    if !at.texts().any(|version| matches!(version, "v1" | "v1beta1")) {
        errors.invalid(at, "must include at least one of v1, v1beta1");
    }
}

fn resource_rules(errors: &mut FieldErrors, at: &At) {
    for rule in at.items() {
        let operations = rule.field("operations");
        if operations.list().is_empty() {
            errors.required(&operations, "");
        }
        for operation in operations.items() {
            if !OPERATIONS.contains(&operation.text()) {
                errors.not_supported(&operation, OPERATIONS);
            }
        }
        if operations.list().len() > 1 && operations.texts().any(|operation| operation == "*") {
            errors.invalid(&operations, "if '*' is present, must not specify other operations");
        }
        for (field, what) in [("apiGroups", "groups"), ("apiVersions", "versions"), ("resources", "resources")] {
            let list = rule.field(field);
            if list.list().is_empty() {
                errors.required(&list, "");
            }
            if field != "resources" && list.list().len() > 1 && list.texts().any(|text| text == "*") {
                errors.invalid(&list, format!("if '*' is present, must not specify other API {what}"));
            }
            if field == "apiVersions" || field == "resources" {
                for entry in list.items() {
                    errors.present(&entry);
                }
            }
        }
        wildcards(errors, &rule.field("resources"));
        errors.one_of_if_set(&rule.field("scope"), SCOPES);
    }
}

/// A wildcard stands for all that stands beside it.
fn wildcards(errors: &mut FieldErrors, resources: &At) {
    let has = |name: &str| resources.texts().any(|text| text == name);
    if has("*/*") && resources.list().len() > 1 {
        errors.invalid(resources, "if '*/*' is present, must not specify other resources");
    }
    if has("*") && resources.texts().any(|text| text != "*" && !text.contains('/')) {
        errors.invalid(resources, "if '*' is present, must not specify other resources without subresources");
    }
    for resource in resources.items() {
        if let Some((name, subresource)) = resource.text().split_once('/')
            && ((subresource != "*" && has(&format!("{name}/*"))) || (name != "*" && has(&format!("*/{subresource}"))))
        {
            errors.invalid(&resource, format!("if '{name}/*' or '*/{subresource}' is present, must not specify {}", resource.text()));
        }
    }
}

/// How a webhook is reached.
pub fn client_config(errors: &mut FieldErrors, at: &At) {
    let (url, service) = (at.field("url"), at.field("service"));
    if url.is_set() == service.is_set() {
        return errors.required(at, "exactly one of url or service is required");
    }
    if url.is_set() {
        webhook_url(errors, &url);
    } else {
        webhook_service(errors, &service);
    }
}

fn webhook_url(errors: &mut FieldErrors, at: &At) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some(rest) = at.text().strip_prefix("https://") else {
        let scheme = at.text().split_once("://").map_or("", |(scheme, _)| scheme);
        return errors.invalid_as(at, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        errors.invalid_as(at, host, format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = host.split_once('@') {
        errors.invalid_as(at, user, "user information is not permitted in the URL");
    }
    for (mark, what) in [('#', "fragments"), ('?', "query parameters")] {
        if let Some((_, part)) = rest.split_once(mark) {
            errors.invalid_as(at, part, format!("{what} are not permitted in the URL"));
        }
    }
}

fn webhook_service(errors: &mut FieldErrors, at: &At) {
    for (field, what) in [("name", "service name is required"), ("namespace", "service namespace is required")] {
        if at[field].text().is_empty() {
            errors.required(&at.field(field), what);
        }
    }
    if at["port"].is_set() {
        crate::check::network::port(errors, &at.field("port"));
    }
    let path = at.field("path");
    if path.is_null() || path.text() == "/" {
        return;
    }
    if !path.text().starts_with('/') {
        return errors.invalid(&path, "must start with a '/'");
    }
    let steps = path.text().trim_end_matches('/')[1..].split('/');
    for (index, step) in steps.enumerate() {
        if step.is_empty() {
            errors.invalid(&path, format!("segment[{index}] may not be empty"));
        } else {
            for reason in names::dns1123_subdomain(step) {
                errors.invalid(&path, format!("segment[{index}]: {reason}"));
            }
        }
    }
}
