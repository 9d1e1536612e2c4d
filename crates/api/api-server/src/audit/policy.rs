//! The audit policy: which requests are recorded, and how much of them. The first rule that matches decides.
use super::AuditError;
use super::event::Stage;
use api_auth::Attributes;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// A policy file's content.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    /// What every object has, and nobody looks at here.
    #[serde(default)]
    #[allow(dead_code, reason = "accepted, as upstream accepts it")]
    metadata: serde_json::Value,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Rule {
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy wants of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy in YAML or JSON.
    ///
    /// # Errors
    /// It is no policy of `audit.k8s.io/v1`, has no rules, or rules that make no sense.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|error| AuditError::Policy(crate::negotiate::first_line(&error)))?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(AuditError::Policy(format!("kind {:?} of {:?} is not Policy of \"audit.k8s.io/v1\"", policy.kind, policy.api_version)));
        }
        if policy.rules.is_empty() {
            return Err(AuditError::Policy("loaded illegal policy with 0 rules".into()));
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|why| AuditError::Policy(format!("rules[{index}].{why}")))?;
        }
        Ok(policy)
    }

    /// `None`: nothing. The user is unknown where authentication failed.
    pub fn wanted(&self, attributes: &Attributes, user_known: bool) -> Option<Wanted> {
        let rule = self.rules.iter().find(|rule| rule.matches(attributes, user_known))?;
        if rule.level == Level::None {
            return None;
        }
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(&rule.omit_stages);
        Some(Wanted { level: rule.level, omit_stages, omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields) })
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.paths.is_empty() {
            return Err("nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs".into());
        }
        for path in &self.paths {
            if path != "*" && !path.starts_with('/') {
                return Err(format!("nonResourceURLs: Invalid value: {path:?}: non-resource URL rules must begin with a '/' character"));
            }
            if path.trim_end_matches('*').len() + 1 < path.len() || path[..path.len().saturating_sub(1)].contains('*') {
                return Err(format!("nonResourceURLs: Invalid value: {path:?}: non-resource URL wildcards '*' must be the final character of the rule"));
            }
        }
        for resources in &self.resources {
            if resources.group.contains('/') {
                return Err(format!("resources.group: Invalid value: {:?}: a group is a DNS subdomain, without a version", resources.group));
            }
            if resources.resources.is_empty() && !resources.resource_names.is_empty() {
                return Err("resources.resourceNames: Invalid value: using resourceNames requires at least one resource".into());
            }
        }
        Ok(())
    }

    fn matches(&self, attributes: &Attributes, user_known: bool) -> bool {
        let has = |list: &[String], text: &str| list.iter().any(|entry| entry == text);
        let of_user = self.users.is_empty() || (user_known && has(&self.users, &attributes.user.username));
        let of_groups = self.user_groups.is_empty() || (user_known && attributes.user.groups.iter().any(|group| has(&self.user_groups, group)));
        if !of_user || !of_groups {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, attributes.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return attributes.is_resource()
                && (self.namespaces.is_empty() || has(&self.namespaces, attributes.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|resources| resources.matches(attributes)));
        }
        if !self.paths.is_empty() {
            return !attributes.is_resource() && self.paths.iter().any(|spec| path_matches(attributes.path, spec));
        }
        true
    }
}

impl GroupResources {
    fn matches(&self, attributes: &Attributes) -> bool {
        if self.group != attributes.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.iter().any(|name| name == attributes.name) {
            return false;
        }
        let (resource, subresource) = (attributes.resource, attributes.subresource);
        self.resources.iter().any(|spec| {
            let same = match spec.split_once('/') {
                None => spec == resource && subresource.is_empty(),
                Some((of, sub)) => of == resource && sub == subresource,
            };
            same || spec == "*" || (!subresource.is_empty() && spec.strip_prefix("*/") == Some(subresource)) || spec.strip_suffix("/*") == Some(resource)
        })
    }
}

fn path_matches(path: &str, spec: &str) -> bool {
    path == spec || spec.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_auth::User;
    use api_meta::ClusterName;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
  resources: [{group: "", resources: [endpoints, services]}]
- level: None
  userGroups: ["system:authenticated"]
  nonResourceURLs: ["/api*", "/version"]
- level: Request
  resources: [{group: "", resources: [configmaps], resourceNames: [one]}]
  namespaces: [kube-system]
- level: RequestResponse
  omitStages: [ResponseStarted]
  omitManagedFields: false
  resources: [{group: apps}, {group: "", resources: ["pods/*", "*/status"]}]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
"#;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::parse(POLICY).unwrap();
        let (cluster, user) = (ClusterName::root(), User::authenticated("system:kube-proxy", []));
        let check = |verb: &str, group: &str, resource: &str, subresource: &str, namespace: &str, name: &str, path: &str, want: Option<Level>| {
            let attributes = Attributes { cluster: &cluster, user: &user, verb, group, version: "v1", resource, subresource, namespace, name, path };
            assert_eq!(policy.wanted(&attributes, true).map(|wanted| wanted.level), want, "{attributes:?}");
        };
        check("watch", "", "services", "", "", "", "", None);
        check("get", "", "", "", "", "", "/apis/apps", None);
        check("get", "", "", "", "", "", "/metrics", None);
        check("get", "", "configmaps", "", "kube-system", "one", "", Some(Level::Request));
        check("get", "", "configmaps", "", "kube-system", "two", "", None);
        check("get", "", "configmaps", "", "default", "one", "", None);
        check("get", "apps", "deployments", "", "default", "one", "", Some(Level::RequestResponse));
        check("get", "", "pods", "log", "default", "one", "", Some(Level::RequestResponse));
        check("get", "", "pods", "", "default", "one", "", Some(Level::RequestResponse));
        check("get", "", "nodes", "status", "", "one", "", Some(Level::RequestResponse));
        check("get", "", "nodes", "", "", "one", "", None);
        check("list", "", "secrets", "", "", "", "", Some(Level::Metadata));
        let attributes = Attributes {
            cluster: &cluster,
            user: &user,
            verb: "get",
            group: "apps",
            version: "v1",
            resource: "deployments",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
        };
        let wanted = policy.wanted(&attributes, true).unwrap();
        assert_eq!((wanted.omit_stages, wanted.omit_managed_fields), (vec![Stage::RequestReceived, Stage::ResponseStarted], false));
        let unknown = Attributes { group: "", resource: "", path: "/version", ..attributes };
        assert!(policy.wanted(&unknown, false).is_none());
    }

    #[test]
    fn policies_that_make_no_sense_are_refused() {
        for (text, why) in [
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []", "0 rules"),
            ("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]", "is not Policy"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Everything}]", "Everything"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, user: [a]}]", "user"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: [a]}]", "must begin with a '/'"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: ['/a*b']}]", "final character"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: ['/a'], namespaces: [a]}]", "both regular resources"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, resources: [{resourceNames: [a]}]}]", "at least one resource"),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
