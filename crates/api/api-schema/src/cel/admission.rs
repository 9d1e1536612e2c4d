//! What admission's expressions can see: the request, its objects, parameters, the namespace, an authorizer.
use super::program::Environment;
use super::types::{ObjectType, Type};
use std::sync::Arc;

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";

/// The environment of match conditions, and of a policy's expressions before its variables.
pub fn environment(params: bool, authorizer: bool) -> Environment {
    let mut environment = Environment::new([("object", Type::Dyn), ("oldObject", Type::Dyn), ("request", request()), ("namespaceObject", namespace())]);
    if params {
        environment = environment.with("params", Type::Dyn);
    }
    if authorizer {
        environment = environment.with("authorizer", Type::Opaque(AUTHORIZER)).with("authorizer.requestResource", Type::Opaque(RESOURCE_CHECK));
    }
    environment
}

/// With a policy's variables, each known to those after it.
#[must_use]
pub fn with_variables(environment: Environment, variables: &[(String, Type)]) -> Environment {
    environment.with("variables", Type::Object(ObjectType::of_fields("kubernetes.variables", variables.iter().cloned())))
}

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    Type::Object(ObjectType::of_fields(name, fields.iter().map(|(field, of)| ((*field).to_owned(), of.clone()))))
}

fn list(of: Type) -> Type {
    Type::List(Arc::new(of))
}

fn map(of: Type) -> Type {
    Type::Map(Arc::new(Type::String), Arc::new(of))
}

fn request() -> Type {
    use Type::{Bool, String};
    let kind = object("kubernetes.GroupVersionKind", &[("group", String), ("version", String), ("kind", String)]);
    let resource = object("kubernetes.GroupVersionResource", &[("group", String), ("version", String), ("resource", String)]);
    let user = object("kubernetes.UserInfo", &[("username", String), ("uid", String), ("groups", list(String)), ("extra", map(list(String)))]);
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", String),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", String),
            ("name", String),
            ("namespace", String),
            ("operation", String),
            ("userInfo", user),
            ("dryRun", Bool),
            ("options", Type::Dyn),
        ],
    )
}

fn namespace() -> Type {
    use Type::{Int, String, Timestamp};
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", String),
            ("generateName", String),
            ("namespace", String),
            ("labels", map(String)),
            ("annotations", map(String)),
            ("UID", String),
            ("uid", String),
            ("creationTimestamp", Timestamp),
            ("deletionGracePeriodSeconds", Int),
            ("deletionTimestamp", Timestamp),
            ("generation", Int),
            ("resourceVersion", String),
            ("finalizers", list(String)),
        ],
    );
    let condition = object(
        "kubernetes.NamespaceCondition",
        &[("status", String), ("type", String), ("lastTransitionTime", Timestamp), ("message", String), ("reason", String)],
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", list(String))]);
    let status = object("kubernetes.NamespaceStatus", &[("conditions", list(condition)), ("phase", String)]);
    object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
}
