//! Route: what a request asks for, read from its method, path and query. The only grammar of paths there is.
use crate::errors;
use crate::query::Query;
use api_auth::{Attributes, User};
use api_meta::{ClusterName, Status};
use http::Method;

/// A request for a resource of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceRoute {
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    /// What follows a subresource (`proxy/some/path`).
    pub rest: String,
}

impl ResourceRoute {
    /// What this request asks an authorizer, as `verb`.
    pub fn attributes<'a>(&'a self, cluster: &'a ClusterName, user: &'a User, verb: &'a str) -> Attributes<'a> {
        Attributes {
            cluster,
            user,
            verb,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            path: "",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Resource(ResourceRoute),
    /// Everything else: discovery, health, version, OpenAPI, metrics.
    Path,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub cluster: ClusterName,
    /// The path inside the cluster.
    pub path: String,
    pub target: Target,
}

impl Route {
    /// The cluster a request is for, and the path inside it. `arrived` is the cluster that the address the request came
    /// in at stands for: no path leads out of it.
    pub fn cluster(path: &str, arrived: Option<ClusterName>) -> Result<(ClusterName, &str), Status> {
        Ok(match (arrived, path.strip_prefix("/clusters/")) {
            (Some(cluster), _) => (cluster, path),
            (None, None) => (ClusterName::root(), path),
            (None, Some(rest)) => {
                let at = rest.find('/').unwrap_or(rest.len());
                (ClusterName::parse(&rest[..at]).map_err(Status::bad_request)?, if at == rest.len() { "/" } else { &rest[at..] })
            }
        })
    }

    /// What is asked for inside of a cluster.
    pub fn parse(cluster: ClusterName, method: &Method, path: &str, query: &Query) -> Result<Self, Status> {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| Status::bad_request("the path is not UTF-8"))?;
        let target = resource_target(method, &decoded, query)?;
        Ok(Self { cluster, path: decoded.into_owned(), target })
    }
}

fn resource_target(method: &Method, path: &str, query: &Query) -> Result<Target, Status> {
    let trimmed = path.trim_matches('/');
    let segments: Vec<&str> = trimmed.split('/').collect();
    let (group, version, mut rest) = match segments[..] {
        ["api", version, ref rest @ ..] if !rest.is_empty() => ("", version, rest),
        ["apis", group, version, ref rest @ ..] if !rest.is_empty() => (group, version, rest),
        _ => return Ok(Target::Path),
    };
    // The old way to ask for a watch: /api/v1/watch/pods.
    let mut watching = false;
    if rest[0] == "watch" && rest.len() > 1 {
        watching = true;
        rest = &rest[1..];
    }
    let mut route = ResourceRoute { group: group.into(), version: version.into(), ..ResourceRoute::default() };
    let own_subresource = |s: &str| matches!(s, "status" | "finalize");
    let parts: &[&str] = match rest {
        ["namespaces", _, sub] if own_subresource(sub) => rest,
        ["namespaces", namespace, inner @ ..] if !inner.is_empty() => {
            // A Namespace lives in none.
            if inner[0] == "namespaces" {
                return Err(Status::no_such_resource());
            }
            route.namespace = (*namespace).into();
            inner
        }
        _ => rest,
    };
    route.resource = parts[0].into();
    route.name = parts.get(1).copied().unwrap_or_default().into();
    route.subresource = parts.get(2).copied().unwrap_or_default().into();
    route.rest = parts.get(3..).unwrap_or_default().join("/");
    if !route.rest.is_empty() && route.subresource != "proxy" {
        return Err(Status::no_such_resource());
    }
    if route.subresource == "proxy" && path.ends_with('/') && !route.rest.is_empty() {
        route.rest.push('/');
    }
    // A name in the path "namespaces" asks for the Namespace itself and is checked in it.
    if route.group.is_empty() && route.resource == "namespaces" && !route.name.is_empty() {
        route.namespace = route.name.clone();
    }
    route.verb = match *method {
        Method::GET | Method::HEAD if watching => "watch",
        _ if watching => return Err(errors::method_not_allowed()),
        Method::GET | Method::HEAD if !route.name.is_empty() => "get",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if route.name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => return Err(errors::method_not_allowed()),
    };
    // A list of one name is authorized as that name, as upstream does.
    if matches!(route.verb, "list" | "watch" | "deletecollection")
        && route.name.is_empty()
        && let Ok(fields) = query.fields()
        && let Some(name) = fields.exact("metadata.name").filter(|name| !name.is_empty() && api_meta::names::path_segment(name).is_empty())
    {
        route.name = name.to_owned();
    }
    Ok(Target::Resource(route))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, want: (&str, &str, &str, &str, &str, &str)) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (cluster, path) = Route::cluster(path, None).unwrap();
        let route = Route::parse(cluster, &method, path, &Query::parse(query)).unwrap();
        let Target::Resource(r) = route.target else { panic!("{path} is no resource") };
        assert_eq!((r.verb, &*r.group, &*r.namespace, &*r.resource, &*r.name, &*r.subresource), want, "{path}");
    }

    #[test]
    fn paths_follow_upstreams_grammar() {
        check(Method::GET, "/api/v1/pods", ("list", "", "", "pods", "", ""));
        check(Method::GET, "/api/v1/namespaces/a/pods?watch=1", ("watch", "", "a", "pods", "", ""));
        check(Method::GET, "/api/v1/namespaces/a", ("get", "", "a", "namespaces", "a", ""));
        check(Method::PUT, "/api/v1/namespaces/a/finalize", ("update", "", "a", "namespaces", "a", "finalize"));
        check(Method::POST, "/apis/apps/v1/namespaces/a/deployments", ("create", "apps", "a", "deployments", "", ""));
        check(Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b/scale", ("patch", "apps", "a", "deployments", "b", "scale"));
        check(Method::DELETE, "/api/v1/namespaces/a/pods", ("deletecollection", "", "a", "pods", "", ""));
        check(Method::GET, "/api/v1/watch/namespaces/a/pods/b", ("watch", "", "a", "pods", "b", ""));
        check(Method::GET, "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db", ("list", "", "a", "pods", "b", ""));
        check(Method::GET, "/clusters/c1/api/v1/nodes/n", ("get", "", "", "nodes", "n", ""));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let refused = |method: Method, path: &str| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            Route::parse(ClusterName::root(), &method, path, &Query::parse(query)).err().map(|status| status.code)
        };
        assert_eq!(refused(Method::GET, "/api/v1/namespaces/a/namespaces/b"), Some(404));
        assert_eq!(refused(Method::GET, "/api/v1/namespaces/a/pods/b/status/c"), Some(404));
        assert_eq!(refused(Method::POST, "/api/v1/watch/pods"), Some(405));
        assert_eq!(refused(Method::OPTIONS, "/api/v1/pods"), Some(405));
        assert_eq!(refused(Method::GET, "/api/v1/pods%ff"), Some(400));
        // No object has such a name, and it must not become a key.
        check(Method::GET, "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db%2Fc", ("list", "", "a", "pods", "", ""));
    }

    #[test]
    fn a_cluster_is_named_by_the_path_or_is_root() {
        let cluster = |path: &str| Route::cluster(path, None).unwrap().0.to_string();
        assert_eq!(cluster("/clusters/c1/version"), "c1");
        assert_eq!(cluster("/version"), "root");
        assert!(Route::cluster("/clusters/UP/version", None).is_err());
        let (inside, path) = Route::cluster("/clusters/c1/version", ClusterName::parse("c2").ok()).unwrap();
        assert_eq!((inside.as_str(), path), ("c2", "/clusters/c1/version"), "a path of its own that leads nowhere");
    }
}
