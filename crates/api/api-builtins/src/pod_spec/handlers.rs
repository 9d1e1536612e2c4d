//! What probes and lifecycle hooks do: run a command, ask over HTTP, TCP or gRPC, sleep.
use crate::check::names::header_name;
use crate::check::{At, Report, network, numbers};
use crate::fields::Read;
use api_meta::FieldErrors;

pub fn probe(errors: &mut FieldErrors, probe: &At) {
    handler(errors, probe, &["exec", "httpGet", "tcpSocket", "grpc"], None);
    numbers::all_non_negative(errors, probe, &["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]);
    let grace = probe.field("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&grace, "must be greater than 0");
    }
}

pub fn lifecycle_hook(errors: &mut FieldErrors, hook: &At, grace_seconds: Option<i64>) {
    handler(errors, hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace_seconds);
}

/// The signal that asks a container to end, which systems name differently.
pub fn stop_signal(errors: &mut FieldErrors, at: &At, system: &str) {
    match system {
        "" => errors.forbidden(at, "may not be set for containers with empty `spec.os.name`"),
        "windows" if !matches!(at.text(), "SIGKILL" | "SIGTERM") => errors.not_supported(at, &["SIGKILL", "SIGTERM"]),
        "windows" => {}
        _ if !is_signal(at.text()) => errors.not_supported(at, SIGNALS),
        _ => {}
    }
}

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// One of those, or a real-time signal counted from the first or the last.
fn is_signal(name: &str) -> bool {
    let counted =
        |prefix: &str, most: u8| name.strip_prefix(prefix).and_then(|count| count.parse::<u8>().ok()).is_some_and(|count| (1..=most).contains(&count));
    SIGNALS.contains(&name) || counted("SIGRTMIN+", 15) || counted("SIGRTMAX-", 14)
}

fn handler(errors: &mut FieldErrors, at: &At, kinds: &[&str], grace_seconds: Option<i64>) {
    let mut found = false;
    for kind in kinds {
        let action = at.field(kind);
        if action.is_null() {
            continue;
        }
        if found {
            errors.forbidden(&action, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" if action["command"].list().is_empty() => errors.required(&action.field("command"), ""),
            "httpGet" => http_get(errors, &action),
            "tcpSocket" => network::port_or_name(errors, &action.field("port")),
            "grpc" => network::port(errors, &action.field("port")),
            "sleep" => {
                let seconds = action["seconds"].int().unwrap_or_default();
                if let Some(grace) = grace_seconds
                    && !(0..=grace).contains(&seconds)
                {
                    errors.invalid_as(&action, seconds, format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"));
                }
            }
            _ => {}
        }
    }
    if !found {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(errors: &mut FieldErrors, get: &At) {
    errors.present(&get.field("path"));
    network::port_or_name(errors, &get.field("port"));
    let scheme = get.field("scheme");
    if !matches!(scheme.text(), "HTTP" | "HTTPS") {
        errors.not_supported(&scheme, &["HTTP", "HTTPS"]);
    }
    let headers = get.field("httpHeaders");
    for header in headers.list() {
        for reason in header_name(header["name"].text()) {
            errors.invalid_as(&headers, header["name"].text(), reason);
        }
    }
}
