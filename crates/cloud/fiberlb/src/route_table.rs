//! RouteTable: which pool a request goes to, by its host and path. Pure.
//!
//! Hosts: an exact one before a wildcard, which stands for one label, before none. Paths of the host: the longest first,
//! Exact before Prefix. <https://kubernetes.io/docs/concepts/services-networking/ingress/#multiple-matches>
use crate::{HostTable, PoolId, RateLimit};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    Exact(String),
    /// Whole elements: `/a` takes `/a` and `/a/b`, not `/ab`.
    Prefix(String),
}

impl PathMatch {
    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
    /// Greater is tried first.
    fn rank(&self) -> (usize, bool) {
        match self {
            Self::Exact(path) => (path.len(), true),
            Self::Prefix(path) => (path.trim_end_matches('/').len(), false),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub path: PathMatch,
    pub pool: PoolId,
    pub limit: Option<RateLimit>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    by_host: HostTable<OfHost>,
    any: Vec<Route>,
    default: Option<Route>,
    /// Whether any host has its connections passed through.
    passes: bool,
    /// Where TLS connections go, as they are, that no host takes.
    rest: Option<PoolId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfHost {
    routes: Vec<Route>,
    /// Where TLS connections go as they are, without any of the routes.
    passthrough: Option<PoolId>,
}

impl RouteTable {
    /// Adds a route; of two with the same host and path, the first added counts. A host is "" (any), a name, or `*.` and a name.
    pub fn add(&mut self, host: &str, route: Route) {
        let routes = if host.is_empty() { &mut self.any } else { &mut self.by_host.entry(host).or_default().routes };
        if routes.iter().all(|known| known.path != route.path) {
            let place = routes.partition_point(|known| known.path.rank() >= route.path.rank());
            routes.insert(place, route);
        }
    }

    /// Where goes what no route takes; the first said counts.
    pub fn set_default(&mut self, pool: PoolId, limit: Option<RateLimit>) {
        self.default.get_or_insert(Route { path: PathMatch::Prefix("/".into()), pool, limit });
    }

    /// Leads TLS connections that ask for the host to a pool as they are; the first said counts.
    pub fn pass_through(&mut self, host: &str, pool: PoolId) {
        self.by_host.entry(host).or_default().passthrough.get_or_insert(pool);
        self.passes = true;
    }

    /// The same for all names that no host takes, and for clients that ask for none; the first said counts.
    pub fn pass_rest_through(&mut self, pool: PoolId) {
        self.rest.get_or_insert(pool);
        self.passes = true;
    }

    /// Whether a client's hello may decide where its connection goes.
    pub fn passes_any_through(&self) -> bool {
        self.passes
    }

    /// The pool of TLS connections that ask for this name, in lower case.
    pub fn passthrough_of(&self, name: &str) -> Option<&PoolId> {
        self.by_host.get(name).and_then(|of_host| of_host.passthrough.as_ref()).or(self.rest.as_ref())
    }

    /// The route of a request. `host` is without its port and in lower case, `path` without the query.
    pub fn route_of(&self, host: &str, path: &str) -> Option<&Route> {
        let routes = self.by_host.get(host).into_iter().flat_map(|of_host| &of_host.routes).chain(&self.any);
        routes.into_iter().find(|route| route.path.takes(path)).or(self.default.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From lines like `host exact|prefix path pool`; `-` is no host.
    fn table(text: &str) -> RouteTable {
        let mut table = RouteTable::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let path = if words[1] == "exact" { PathMatch::Exact(words[2].into()) } else { PathMatch::Prefix(words[2].into()) };
            table.add(if words[0] == "-" { "" } else { words[0] }, Route { path, pool: words[3].into(), limit: None });
        }
        table
    }

    #[test]
    fn paths_match_as_the_api_documents_it() {
        for (kind, path, asked, takes) in [
            ("prefix", "/", "/any/path", true),
            ("exact", "/foo", "/foo", true),
            ("exact", "/foo", "/bar", false),
            ("exact", "/foo", "/foo/", false),
            ("exact", "/foo/", "/foo", false),
            ("prefix", "/foo", "/foo", true),
            ("prefix", "/foo", "/foo/", true),
            ("prefix", "/foo/", "/foo", true),
            ("prefix", "/foo/", "/foo/", true),
            ("prefix", "/aaa/bb", "/aaa/bbb", false),
            ("prefix", "/aaa/bbb", "/aaa/bbb", true),
            ("prefix", "/aaa/bbb/", "/aaa/bbb", true),
            ("prefix", "/aaa/bbb", "/aaa/bbb/", true),
            ("prefix", "/aaa/bbb", "/aaa/bbb/ccc", true),
            ("prefix", "/aaa/bbb", "/aaa/bbbxyz", false),
        ] {
            let table = table(&format!("- {kind} {path} p"));
            assert_eq!(table.route_of("h", asked).is_some(), takes, "{kind} {path} {asked}");
        }
    }

    #[test]
    fn the_nearest_host_and_the_longest_path_win() {
        let mut table = table(
            "a.example.com prefix / exact-host
             a.example.com prefix /api api
             a.example.com exact /api api-alone
             A.example.com prefix /api late
             *.example.com prefix / wildcard
             - prefix /only any",
        );
        for (host, path, pool) in [
            ("a.example.com", "/", "exact-host"),
            ("a.example.com", "/api/x", "api"),
            ("a.example.com", "/api", "api-alone"),
            ("b.example.com", "/api", "wildcard"),
            ("b.c.example.com", "/", "none"),
            ("example.com", "/", "none"),
            ("example.com", "/only", "any"),
        ] {
            assert_eq!(table.route_of(host, path).map_or("none", |route| &*route.pool), pool, "{host}{path}");
        }
        table.pass_through("*.example.com", "through".into());
        table.pass_through("*.example.com", "late".into());
        table.pass_through("own.example.com", "own".into());
        for (name, pool) in [("b.example.com", "through"), ("own.example.com", "own"), ("a.example.com", "none"), ("b.c.example.com", "none"), ("", "none")] {
            assert_eq!(table.passthrough_of(name).map_or("none", |pool| &**pool), pool, "{name}");
        }
        table.pass_rest_through("rest".into());
        for (name, pool) in [("b.example.com", "through"), ("b.c.example.com", "rest"), ("", "rest")] {
            assert_eq!(table.passthrough_of(name).map(|pool| &**pool), Some(pool), "{name}");
        }
        assert_eq!(table.route_of("own.example.com", "/").map(|route| &*route.pool), None, "not the wildcard's");
        table.set_default("fallback".into(), None);
        table.set_default("late".into(), None);
        assert_eq!(table.route_of("x", "/").map(|route| &*route.pool), Some("fallback"));
    }
}
