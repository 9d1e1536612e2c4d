//! Attributes of a request: what is asked for, by whom; and the sentence that refuses it.
use crate::User;
use api_meta::{ClusterName, Status};

/// What an authorizer decides about. A request for no resource has `resource == ""` and a `path`.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub cluster: &'a ClusterName,
    pub user: &'a User,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub path: &'a str,
}

impl Attributes<'_> {
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }
}

/// Upstream's sentence for a refused request, without the authorizer's reason.
pub fn forbidden_message(attributes: &Attributes) -> String {
    let Attributes { user, verb, group, namespace, .. } = attributes;
    if !attributes.is_resource() {
        return format!("User {:?} cannot {verb} path {:?}", user.username, attributes.path);
    }
    let resource =
        if attributes.subresource.is_empty() { attributes.resource.to_owned() } else { format!("{}/{}", attributes.resource, attributes.subresource) };
    let what = format!("User {:?} cannot {verb} resource {resource:?} in API group {group:?}", user.username);
    if namespace.is_empty() { format!("{what} at the cluster scope") } else { format!("{what} in the namespace {namespace:?}") }
}

/// The 403 for a refused request; `reason` is the authorizer's, "" when it gave none.
pub fn forbidden(attributes: &Attributes, reason: &str) -> Status {
    let message = forbidden_message(attributes);
    let why = if reason.is_empty() { message } else { format!("{message}: {reason}") };
    Status::forbidden(attributes.group, attributes.resource, attributes.name, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstream_words_them() {
        let (cluster, user) = (ClusterName::root(), User::authenticated("x", []));
        let base = Attributes {
            cluster: &cluster,
            user: &user,
            verb: "list",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "default",
            name: "",
            path: "",
        };
        for (attributes, want) in [
            (base, r#"User "x" cannot list resource "pods" in API group "" in the namespace "default""#),
            (
                Attributes { namespace: "", subresource: "log", group: "g", ..base },
                r#"User "x" cannot list resource "pods/log" in API group "g" at the cluster scope"#,
            ),
            (Attributes { resource: "", verb: "get", path: "/x", ..base }, r#"User "x" cannot get path "/x""#),
        ] {
            assert_eq!(forbidden_message(&attributes), want);
        }
        let status = forbidden(&Attributes { resource: "", verb: "get", path: "/x", ..base }, "");
        assert_eq!((status.code, status.message.as_str()), (403, r#"forbidden: User "x" cannot get path "/x""#));
    }
}
