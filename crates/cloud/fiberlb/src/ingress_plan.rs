//! What all Ingresses together ask for: routes, certificates, and who of several clusters has a host. Pure.
use crate::ingress_annotations::{passes_through, rate_limit};
use crate::{PathMatch, PoolId, RateLimit, Route, RouteTable};
use api_cache::ObjectKey;
use api_meta::ClusterName;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressRule, IngressSpec};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The name of our IngressClass, there in every cluster.
pub const CLASS: &str = "fiberlb";
/// What other IngressClasses name to be served too.
pub const CONTROLLER: &str = "fiberlb.plasmacloud.io/ingress-controller";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// A port of a Service that a request may be led to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendPort {
    pub service: ObjectKey,
    pub port: PortName,
}

/// A port as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortName {
    Name(String),
    Number(i32),
}

impl BackendPort {
    pub fn pool(&self) -> PoolId {
        match &self.port {
            PortName::Name(name) => format!("{}:{name}", self.service).into(),
            PortName::Number(number) => format!("{}:{number}", self.service).into(),
        }
    }
}

/// All Ingresses, as one table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngressPlan {
    pub routes: RouteTable,
    pub backends: BTreeMap<PoolId, BackendPort>,
    /// By host as written (a name, or `*.` and a name): the Secrets that may hold its certificate, the first first.
    pub certificates: BTreeMap<String, Vec<ObjectKey>>,
    /// Hosts that Ingresses ask for and another cluster has: "" is every host.
    pub refused: BTreeMap<ObjectKey, BTreeSet<String>>,
}

/// Whether an Ingress is ours. `controller_of` tells the controller of a class of the same cluster.
pub fn is_ours(ingress: &Ingress, controller_of: impl Fn(&str) -> Option<String>) -> bool {
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let annotated = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION)).map(String::as_str);
    match class.or(annotated) {
        Some(class) => controller_of(class).map_or(class == CLASS, |controller| controller == CONTROLLER),
        None => false,
    }
}

/// The plan of Ingresses that are ours. The eldest has what several ask for; a host is one cluster's alone.
pub fn plan(ingresses: &[(ObjectKey, Arc<Ingress>)]) -> IngressPlan {
    let mut ordered: Vec<&(ObjectKey, Arc<Ingress>)> = ingresses.iter().filter(|(_, ingress)| ingress.metadata.deletion_timestamp.is_none()).collect();
    ordered.sort_by_cached_key(|(key, ingress)| (ingress.metadata.creation_timestamp.as_ref().map(|time| time.0), key.clone()));
    let mut plan = IngressPlan::default();
    let mut holders: HashMap<String, ClusterName> = HashMap::new();
    let mut defaults: Vec<(String, Route)> = Vec::new();
    for (key, ingress) in ordered {
        let Some(spec) = &ingress.spec else { continue };
        // One that can't be right is told by the controller.
        let limit = rate_limit(ingress).ok().flatten().map(|per_second| RateLimit { scope: key.to_string().into(), per_second });
        let mut may_have = |host: &str, plan: &mut IngressPlan| {
            let granted = claim(&mut holders, host, &key.cluster);
            if !granted {
                plan.refused.entry(key.clone()).or_default().insert(host.to_owned());
            }
            granted
        };
        let passes = passes_through(ingress).unwrap_or_default();
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().unwrap_or_default().to_ascii_lowercase();
            if !may_have(&host, &mut plan) {
                continue;
            }
            if passes {
                if !host.is_empty()
                    && let Some(pool) = backend_of_all(spec, rule).and_then(|backend| plan.backend(key, backend))
                {
                    plan.routes.pass_through(&host, pool);
                }
                continue;
            }
            // What no path of the host takes goes to its Ingress's default backend, unless another Ingress has a path for it.
            if let Some(pool) = spec.default_backend.as_ref().and_then(|backend| plan.backend(key, backend)) {
                defaults.push((host.clone(), Route { path: PathMatch::Prefix("/".into()), pool, limit: limit.clone() }));
            }
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let text = path.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
                // What an implementation makes of its own type is up to it: Prefix.
                let path_match = if path.path_type == "Exact" { PathMatch::Exact(text) } else { PathMatch::Prefix(text) };
                if let Some(pool) = plan.backend(key, &path.backend) {
                    plan.routes.add(&host, Route { path: path_match, pool, limit: limit.clone() });
                }
            }
        }
        if let Some(backend) = &spec.default_backend
            && spec.rules.as_ref().is_none_or(Vec::is_empty)
            && may_have("", &mut plan)
            && !passes
            && let Some(pool) = plan.backend(key, backend)
        {
            plan.routes.set_default(pool, limit.clone());
        }
        for tls in spec.tls.iter().flatten() {
            let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let secret = ObjectKey::new(&key.cluster, &key.namespace, secret);
            for host in tls.hosts.iter().flatten().map(|host| host.to_ascii_lowercase()).filter(|host| !host.is_empty()) {
                if may_have(&host, &mut plan) && !passes {
                    let secrets = plan.certificates.entry(host).or_default();
                    if !secrets.contains(&secret) {
                        secrets.push(secret.clone());
                    }
                }
            }
        }
    }
    for (host, route) in defaults {
        plan.routes.add(&host, route);
    }
    plan
}

/// Where a host's connections go that show no path: where `/` goes, else where anything of it does.
fn backend_of_all<'a>(spec: &'a IngressSpec, rule: &'a IngressRule) -> Option<&'a IngressBackend> {
    let paths = || rule.http.iter().flat_map(|http| &http.paths);
    let root = paths().find(|path| path.path.as_deref().is_none_or(|path| path.is_empty() || path == "/"));
    root.or_else(|| paths().next()).map(|path| &path.backend).or(spec.default_backend.as_ref())
}

/// Whether a cluster may have a host: nobody else has it, nor a wildcard that another had before.
fn claim(holders: &mut HashMap<String, ClusterName>, host: &str, cluster: &ClusterName) -> bool {
    let covering = host.split_once('.').filter(|(first, _)| !first.is_empty() && *first != "*").map(|(_, rest)| format!("*.{rest}"));
    let taken = |name: &str| holders.get(name).is_some_and(|holder| holder != cluster);
    // One who has a name beneath a wildcard of another had it before the wildcard was there.
    let has_it = holders.get(host) == Some(cluster);
    if taken(host) || !has_it && covering.is_some_and(|wildcard| taken(&wildcard)) {
        return false;
    }
    holders.entry(host.to_owned()).or_insert_with(|| cluster.clone());
    true
}

impl IngressPlan {
    fn backend(&mut self, ingress: &ObjectKey, backend: &IngressBackend) -> Option<PoolId> {
        let service = backend.service.as_ref()?;
        let port = service.port.as_ref()?;
        let port = match (&port.name, port.number) {
            (Some(name), _) if !name.is_empty() => PortName::Name(name.clone()),
            (_, Some(number)) => PortName::Number(number),
            _ => return None,
        };
        let backend = BackendPort { service: ObjectKey::new(&ingress.cluster, &ingress.namespace, &service.name), port };
        let pool = backend.pool();
        self.backends.insert(pool.clone(), backend);
        Some(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress_annotations::PASSTHROUGH;
    use serde_json::{Value, json};

    fn ingress(cluster: &str, name: &str, minute: u32, spec: Value) -> (ObjectKey, Arc<Ingress>) {
        let cluster = ClusterName::parse(cluster).unwrap();
        let metadata = json!({ "name": name, "namespace": "d", "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z") });
        let object = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
        (ObjectKey::new(&cluster, "d", name), Arc::new(object))
    }
    fn rule(host: &str, path: &str, service: &str) -> Value {
        let backend = json!({ "service": { "name": service, "port": { "number": 80 } } });
        json!({ "host": host, "http": { "paths": [{ "path": path, "pathType": "Prefix", "backend": backend }] } })
    }
    fn pool(plan: &IngressPlan, host: &str, path: &str) -> String {
        plan.routes.route_of(host, path).map(|route| route.pool.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_host_is_the_clusters_that_asked_first() {
        let plan = plan(&[
            ingress("b.t2", "late", 2, json!({ "rules": [rule("shop.example.com", "/", "evil"), rule("own.example.com", "/", "web")] })),
            ingress(
                "a.t1",
                "first",
                1,
                json!({ "rules": [rule("shop.example.com", "/", "web")], "tls": [{ "hosts": ["shop.example.com"], "secretName": "s" }] }),
            ),
            ingress(
                "b.t2",
                "tls",
                3,
                json!({ "tls": [{ "hosts": ["SHOP.example.com"], "secretName": "mine" }], "rules": [rule("tls.example.com", "/", "web")] }),
            ),
            ingress("a.t1", "more", 9, json!({ "rules": [rule("shop.example.com", "/more", "more")] })),
        ]);
        assert_eq!(pool(&plan, "shop.example.com", "/"), "a.t1:d/web:80");
        assert_eq!(pool(&plan, "shop.example.com", "/more"), "a.t1:d/more:80", "Ingresses of one cluster are joined");
        assert_eq!(pool(&plan, "own.example.com", "/"), "b.t2:d/web:80");
        let refused: Vec<String> = plan.refused.iter().map(|(key, hosts)| format!("{key} {hosts:?}")).collect();
        assert_eq!(refused, ["b.t2:d/late {\"shop.example.com\"}", "b.t2:d/tls {\"shop.example.com\"}"]);
        assert_eq!(plan.certificates["shop.example.com"].iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.t1:d/s"]);
    }

    #[test]
    fn nobody_takes_a_name_from_under_anothers_wildcard_or_all_the_rest_twice() {
        let default = |service: &str| json!({ "defaultBackend": { "service": { "name": service, "port": { "name": "http" } } } });
        let plan = plan(&[
            ingress("a.t1", "old", 1, json!({ "rules": [rule("old.example.com", "/", "old")] })),
            ingress("root", "wild", 2, json!({ "rules": [rule("*.example.com", "/", "wild")] })),
            ingress("a.t1", "new", 3, json!({ "rules": [rule("new.example.com", "/", "thief"), rule("old.example.com", "/x", "x")] })),
            ingress("root", "default", 4, default("web")),
            ingress("a.t1", "default", 5, default("thief")),
        ]);
        assert_eq!(pool(&plan, "new.example.com", "/"), "root:d/wild:80");
        assert_eq!(pool(&plan, "old.example.com", "/x"), "a.t1:d/x:80");
        assert_eq!(pool(&plan, "elsewhere", "/"), "root:d/web:http");
        assert_eq!(plan.refused.values().flatten().map(String::as_str).collect::<Vec<_>>(), ["", "new.example.com"]);
    }

    #[test]
    fn a_default_backend_has_what_no_path_of_its_hosts_takes() {
        let default = json!({ "service": { "name": "fallback", "port": { "number": 80 } } });
        let plan = plan(&[
            ingress("root", "a", 1, json!({ "rules": [rule("a.example.com", "/api", "api"), { "host": "b.example.com" }], "defaultBackend": default })),
            ingress("root", "b", 2, json!({ "rules": [rule("b.example.com", "/", "web")] })),
        ]);
        assert_eq!(pool(&plan, "a.example.com", "/api"), "root:d/api:80");
        assert_eq!(pool(&plan, "a.example.com", "/"), "root:d/fallback:80");
        assert_eq!(pool(&plan, "b.example.com", "/"), "root:d/web:80");
        assert_eq!(pool(&plan, "c.example.com", "/"), "");
    }

    fn annotated(mut of: (ObjectKey, Arc<Ingress>), annotations: &[(&str, &str)]) -> (ObjectKey, Arc<Ingress>) {
        let all = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Arc::make_mut(&mut of.1).metadata.annotations = Some(all);
        of
    }

    #[test]
    fn a_host_that_is_passed_through_has_no_routes_and_is_one_clusters_as_any() {
        let api = json!({ "rules": [{ "host": "API.example.com", "http": { "paths": [
            { "path": "/v1", "pathType": "Prefix", "backend": { "service": { "name": "v1", "port": { "number": 443 } } } },
            { "path": "/", "pathType": "Prefix", "backend": { "service": { "name": "all", "port": { "number": 443 } } } },
        ] } }, { "host": "*.api.example.com" }], "defaultBackend": { "service": { "name": "rest", "port": { "name": "tls" } } } });
        let plan = plan(&[
            annotated(ingress("a.t1", "api", 1, api), &[("nginx.ingress.kubernetes.io/ssl-passthrough", "True")]),
            annotated(ingress("b.t2", "thief", 2, json!({ "rules": [rule("api.example.com", "/", "thief")] })), &[(PASSTHROUGH, "true")]),
            annotated(ingress("b.t2", "all", 3, json!({ "rules": [rule("", "/", "all")] })), &[(PASSTHROUGH, "true")]),
            annotated(
                ingress("a.t1", "not", 4, json!({ "rules": [rule("web.example.com", "/", "web")] })),
                &[(PASSTHROUGH, "false"), ("nginx.ingress.kubernetes.io/ssl-passthrough", "true")],
            ),
        ]);
        let passed = |name: &str| plan.routes.passthrough_of(name).map(|pool| pool.to_string()).unwrap_or_default();
        assert_eq!(passed("api.example.com"), "a.t1:d/all:443");
        assert_eq!(passed("x.api.example.com"), "a.t1:d/rest:tls");
        assert_eq!((passed("web.example.com").as_str(), passed("elsewhere").as_str(), passed("").as_str()), ("", "", ""));
        assert_eq!(pool(&plan, "web.example.com", "/"), "a.t1:d/web:80");
        assert_eq!((pool(&plan, "api.example.com", "/").as_str(), pool(&plan, "elsewhere", "/").as_str()), ("", ""));
        assert_eq!(plan.refused.into_values().flatten().collect::<Vec<_>>(), ["api.example.com"]);
    }

    #[test]
    fn an_ingress_is_ours_by_its_class() {
        let check = |spec: Value, annotation: Option<&str>, controller: Option<&str>| {
            let (_, ingress) = ingress("root", "x", 0, spec);
            let mut ingress = (*ingress).clone();
            ingress.metadata.annotations = annotation.map(|class| BTreeMap::from([(CLASS_ANNOTATION.to_owned(), class.to_owned())]));
            is_ours(&ingress, |_| controller.map(str::to_owned))
        };
        assert!(check(json!({ "ingressClassName": "fiberlb" }), None, None));
        assert!(check(json!({ "ingressClassName": "mine" }), None, Some(CONTROLLER)));
        assert!(check(json!({}), Some("fiberlb"), None));
        assert!(!check(json!({ "ingressClassName": "fiberlb" }), None, Some("another/controller")));
        assert!(!check(json!({ "ingressClassName": "nginx" }), None, None));
        assert!(!check(json!({}), None, None));
    }
}
