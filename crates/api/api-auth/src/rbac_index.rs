//! RbacIndex: the roles and bindings of every cluster, indexed by who they are for.
use crate::rule::nullable;
use crate::{Attributes, Decision, Rule, User, service_account_username};
use api_meta::{ClusterName, Object};
use parking_lot::RwLock;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The four kinds of `rbac.authorization.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RbacKind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl RbacKind {
    pub const ALL: [Self; 4] = [Self::Role, Self::ClusterRole, Self::RoleBinding, Self::ClusterRoleBinding];

    /// The resource name, as in `GroupResource`.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Role => "roles",
            Self::ClusterRole => "clusterroles",
            Self::RoleBinding => "rolebindings",
            Self::ClusterRoleBinding => "clusterrolebindings",
        }
    }
    /// The kind a resource of the RBAC group is; `None` for other resources.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| group == GROUP && kind.resource() == resource)
    }
}

/// The rules that apply to a user, and what could not be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub rules: Vec<Rule>,
    /// Bindings whose role is missing, as upstream words it.
    pub errors: Vec<String>,
}

/// A name in a namespace ("" for cluster-scoped kinds).
type Key = (Box<str>, Box<str>);

#[derive(Default)]
struct Policy {
    /// Roles by (namespace, name); cluster roles in namespace "".
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: HashMap<Key, Binding>,
    /// (subject, namespace of the binding) -> names of bindings, in order.
    by_subject: HashMap<Box<str>, BTreeSet<Key>>,
}

struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Decoded {
    #[serde(deserialize_with = "nullable")]
    rules: Vec<Rule>,
    #[serde(deserialize_with = "nullable")]
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

impl Subject {
    /// What a user must have to be this subject: `u:` and its name, or `g:` and a group.
    fn key(&self, binding_namespace: &str) -> Option<Box<str>> {
        match self.kind.as_str() {
            "User" => Some(format!("u:{}", self.name).into()),
            "Group" => Some(format!("g:{}", self.name).into()),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                (!namespace.is_empty()).then(|| format!("u:{}", service_account_username(namespace, &self.name)).into())
            }
            _ => None,
        }
    }
    fn describe(&self, binding_namespace: &str) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                format!("ServiceAccount {:?}", format!("{}/{namespace}", self.name))
            }
            kind => format!("{kind} {:?}", self.name),
        }
    }
}

/// Kept current by whoever watches the four kinds; asked on every request.
#[derive(Default)]
pub struct RbacIndex {
    clusters: RwLock<HashMap<ClusterName, Policy>>,
}

impl RbacIndex {
    /// A role or binding was created or changed. An object that can't be decoded grants nothing.
    pub fn apply(&self, cluster: &ClusterName, kind: RbacKind, object: &Object) {
        let key: Key = (object.meta().namespace.clone(), object.meta().name.clone());
        let decoded: Decoded = object.decode().unwrap_or_default();
        let mut clusters = self.clusters.write();
        let policy = clusters.entry(cluster.clone()).or_default();
        match kind {
            RbacKind::Role | RbacKind::ClusterRole => {
                policy.roles.insert(key, decoded.rules.into());
            }
            RbacKind::RoleBinding | RbacKind::ClusterRoleBinding => {
                policy.unbind(&key);
                for subject in decoded.subjects.iter().filter_map(|subject| subject.key(&key.0)) {
                    policy.by_subject.entry(subject).or_default().insert(key.clone());
                }
                policy.bindings.insert(key, Binding { role: decoded.role_ref, subjects: decoded.subjects });
            }
        }
    }

    /// A role or binding was deleted; `namespace` is "" for the cluster-scoped kinds.
    pub fn remove(&self, cluster: &ClusterName, kind: RbacKind, namespace: &str, name: &str) {
        let key: Key = (namespace.into(), name.into());
        let mut clusters = self.clusters.write();
        if let Some(policy) = clusters.get_mut(cluster) {
            match kind {
                RbacKind::Role | RbacKind::ClusterRole => {
                    policy.roles.remove(&key);
                }
                RbacKind::RoleBinding | RbacKind::ClusterRoleBinding => policy.unbind(&key),
            }
            if policy.roles.is_empty() && policy.bindings.is_empty() {
                clusters.remove(cluster);
            }
        }
    }

    /// Forgets the roles or bindings of `kind` that are not to be kept: `keep(cluster, namespace, name)`.
    pub fn retain(&self, kind: RbacKind, keep: impl Fn(&ClusterName, &str, &str) -> bool) {
        let namespaced = matches!(kind, RbacKind::Role | RbacKind::RoleBinding);
        for (cluster, policy) in &mut *self.clusters.write() {
            let goes = |(namespace, name): &Key| namespace.is_empty() != namespaced && !keep(cluster, namespace, name);
            match kind {
                RbacKind::Role | RbacKind::ClusterRole => policy.roles.retain(|key, _| !goes(key)),
                RbacKind::RoleBinding | RbacKind::ClusterRoleBinding => {
                    let gone: Vec<Key> = policy.bindings.keys().filter(|key| goes(key)).cloned().collect();
                    gone.iter().for_each(|key| policy.unbind(key));
                }
            }
        }
    }

    /// Allow by the first binding that grants the request, else NoOpinion with what went wrong on the way.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        let clusters = self.clusters.read();
        let mut errors = Vec::new();
        let found = layers(&clusters, attributes.cluster).visit(attributes.user, attributes.namespace, |key, binding, rules| match rules {
            Ok(rules) => rules.iter().any(|rule| rule.allows(attributes)).then(|| reason(key, binding, attributes.user)),
            Err(error) => {
                errors.push(error);
                None
            }
        });
        match found {
            Some(reason) => Decision::Allow(reason),
            None if errors.is_empty() => Decision::NoOpinion(String::new()),
            None => Decision::NoOpinion(format!("RBAC: {}", aggregate(errors))),
        }
    }

    /// All rules that apply to a user in a namespace ("" for the cluster scope).
    pub fn rules_for(&self, cluster: &ClusterName, user: &User, namespace: &str) -> Resolved {
        let clusters = self.clusters.read();
        let mut resolved = Resolved::default();
        layers(&clusters, cluster).visit(user, namespace, |_, _, rules| {
            match rules {
                Ok(rules) => resolved.rules.extend_from_slice(rules),
                Err(error) => resolved.errors.push(error),
            }
            None::<()>
        });
        resolved
    }

    /// The rules of one Role (`namespace` given) or ClusterRole (`namespace` ""); `None` when it isn't there.
    pub fn role_rules(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        layers(&self.clusters.read(), cluster).rules(&(namespace.into(), name.into())).cloned()
    }
}

impl Policy {
    fn unbind(&mut self, key: &Key) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for subject in binding.subjects.iter().filter_map(|subject| subject.key(&key.0)) {
            if let Some(keys) = self.by_subject.get_mut(&subject) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_subject.remove(&subject);
                }
            }
        }
    }
}

/// The policy of a cluster: its own, and what of the base it has not changed. An object that hides one of the base has
/// no rules and no subjects, and so grants nothing.
struct Layers<'a> {
    own: Option<&'a Policy>,
    base: Option<&'a Policy>,
}

fn layers<'a>(clusters: &'a HashMap<ClusterName, Policy>, cluster: &ClusterName) -> Layers<'a> {
    let base = if cluster.is_root() { None } else { clusters.get(&ClusterName::base()) };
    Layers { own: clusters.get(cluster), base }
}

impl<'a> Layers<'a> {
    /// Calls `visitor` with each binding of the user, cluster-wide ones first, until it gives something.
    fn visit<T>(&self, user: &User, namespace: &str, mut visitor: impl FnMut(&'a Key, &'a Binding, Result<&'a [Rule], String>) -> Option<T>) -> Option<T> {
        let subjects: Vec<String> = std::iter::once(format!("u:{}", user.username)).chain(user.groups.iter().map(|group| format!("g:{group}"))).collect();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            for (policy, is_base) in self.own.map(|own| (own, false)).into_iter().chain(self.base.map(|base| (base, true))) {
                for keys in subjects.iter().filter_map(|subject| policy.by_subject.get(subject.as_str())) {
                    let from: Key = ((*scope).into(), "".into());
                    for key in keys.range(from..).take_while(|(of, _)| **of == **scope) {
                        if is_base && self.own.is_some_and(|own| own.bindings.contains_key(key)) {
                            continue;
                        }
                        let binding = policy.bindings.get(key).expect("by_subject holds keys of bindings only");
                        if let Some(found) = visitor(key, binding, self.rules_of(key, &binding.role)) {
                            return Some(found);
                        }
                    }
                }
            }
        }
        None
    }

    fn rules(&self, key: &Key) -> Option<&'a Arc<[Rule]>> {
        self.own.and_then(|own| own.roles.get(key)).or_else(|| self.base.and_then(|base| base.roles.get(key)))
    }

    fn rules_of(&self, (namespace, _): &Key, role: &RoleRef) -> Result<&'a [Rule], String> {
        let (scope, resource) = match role.kind.as_str() {
            "Role" => (&**namespace, "role"),
            "ClusterRole" => ("", "clusterrole"),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        let rules = self.rules(&(scope.into(), role.name.as_str().into()));
        rules.map(|rules| &**rules).ok_or_else(|| format!("{resource}.{GROUP} {:?} not found", role.name))
    }
}

fn reason((namespace, name): &Key, binding: &Binding, user: &User) -> String {
    let is_user = |key: &str| key.strip_prefix("u:") == Some(&user.username) || key.strip_prefix("g:").is_some_and(|group| user.in_group(group));
    let subject = binding.subjects.iter().find(|subject| subject.key(namespace).is_some_and(|key| is_user(&key)));
    let subject = subject.map(|subject| subject.describe(namespace)).unwrap_or_default();
    let RoleRef { kind, name: role } = &binding.role;
    if namespace.is_empty() {
        format!("RBAC: allowed by ClusterRoleBinding {name:?} of {kind} {role:?} to {subject}")
    } else {
        format!("RBAC: allowed by RoleBinding {:?} of {kind} {role:?} to {subject}", format!("{name}/{namespace}"))
    }
}

/// As upstream joins errors: one alone, more in brackets, none twice.
fn aggregate(errors: Vec<String>) -> String {
    let mut seen = BTreeMap::new();
    let unique: Vec<String> = errors.into_iter().filter(|error| seen.insert(error.clone(), ()).is_none()).collect();
    match &unique[..] {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(value: Value) -> Object {
        Object::parse(serde_json::to_vec(&value).unwrap().into()).unwrap()
    }

    fn index() -> (RbacIndex, ClusterName) {
        let (index, cluster) = (RbacIndex::default(), ClusterName::root());
        let read = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        let put = |kind, value| index.apply(&cluster, kind, &object(value));
        put(RbacKind::ClusterRole, json!({"metadata": {"name": "reader"}, "rules": read}));
        put(RbacKind::Role, json!({"metadata": {"name": "local", "namespace": "a"}, "rules": read}));
        let binding = |name: &str, namespace: &str, role: (&str, &str), subjects: Value| json!({"metadata": {"name": name, "namespace": namespace}, "roleRef": {"apiGroup": GROUP, "kind": role.0, "name": role.1}, "subjects": subjects});
        let rb = RbacKind::RoleBinding;
        put(RbacKind::ClusterRoleBinding, binding("all", "", ("ClusterRole", "reader"), json!([{"kind": "Group", "name": "devs"}])));
        put(rb, binding("sa", "a", ("Role", "local"), json!([{"kind": "ServiceAccount", "name": "robot", "namespace": "b"}])));
        put(rb, binding("mine", "a", ("ClusterRole", "reader"), json!([{"kind": "User", "name": "eve"}])));
        put(RbacKind::ClusterRoleBinding, binding("broken", "", ("ClusterRole", "none"), json!([{"kind": "User", "name": "mallory"}])));
        (index, cluster)
    }

    fn ask(index: &RbacIndex, cluster: &ClusterName, user: &User, namespace: &str) -> Decision {
        index.authorize(&Attributes { cluster, user, verb: "get", group: "", version: "v1", resource: "pods", subresource: "", namespace, name: "p", path: "" })
    }

    #[test]
    fn a_virtual_cluster_has_the_base_until_it_changes_it_and_the_host_never() {
        let (index, host) = index();
        let (tenant, base) = (ClusterName::hosted("team", "a").unwrap(), ClusterName::base());
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        index.apply(&base, RbacKind::ClusterRole, &object(json!({"metadata": {"name": "watcher"}, "rules": rules})));
        let binding =
            json!({"metadata": {"name": "ops"}, "roleRef": {"kind": "ClusterRole", "name": "watcher"}, "subjects": [{"kind": "Group", "name": "ops"}]});
        index.apply(&base, RbacKind::ClusterRoleBinding, &object(binding));
        let (ops, devs) = (User::authenticated("olga", ["ops".into()]), User::authenticated("dan", ["devs".into()]));
        assert!(ask(&index, &tenant, &ops, "a").is_allowed());
        assert!(!ask(&index, &host, &ops, "a").is_allowed(), "the base is no policy of the host's");
        assert!(!ask(&index, &tenant, &devs, "a").is_allowed(), "nor the host's one of a virtual cluster");
        let hidden = object(json!({"kind": "Hidden", "metadata": {"name": "ops"}}));
        index.apply(&tenant, RbacKind::ClusterRoleBinding, &hidden);
        assert!(!ask(&index, &tenant, &ops, "a").is_allowed());
        index.remove(&tenant, RbacKind::ClusterRoleBinding, "", "ops");
        index.apply(&tenant, RbacKind::ClusterRole, &object(json!({"metadata": {"name": "watcher"}, "rules": []})));
        assert!(!ask(&index, &tenant, &ops, "a").is_allowed(), "a binding of the base means the cluster's own role");
    }

    #[test]
    fn what_is_not_retained_grants_nothing() {
        let (index, cluster) = index();
        let dev = User::authenticated("dev", ["devs".to_owned()]);
        let eve = User::authenticated("eve", []);
        index.retain(RbacKind::RoleBinding, |_, _, name| name == "sa");
        assert!(ask(&index, &cluster, &dev, "a").is_allowed(), "bindings of another kind stay");
        assert!(!ask(&index, &cluster, &eve, "a").is_allowed());
        index.retain(RbacKind::Role, |_, _, _| false);
        assert!(ask(&index, &cluster, &dev, "a").is_allowed(), "cluster roles are no roles");
        index.retain(RbacKind::ClusterRole, |_, _, _| false);
        assert!(!ask(&index, &cluster, &dev, "a").is_allowed());
    }

    #[test]
    fn a_binding_grants_its_role_where_it_is() {
        let (index, cluster) = index();
        let dev = User::authenticated("dev", ["devs".to_owned()]);
        let robot = User::authenticated("system:serviceaccount:b:robot", []);
        let eve = User::authenticated("eve", []);
        let allow = |text: &str| Decision::Allow(format!("RBAC: allowed by {text}"));
        let no = Decision::NoOpinion(String::new());
        for (user, namespace, want) in [
            (&dev, "", allow(r#"ClusterRoleBinding "all" of ClusterRole "reader" to Group "devs""#)),
            (&dev, "x", allow(r#"ClusterRoleBinding "all" of ClusterRole "reader" to Group "devs""#)),
            (&robot, "a", allow(r#"RoleBinding "sa/a" of Role "local" to ServiceAccount "robot/b""#)),
            (&robot, "b", no.clone()),
            (&eve, "a", allow(r#"RoleBinding "mine/a" of ClusterRole "reader" to User "eve""#)),
            (&eve, "", no.clone()),
        ] {
            assert_eq!(ask(&index, &cluster, user, namespace), want, "{} in {namespace:?}", user.username);
        }
        assert_eq!(
            ask(&index, &cluster, &User::authenticated("mallory", []), ""),
            Decision::NoOpinion(r#"RBAC: clusterrole.rbac.authorization.k8s.io "none" not found"#.into())
        );
        assert_eq!(ask(&index, &ClusterName::parse("tenant").unwrap(), &dev, ""), no, "a policy holds in its own cluster only");
    }

    #[test]
    fn what_is_removed_or_replaced_grants_nothing_more() {
        let (index, cluster) = index();
        let eve = User::authenticated("eve", []);
        let other = json!({"metadata": {"name": "mine", "namespace": "a"}, "roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": null});
        index.apply(&cluster, RbacKind::RoleBinding, &object(other));
        assert!(!ask(&index, &cluster, &eve, "a").is_allowed());
        let dev = User::authenticated("dev", ["devs".to_owned()]);
        index.remove(&cluster, RbacKind::ClusterRole, "", "reader");
        assert!(!ask(&index, &cluster, &dev, "a").is_allowed());
        index.remove(&cluster, RbacKind::ClusterRoleBinding, "", "all");
        assert_eq!(index.rules_for(&cluster, &dev, "a"), Resolved::default());
        assert_eq!(index.clusters.read()[&cluster].by_subject.len(), 2, "no subject is kept without bindings");
    }
}
