//! The definitions of IAM's kinds, spelled out as the server would default them.
use serde_json::{Map, Value, json};

const EMAIL: &str = r"^[^@\s:]+@[^@\s:.]+(\.[^@\s:.]+)+$";
const DOMAIN: &str = r"^[^@\s:.]+(\.[^@\s:.]+)+$";
const ORGANIZATION: &str = r"^org-[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
const PROJECT: &str = r"^proj-[a-z0-9]([a-z0-9-]*[a-z0-9])?$";

struct Kind {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    /// What ids must look like, as an expression and in words.
    name: (&'static str, &'static str),
    columns: &'static [(&'static str, &'static str)],
    required: &'static [&'static str],
    spec: Value,
    status: Option<Value>,
    description: &'static str,
}

/// All CustomResourceDefinitions of `iam.plasmacloud.io`.
pub fn definitions() -> Vec<Value> {
    kinds().iter().map(definition).collect()
}

/// The columns of a kind's tables: their names, and the paths to what they show.
pub fn columns(plural: &str) -> &'static [(&'static str, &'static str)] {
    kinds().into_iter().find(|kind| kind.plural == plural).map(|kind| kind.columns).unwrap_or_default()
}

fn text() -> Value {
    json!({"type": "string"})
}

fn pattern(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}

/// A text that, once said, stays.
fn fixed(mut schema: Value) -> Value {
    schema["x-kubernetes-validations"] = json!([{"rule": "self == oldSelf", "message": "may not be changed"}]);
    schema
}

fn kinds() -> Vec<Kind> {
    let display_name = || json!({"type": "string", "minLength": 1, "maxLength": 128});
    let time = || json!({"type": "string", "format": "date-time"});
    let flag = || json!({"type": "boolean"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let free = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    vec![
        Kind {
            kind: "Organization",
            plural: "organizations",
            singular: "organization",
            short: &["org", "orgs"],
            name: (
                "self.metadata.name.matches('^org-[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && size(self.metadata.name) <= 45",
                "must be org- and letters, digits or dashes, 45 at most",
            ),
            columns: &[("Display Name", ".spec.displayName")],
            required: &["displayName"],
            spec: json!({
                "displayName": display_name(),
                "emailDomains": {
                    "type": "array", "items": pattern(DOMAIN), "maxItems": 64,
                    "description": "Of the addresses that its own administrators may give to users.",
                },
                "maxProjects": {
                    "type": "integer", "format": "int32", "minimum": 0,
                    "description": "How many projects it may have when its own administrators make another; 10 if it is not said.",
                },
            }),
            status: None,
            description: "A customer: owns projects, users, groups and roles.",
        },
        Kind {
            kind: "Project",
            plural: "projects",
            singular: "project",
            short: &["proj"],
            name: (
                "self.metadata.name.matches('^proj-[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && size(self.metadata.name) <= 55",
                "must be proj- and letters, digits or dashes, 55 at most",
            ),
            columns: &[
                ("Display Name", ".spec.displayName"),
                ("Organization", ".spec.organization"),
                ("Namespace", ".status.namespace"),
                ("Phase", ".status.phase"),
            ],
            required: &["displayName", "organization"],
            spec: json!({
                "displayName": display_name(),
                "organization": pattern(ORGANIZATION),
                "createdBy": text(),
                "deletionGracePeriodSeconds": {"type": "integer", "format": "int64", "minimum": 0, "description": "How long the namespace stays after the project is deleted."},
                "orgShared": {"type": "boolean", "description": "Let its pods reach the organisation's shared namespace, which is made with the first such project."},
                "virtualCluster": {"type": "boolean", "description": "Give the project a cluster of its own, in its namespace."},
            }),
            status: Some(json!({
                "namespace": text(), "phase": text(), "message": text(), "deleteAfter": time(),
                "observedGeneration": {"type": "integer", "format": "int64"},
            })),
            description: "What an organisation works on: a namespace, or a virtual cluster.",
        },
        Kind {
            kind: "User",
            plural: "users",
            singular: "user",
            short: &[],
            name: ("self.metadata.name.matches('^user-[a-z0-9]([a-z0-9-]*[a-z0-9])?$')", "must be user- and letters, digits or dashes"),
            columns: &[("Email", ".spec.email"), ("Organization", ".spec.organization"), ("Disabled", ".spec.disabled")],
            required: &["organization"],
            spec: json!({
                "email": pattern(EMAIL), "displayName": display_name(), "organization": fixed(pattern(ORGANIZATION)), "disabled": flag(), "tokensNotBefore": time(),
            }),
            status: None,
            description: "A person of an organisation.",
        },
        Kind {
            kind: "ServiceAccount",
            plural: "serviceaccounts",
            singular: "serviceaccount",
            short: &[],
            name: (
                "self.metadata.name.matches('^sa-[a-z0-9]([a-z0-9-]*[a-z0-9])?[.]proj-[a-z0-9-]+$') && self.metadata.name.endsWith('.' + self.spec.project)",
                "must be sa-NAME.PROJECT",
            ),
            columns: &[("Project", ".spec.project"), ("Role", ".spec.role"), ("Disabled", ".spec.disabled")],
            required: &["project", "role"],
            spec: json!({"project": fixed(pattern(PROJECT)), "role": text(), "disabled": flag(), "tokensNotBefore": time()}),
            status: None,
            description: "A program of a project.",
        },
        Kind {
            kind: "Group",
            plural: "groups",
            singular: "group",
            short: &[],
            name: ("self.metadata.name.matches('^group-[a-z0-9]([a-z0-9-]*[a-z0-9])?$')", "must be group- and letters, digits or dashes"),
            columns: &[("Display Name", ".spec.displayName"), ("Organization", ".spec.organization"), ("Members", ".spec.members")],
            required: &["displayName", "organization"],
            spec: json!({"displayName": display_name(), "organization": fixed(pattern(ORGANIZATION)), "members": texts()}),
            status: None,
            description: "Users of an organisation that get roles together.",
        },
        Kind {
            kind: "Role",
            plural: "roles",
            singular: "role",
            short: &[],
            name: (
                "self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && !(self.metadata.name in ['viewer', 'member', 'org-admin', 'project-admin', 'project-viewer'])",
                "must be letters, digits or dashes, and none of viewer, member, org-admin, project-admin, project-viewer",
            ),
            columns: &[("Organization", ".spec.organization"), ("Display Name", ".spec.displayName")],
            required: &["organization", "rules"],
            spec: json!({
                "organization": fixed(pattern(ORGANIZATION)),
                "displayName": display_name(),
                "rules": {"type": "array", "items": {
                    "type": "object", "required": ["apiGroups", "resources", "verbs"],
                    "properties": {"apiGroups": texts(), "resources": texts(), "resourceNames": texts(), "verbs": texts()},
                }},
            }),
            status: None,
            description: "A role of an organisation's own, in each of its projects.",
        },
        Kind {
            kind: "Membership",
            plural: "memberships",
            singular: "membership",
            short: &[],
            name: ("size(self.metadata.name) > 0", "must not be empty"),
            columns: &[("Subject", ".spec.subject"), ("Role", ".spec.role"), ("Organization", ".spec.organization"), ("Project", ".spec.project")],
            required: &["subject", "role", "organization"],
            spec: json!({
                "subject": fixed(pattern("^(user|group)-[a-z0-9-]+$")), "role": fixed(text()), "organization": fixed(pattern(ORGANIZATION)), "project": fixed(text()),
            }),
            status: None,
            description: "That a user or group has a role, in a project or in all of the organisation.",
        },
        Kind {
            kind: "APIKey",
            plural: "apikeys",
            singular: "apikey",
            short: &[],
            name: ("self.metadata.name.matches('^key-[a-z0-9]+$')", "must be key- and letters or digits"),
            columns: &[("Subject", ".spec.subject"), ("Project", ".spec.project"), ("Expires", ".spec.expires"), ("Description", ".spec.description")],
            required: &["subject"],
            spec: json!({"subject": fixed(text()), "project": fixed(text()), "description": text(), "expires": time(), "session": flag()}),
            status: None,
            description: "A credential that is exchanged for tokens.",
        },
        Kind {
            kind: "Revocation",
            plural: "revocations",
            singular: "revocation",
            short: &[],
            name: ("size(self.metadata.name) > 0", "must not be empty"),
            columns: &[("Expires", ".spec.expires")],
            required: &[],
            spec: json!({"expires": time()}),
            status: Some(free()),
            description: "A token that is refused, by its id.",
        },
    ]
}

fn definition(kind: &Kind) -> Value {
    let mut properties = json!({
        "apiVersion": text(), "kind": text(), "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": kind.spec},
    });
    if !kind.required.is_empty() {
        properties["spec"]["required"] = json!(kind.required);
    }
    let mut version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {
            "type": "object", "description": kind.description, "required": ["spec"],
            "x-kubernetes-validations": [{"rule": kind.name.0, "message": format!("metadata.name: {}", kind.name.1)}],
        }},
        "additionalPrinterColumns": kind.columns.iter().map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path})).chain([
            json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}),
        ]).collect::<Vec<_>>(),
    });
    if let Some(status) = &kind.status {
        properties["status"] = if status["type"] == "object" { status.clone() } else { json!({"type": "object", "properties": status}) };
        version["subresources"] = json!({"status": {}});
    }
    version["schema"]["openAPIV3Schema"]["properties"] = properties;
    let mut names = Map::from_iter([
        ("kind".to_owned(), json!(kind.kind)),
        ("listKind".to_owned(), json!(format!("{}List", kind.kind))),
        ("plural".to_owned(), json!(kind.plural)),
        ("singular".to_owned(), json!(kind.singular)),
    ]);
    if !kind.short.is_empty() {
        names.insert("shortNames".into(), json!(kind.short));
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{}.iam.plasmacloud.io", kind.plural)},
        "spec": {"group": "iam.plasmacloud.io", "scope": "Cluster", "names": names, "conversion": {"strategy": "None"}, "versions": [version]},
    })
}
