//! Windows' part of security contexts, and pods whose containers are processes of the host.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, names};

const LARGEST_SPEC: usize = 64 << 10;
const LONGEST_DOMAIN: usize = 256;
const LONGEST_USER: usize = 104;

/// `windowsOptions` of a pod or container.
pub fn options(errors: &mut FieldErrors, at: &At) {
    if at.is_null() {
        return;
    }
    let (name, spec, user) = (at.field("gmsaCredentialSpecName"), at.field("gmsaCredentialSpec"), at.field("runAsUserName"));
    if name.is_set() {
        errors.reasons(&name, names::dns1123_subdomain(name.text()));
    }
    if spec.is_set() {
        match spec.text().len() {
            0 => errors.invalid(&spec, "gmsaCredentialSpec cannot be an empty string"),
            length if length > LARGEST_SPEC => {
                errors.invalid_as(&spec, "<value omitted>", format!("gmsaCredentialSpec size must be under {} KiB", LARGEST_SPEC >> 10))
            }
            _ => {}
        }
    }
    if user.is_set() {
        run_as(errors, &user);
    }
}

fn run_as(errors: &mut FieldErrors, at: &At) {
    let name = at.text();
    if name.is_empty() {
        return errors.invalid(at, "runAsUserName cannot be an empty string");
    }
    if name.chars().any(char::is_control) {
        errors.invalid(at, "runAsUserName cannot contain control characters");
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return errors.invalid(at, "runAsUserName cannot contain more than one backslash"),
    };
    if domain.is_some_and(|domain| domain.len() >= LONGEST_DOMAIN) {
        errors.invalid(at, format!("runAsUserName's Domain length must be under {LONGEST_DOMAIN} characters"));
    }
    if domain == Some("") {
        errors.invalid(at, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        errors.invalid(at, "runAsUserName's User cannot be empty");
    } else if user.len() > LONGEST_USER {
        errors.invalid(at, format!("runAsUserName's User length must not be longer than {LONGEST_USER} characters"));
    } else if user.chars().all(|c| c == '.' || c == ' ') {
        errors.invalid(at, "runAsUserName's User cannot contain only periods or spaces");
    } else if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        errors.invalid(at, r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#);
    }
}

/// If any container is a process of the host, all are, and the network is the host's.
pub fn host_process(errors: &mut FieldErrors, spec: &At) {
    let asked = |context: &At| context["windowsOptions"]["hostProcess"].as_bool();
    let whole = asked(&spec.field("securityContext"));
    let mut places = 0;
    let mut others = false;
    for list in ["containers", "initContainers"] {
        let list = spec.field(list);
        for container in list.items() {
            let own = asked(&container.field("securityContext"));
            if let (Some(own), Some(whole)) = (own, whole)
                && own != whole
            {
                errors.invalid_as(
                    &container.field("securityContext.windowsOptions.hostProcess"),
                    own,
                    format!("pod hostProcess value must be identical if both are specified, was {whole}"),
                );
            }
            if own.or(whole).unwrap_or(false) {
                places += 1;
            } else {
                others = true;
            }
        }
    }
    if places == 0 {
        return;
    }
    if others {
        errors.invalid_as(spec, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers");
    }
    if !spec["hostNetwork"].flag() {
        errors.invalid_as(&spec.field("hostNetwork"), spec["hostNetwork"].flag(), "hostNetwork must be true if pod contains any hostProcess containers");
    }
}
