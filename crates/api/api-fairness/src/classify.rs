//! Classify: which schema, level and flow a request belongs to.
use crate::configuration::{Configuration, Distinguisher, FlowSchema, NonResourceRule, PolicyRules, ResourceRule, Subject};
use api_auth::{Attributes, User};
use sha2::{Digest, Sha256};
use std::sync::Arc;

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Where a request belongs.
#[derive(Clone, Debug)]
pub struct Flow {
    pub(crate) schema: Arc<FlowSchema>,
    pub(crate) level_uid: Arc<str>,
    limited: bool,
    distinguisher: String,
}

impl Flow {
    /// `metadata.uid` of its FlowSchema; empty for one that no object says.
    pub fn schema_uid(&self) -> &str {
        &self.schema.uid
    }
    /// `metadata.uid` of its PriorityLevelConfiguration; empty for one that no object says.
    pub fn level_uid(&self) -> &str {
        &self.level_uid
    }
    pub fn schema_name(&self) -> &str {
        &self.schema.name
    }
    /// The name of its PriorityLevelConfiguration.
    pub fn level(&self) -> &str {
        &self.schema.level
    }

    /// Whether its level has so many seats and no more.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// Whom its schema tells apart by it: a user, a namespace, or nobody.
    pub fn distinguisher(&self) -> &str {
        &self.distinguisher
    }

    /// What decides which queues it may wait in.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = Sha256::new();
        // The length keeps one name's end from being another's beginning.
        hash.update((self.schema.name.len() as u64).to_le_bytes());
        hash.update(&self.schema.name);
        hash.update(&self.distinguisher);
        let digest = hash.finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest is longer than that"))
    }
}

impl Configuration {
    /// The first schema that knows the request. There is one for everybody.
    pub fn classify(&self, request: &Attributes) -> Option<Flow> {
        let schema = self.schemas.iter().find(|schema| schema.rules.iter().any(|rules| rules.matches(request)))?;
        let distinguisher = match schema.distinguisher {
            Distinguisher::None => String::new(),
            Distinguisher::ByUser => request.user.username.clone(),
            Distinguisher::ByNamespace => request.namespace.to_owned(),
        };
        let level = self.levels.get(&schema.level);
        let level_uid = level.map(|level| level.uid.clone()).unwrap_or_default();
        let limited = level.is_some_and(|level| level.limited.is_some());
        Some(Flow { schema: schema.clone(), level_uid, limited, distinguisher })
    }
}

fn holds(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl PolicyRules {
    fn matches(&self, request: &Attributes) -> bool {
        let rule = if request.is_resource() {
            self.resource_rules.iter().any(|rule| rule.matches(request))
        } else {
            self.non_resource_rules.iter().any(|rule| rule.matches(request))
        };
        rule && self.subjects.iter().any(|subject| subject.matches(request.user))
    }
}

impl Subject {
    fn matches(&self, user: &User) -> bool {
        let is = |wanted: &str, name: &str| wanted == "*" || wanted == name;
        if let Some(wanted) = &self.user {
            return is(&wanted.name, &user.username);
        }
        if let Some(wanted) = &self.group {
            return wanted.name == "*" || user.in_group(&wanted.name);
        }
        let Some(wanted) = &self.service_account else { return false };
        let account = user.username.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
        account.is_some_and(|(namespace, name)| namespace == wanted.namespace && is(&wanted.name, name))
    }
}

impl ResourceRule {
    fn matches(&self, request: &Attributes) -> bool {
        let resource = |wanted: &String| match wanted.split_once('/') {
            _ if wanted == "*" => true,
            Some((resource, subresource)) => resource == request.resource && subresource == request.subresource,
            None => wanted == request.resource && request.subresource.is_empty(),
        };
        let place = if request.namespace.is_empty() { self.cluster_scope } else { holds(&self.namespaces, request.namespace) };
        place && holds(&self.verbs, request.verb) && holds(&self.api_groups, request.group) && self.resources.iter().any(resource)
    }
}

impl NonResourceRule {
    fn matches(&self, request: &Attributes) -> bool {
        let path = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => request.path.starts_with(start),
            None => wanted == request.path,
        };
        holds(&self.verbs, request.verb) && self.non_resource_urls.iter().any(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_meta::ClusterName;
    use serde_json::json;

    #[test]
    fn the_first_schema_that_knows_a_request_takes_it() {
        let schema = |name: &str, precedence: u32, subject: serde_json::Value, rules: serde_json::Value| {
            let mut rules = rules;
            rules["subjects"] = json!([subject]);
            json!({ "metadata": { "name": name, "uid": name }, "spec": { "matchingPrecedence": precedence, "distinguisherMethod": { "type": "ByNamespace" },
                "priorityLevelConfiguration": { "name": "exempt" }, "rules": [rules] } })
        };
        let account = json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "ci", "name": "*" } });
        let pods = json!({ "resourceRules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["a"] }] });
        let user = json!({ "kind": "User", "user": { "name": "anna" } });
        let paths = json!({ "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["/logs/*", "/healthz"] }],
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true }] });
        let objects = [schema("ci-pods", 5, account, pods), schema("annas", 5, user, paths)];
        let configuration = Configuration::of(&objects, []);
        let root = ClusterName::root();
        let (ci, anna) = (User::authenticated("system:serviceaccount:ci:builder", []), User::authenticated("anna", []));
        let base = Attributes {
            cluster: &root,
            user: &ci,
            verb: "get",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "a",
            name: "x",
            path: "",
        };
        let path = Attributes { user: &anna, resource: "", namespace: "", path: "/logs/x", ..base };
        for (request, want) in [
            (base, "ci-pods"),
            (Attributes { subresource: "log", ..base }, "ci-pods"),
            (Attributes { subresource: "exec", ..base }, "catch-all"),
            (Attributes { namespace: "b", ..base }, "catch-all"),
            (Attributes { namespace: "", ..base }, "catch-all"),
            (Attributes { verb: "list", ..base }, "catch-all"),
            (Attributes { group: "apps", ..base }, "catch-all"),
            (Attributes { user: &anna, ..base }, "catch-all"),
            (Attributes { user: &anna, namespace: "", ..base }, "annas"),
            (path, "annas"),
            (Attributes { path: "/healthz", ..path }, "annas"),
            (Attributes { path: "/healthz/x", ..path }, "catch-all"),
        ] {
            let flow = configuration.classify(&request).unwrap();
            assert_eq!(flow.schema.name, want, "{request:?}");
        }
        let hash = |namespace| configuration.classify(&Attributes { namespace, ..base }).unwrap().hash();
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(configuration.classify(&base).unwrap().hash(), configuration.classify(&path).unwrap().hash());
    }
}
