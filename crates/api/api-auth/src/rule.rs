//! Rule: one RBAC PolicyRule and what it matches.
use crate::Attributes;
use serde::{Deserialize, Deserializer, Serialize};

/// `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// An absent, null or empty list are the same.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Rule {
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !attributes.is_resource() {
            return self.has_verb(attributes.verb) && self.has_path(attributes.path);
        }
        self.has_verb(attributes.verb)
            && self.has_group(attributes.group)
            && self.has_resource(attributes.resource, attributes.subresource)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == attributes.name))
    }

    pub(crate) fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == "*" || v == verb)
    }
    fn has_group(&self, group: &str) -> bool {
        self.api_groups.iter().any(|g| g == "*" || g == group)
    }
    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|rule| match rule.split_once('/') {
            None => rule == "*" || (subresource.is_empty() && rule == resource),
            // `*/scale` is the one wildcard with a subresource.
            Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
        })
    }
    fn has_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|rule| path_covers(rule, path))
    }
}

/// `/healthz/*` covers what starts with `/healthz/`; `*` covers everything.
pub(crate) fn path_covers(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;
    use api_meta::ClusterName;
    use serde_json::json;

    #[test]
    fn rules_match_as_upstream_matches_them() {
        let (cluster, user) = (ClusterName::root(), User::default());
        let check = |rule: serde_json::Value, request: &str, want: bool| {
            let rule: Rule = serde_json::from_value(rule).unwrap();
            let words: Vec<&str> = request.split(' ').collect();
            let mut a = Attributes {
                cluster: &cluster,
                user: &user,
                verb: words[0],
                group: "",
                version: "",
                resource: "",
                subresource: "",
                namespace: "",
                name: "",
                path: "",
            };
            if words[1].starts_with('/') {
                a.path = words[1];
            } else {
                let (resource, sub) = words[1].split_once('/').unwrap_or((words[1], ""));
                let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
                (a.resource, a.subresource, a.group, a.name) = (resource, sub, group, words.get(2).copied().unwrap_or(""));
            }
            assert_eq!(rule.allows(&a), want, "{rule:?} {request}");
        };
        let core = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
        check(core(&["pods"], &["get"]), "get pods", true);
        check(core(&["pods"], &["get"]), "list pods", false);
        check(core(&["pods"], &["*"]), "list pods", true);
        check(core(&["pods"], &["*"]), "get pods/log", false);
        check(core(&["pods/log"], &["get"]), "get pods/log", true);
        check(core(&["pods/log"], &["get"]), "get pods", false);
        check(core(&["pods/*"], &["get"]), "get pods/log", false);
        check(core(&["*/scale"], &["get"]), "get replicationcontrollers/scale", true);
        check(core(&["*/scale"], &["get"]), "get replicationcontrollers", false);
        check(core(&["*"], &["get"]), "get pods/log", true);
        check(core(&["*"], &["get"]), "get deployments.apps", false);
        check(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}), "get deployments.apps/scale", true);
        check(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}), "get /metrics", false);
        let named = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"], "resourceNames": ["a"]});
        check(named.clone(), "get configmaps a", true);
        check(named.clone(), "get configmaps b", false);
        check(named, "list configmaps", false);
        let paths = |urls: &[&str]| json!({"nonResourceURLs": urls, "verbs": ["get"]});
        check(paths(&["/healthz"]), "get /healthz", true);
        check(paths(&["/healthz"]), "get /healthz/x", false);
        check(paths(&["/healthz/*"]), "get /healthz/x", true);
        check(paths(&["/healthz/*"]), "get /healthz", false);
        check(paths(&["*"]), "get /anything", true);
        check(paths(&["*"]), "post /anything", false);
    }
}
