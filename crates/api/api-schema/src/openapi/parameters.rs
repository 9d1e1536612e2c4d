//! The parameters operations take, by name.
use serde_json::{Value, json};

pub(super) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
pub(super) const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
pub(super) const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
pub(super) const DELETE: &[&str] =
    &["dryRun", "gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential", "orphanDependents", "propagationPolicy"];
pub(super) const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
pub(super) const LOG: &[&str] =
    &["container", "follow", "insecureSkipTLSVerifyBackend", "limitBytes", "previous", "sinceSeconds", "stream", "tailLines", "timestamps"];
pub(super) const EXEC: &[&str] = &["command", "container", "stderr", "stdin", "stdout", "tty"];
pub(super) const ATTACH: &[&str] = &["container", "stderr", "stdin", "stdout", "tty"];
pub(super) const PORT_FORWARD: &[&str] = &["ports"];
pub(super) const PROXY: &[&str] = &["path"];

/// Every query parameter: name, type, what it does.
pub(super) const QUERY: &[(&str, &str, &str)] = &[
    ("allowWatchBookmarks", "boolean", "Asks a watch for events of type \"BOOKMARK\", which tell the resource version reached."),
    ("command", "string", "The command to run, not in a shell; given once for each argument."),
    ("container", "string", "The container; may be left out if the pod has only one."),
    ("continue", "string", "The token of a list cut short by limit, to get the rest of it; all else must be as it was."),
    ("dryRun", "string", "\"All\": every stage of the request is processed, but nothing is persisted."),
    ("fieldManager", "string", "The name of the actor that makes the change, at most 128 printable characters; required for apply."),
    ("fieldSelector", "string", "Restricts the objects by their fields."),
    ("fieldValidation", "string", "What to do about unknown or duplicate fields: \"Ignore\", \"Warn\" (the default) or \"Strict\"."),
    ("follow", "boolean", "Follow the log stream of the pod."),
    ("force", "boolean", "For apply: take over fields that others own. Must not be set for other patches."),
    ("gracePeriodSeconds", "integer", "The seconds before the object is deleted; zero: at once. By default the kind's own."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that cannot be read from the store, without its finalizers. May break what relies on them.",
    ),
    ("insecureSkipTLSVerifyBackend", "boolean", "Do not verify the node's certificate."),
    ("labelSelector", "string", "Restricts the objects by their labels."),
    ("limit", "integer", "The most objects to give in one answer; the rest can be had with continue."),
    ("limitBytes", "integer", "The most bytes to give."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("path", "string", "The path to send the request to."),
    ("ports", "integer", "The ports to forward."),
    ("pretty", "string", "\"true\": the answer is indented."),
    ("previous", "boolean", "The log of the container before it was last restarted."),
    ("propagationPolicy", "string", "What becomes of dependents: \"Orphan\", \"Background\" or \"Foreground\"."),
    ("resourceVersion", "string", "How new the answer must be, or where a watch starts."),
    ("resourceVersionMatch", "string", "How resourceVersion applies to a list: \"Exact\" or \"NotOlderThan\"."),
    ("sendInitialEvents", "boolean", "With watch: first send what there is, then a bookmark."),
    ("sinceSeconds", "integer", "Only what was logged in the last so many seconds."),
    ("stderr", "boolean", "Whether to attach standard error."),
    ("stdin", "boolean", "Whether to attach standard input."),
    ("stdout", "boolean", "Whether to attach standard output."),
    ("stream", "string", "The log to give: \"All\", \"Stdout\" or \"Stderr\"."),
    ("tailLines", "integer", "Only so many last lines."),
    ("timeoutSeconds", "integer", "How long a list or watch may last."),
    ("timestamps", "boolean", "Put the time before each line."),
    ("tty", "boolean", "Whether the streams are those of a terminal."),
    ("watch", "boolean", "Watch for changes and give them as a stream of events."),
];

fn description(name: &str) -> (&'static str, &'static str) {
    match QUERY.iter().find(|(n, ..)| *n == name) {
        Some((_, kind, description)) => (kind, description),
        None if name == "namespace" => ("string", "The namespace of the objects, by name."),
        None => ("string", "The name of the object."),
    }
}

/// As OpenAPI v3 has it; `place` is query or path.
pub(super) fn v3(name: &str, place: &str) -> Value {
    let (kind, description) = description(name);
    let mut parameter = json!({ "name": name, "in": place, "description": description, "schema": { "type": kind, "uniqueItems": true } });
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

/// As Swagger 2.0 has it.
pub(super) fn v2(name: &str, place: &str) -> Value {
    let (kind, description) = description(name);
    let mut parameter = json!({ "name": name, "in": place, "description": description, "type": kind, "uniqueItems": true });
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}
