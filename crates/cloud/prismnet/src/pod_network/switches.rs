//! Switches: the logical switches there are, one for each namespace of each cluster, and whose they are. Pure.
use crate::kubernetes::switch_of;
use api_meta::ClusterName;
use api_meta::projects::{ORG_LABEL, PROJECT_LABEL};
use cloud_api::{Caller, Ownership};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A logical switch: the namespace of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Switch {
    pub cluster: ClusterName,
    pub namespace: Arc<str>,
}

impl Switch {
    /// `k8s-<namespace>`, in a virtual cluster `k8s-<namespace>@<cluster>`.
    pub fn name(&self) -> String {
        switch_of(&self.namespace, (!self.cluster.is_root()).then_some(self.cluster.as_str()))
    }
}

/// What calls name a namespace by: `shop`, or `shop@dev.team-a` in a virtual cluster.
fn switch_called(namespace: &str) -> Option<Switch> {
    let (namespace, cluster) = match namespace.split_once('@') {
        Some((namespace, cluster)) => (namespace, ClusterName::parse(cluster).ok()?),
        None => (namespace, ClusterName::root()),
    };
    Some(Switch { cluster, namespace: namespace.into() })
}

/// All switches. What a caller may use is found without looking at the others.
#[derive(Debug, Default)]
pub struct Switches {
    /// Namespaces of the host cluster. INVARIANT: nobody but the host's administrators says whose one is.
    host: BTreeMap<Arc<str>, Ownership>,
    /// Those of them that are an organisation's.
    of_organization: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// Switches of virtual clusters, by the host's namespace that these are in.
    hosted: BTreeMap<Arc<str>, BTreeSet<Switch>>,
}

impl Switches {
    /// A namespace as it is now, by its labels; `None`: it is gone.
    pub fn set(&mut self, cluster: &ClusterName, namespace: &Arc<str>, labels: Option<&BTreeMap<String, String>>) {
        if !cluster.is_root() {
            // What all clusters start with is in none.
            let Some((host, _)) = cluster.host_object() else { return };
            let switch = Switch { cluster: cluster.clone(), namespace: namespace.clone() };
            let of_host = self.hosted.entry(host.into()).or_default();
            if labels.is_some() {
                of_host.insert(switch)
            } else {
                of_host.remove(&switch)
            };
            if of_host.is_empty() {
                self.hosted.remove(host);
            }
            return;
        }
        if let Some(old) = self.host.remove(namespace)
            && let Some(all) = self.of_organization.get_mut(&old.org_id)
        {
            all.remove(namespace);
            if all.is_empty() {
                self.of_organization.remove(&old.org_id);
            }
        }
        let Some(labels) = labels else { return };
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let owner = Ownership { org_id: label(ORG_LABEL), project_id: label(PROJECT_LABEL) };
        if !owner.org_id.is_empty() {
            self.of_organization.entry(owner.org_id.clone()).or_default().insert(namespace.clone());
        }
        self.host.insert(namespace.clone(), owner);
    }

    /// The caller's, with their owners: what is in a virtual cluster is whose the namespace is that hosts it.
    pub fn usable_by<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = (Switch, &'a Ownership)> {
        let own = (!caller.platform).then(|| self.of_organization.get(&caller.org_id)).flatten().into_iter().flatten();
        let all = caller.platform.then_some(&self.host).into_iter().flat_map(BTreeMap::keys);
        let usable = own.chain(all).filter_map(|name| Some((name, self.host.get(name)?))).filter(|(_, owner)| may_see(caller, owner));
        usable.flat_map(|(name, owner)| {
            let inside = self.hosted.get(name).into_iter().flatten().cloned();
            [Switch { cluster: ClusterName::root(), namespace: name.clone() }].into_iter().chain(inside).map(move |switch| (switch, owner))
        })
    }

    /// The caller's switch that a call names. What is others' is not there.
    pub fn find(&self, caller: &Caller, namespace: &str) -> Option<Switch> {
        let switch = switch_called(namespace)?;
        let host = match switch.cluster.host_object() {
            Some((host, _)) if self.hosted.get(host)?.contains(&switch) => host,
            Some(_) => return None,
            None if switch.cluster.is_root() => &switch.namespace,
            None => return None,
        };
        may_see(caller, self.host.get(host)?).then_some(switch)
    }
}

/// What is no project's is its organisation's administrators', and nobody's who acts for no project.
fn may_see(caller: &Caller, owner: &Ownership) -> bool {
    owner.is_usable_by(caller) && (caller.platform || !owner.project_id.is_empty() || caller.roles.contains("org_admin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(namespaces: &[(&str, &str, &str, &str)]) -> Switches {
        let mut switches = Switches::default();
        for (cluster, namespace, org, project) in namespaces {
            let labels = [(ORG_LABEL, org), (PROJECT_LABEL, project)].into_iter().filter(|(_, value)| !value.is_empty());
            let labels = labels.map(|(key, value)| (key.to_owned(), (*value).to_owned())).collect();
            switches.set(&ClusterName::parse(cluster).unwrap(), &(*namespace).into(), Some(&labels));
        }
        switches
    }

    fn all() -> Switches {
        switches(&[
            ("root", "default", "", ""),
            ("root", "org-1-shared", "org-1", ""),
            ("root", "project-a", "org-1", "proj-a"),
            ("root", "project-b", "org-1", "proj-b"),
            ("root", "project-c", "org-2", "proj-c"),
            ("base", "default", "", ""),
            ("dev.project-a", "shop", "org-2", "proj-c"),
            ("dev.default", "shop", "org-1", "proj-a"),
        ])
    }

    fn caller(org: &str, project: &str, roles: &[&str]) -> Caller {
        Caller { org_id: org.into(), project_id: project.into(), roles: roles.iter().map(|&role| role.into()).collect(), ..Caller::default() }
    }

    fn names(switches: &Switches, caller: &Caller) -> Vec<String> {
        switches.usable_by(caller).map(|(switch, _)| switch.name()).collect()
    }

    #[test]
    fn a_switch_is_whose_the_hosts_namespace_is() {
        let switches = all();
        for (caller, expected) in [
            (caller("org-1", "proj-a", &[]), &["k8s-project-a", "k8s-shop@dev.project-a"][..]),
            (caller("org-1", "proj-b", &["project_admin"]), &["k8s-project-b"]),
            (caller("org-1", "", &["org_admin"]), &["k8s-org-1-shared", "k8s-project-a", "k8s-shop@dev.project-a", "k8s-project-b"]),
            // What a tenant writes on a namespace of its own cluster says nothing.
            (caller("org-2", "proj-c", &[]), &["k8s-project-c"]),
            (caller("org-2", "proj-a", &[]), &[]),
            (caller("org-1", "", &["project_member"]), &[]),
            (caller("", "", &["org_admin"]), &[]),
        ] {
            assert_eq!(names(&switches, &caller), expected, "{caller:?}");
        }
        assert_eq!(names(&switches, &Caller::component("x")).len(), 7);
    }

    #[test]
    fn what_is_others_is_not_found() {
        let switches = all();
        let member = caller("org-1", "proj-a", &[]);
        let found = |namespace: &str| switches.find(&member, namespace).map(|switch| switch.name());
        assert_eq!(found("project-a").as_deref(), Some("k8s-project-a"));
        assert_eq!(found("shop@dev.project-a").as_deref(), Some("k8s-shop@dev.project-a"));
        for namespace in
            ["project-b", "project-c", "default", "gone", "shop", "shop@dev.default", "none@dev.project-a", "default@base", "project-a@root.x", "a@B"]
        {
            assert_eq!(found(namespace), None, "{namespace}");
        }
    }

    #[test]
    fn what_goes_is_forgotten() {
        let mut switches = all();
        let root = ClusterName::root();
        switches.set(&root, &"project-b".into(), Some(&[(ORG_LABEL.to_owned(), "org-2".to_owned())].into()));
        assert_eq!(names(&switches, &caller("org-2", "", &["org_admin"])), ["k8s-project-b", "k8s-project-c"]);
        for namespace in ["project-a", "project-b", "project-c", "org-1-shared", "default"] {
            switches.set(&root, &namespace.into(), None);
        }
        for cluster in ["dev.project-a", "dev.default"] {
            switches.set(&ClusterName::parse(cluster).unwrap(), &"shop".into(), None);
        }
        assert!(switches.host.is_empty() && switches.hosted.is_empty() && switches.of_organization.is_empty());
    }
}
