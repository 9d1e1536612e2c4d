//! Matching: whether rules and selectors, of a webhook or a policy, are about a request.
use crate::request::items;
use crate::{AdmissionRequest, Operation, selector};
use api_meta::{GroupResource, LabelSelector, Status};
use api_resource::Lookup;
use serde_json::Value;

const OWN_GROUP: &str = "admissionregistration.k8s.io";

/// What a request is about, in the version that was matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    pub group: String,
    pub version: String,
    pub resource: String,
    /// Group, version and name; a subresource may speak a kind of another group.
    pub kind: (String, String, String),
}

impl Matched {
    pub fn of(request: &AdmissionRequest<'_>) -> Self {
        let kind = (request.group_of_kind().to_owned(), request.version_of_kind().to_owned(), request.kind.to_owned());
        Self { group: request.group.into(), version: request.version.into(), resource: request.resource.into(), kind }
    }
}

/// One `RuleWithOperations`, with the names of objects a policy may limit it to.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    names: Vec<String>,
}

impl Rule {
    pub fn read(rule: &Value) -> Self {
        let texts = |field: &str| items(&rule[field]).iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            scope: rule["scope"].as_str().unwrap_or("*").to_owned(),
            names: texts("resourceNames"),
        }
    }

    /// Whether the rule is about this request, were it for that resource and version.
    pub fn matches(&self, request: &AdmissionRequest<'_>, matched: &Matched) -> bool {
        let one_of = |list: &[String], value: &str| list.iter().any(|entry| entry == "*" || entry == value);
        one_of(&self.operations, request.operation.as_str())
            && one_of(&self.groups, &matched.group)
            && one_of(&self.versions, &matched.version)
            && self.in_scope(request)
            && self.resources.iter().any(|entry| about_resource(entry, &matched.resource, request.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }

    fn in_scope(&self, request: &AdmissionRequest<'_>) -> bool {
        // Namespaces are in no namespace, whatever a request for one says.
        let namespaced = !request.namespace.is_empty() && !is_namespaces(request);
        match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        }
    }
}

fn about_resource(entry: &str, resource: &str, subresource: &str) -> bool {
    let (of, part) = entry.split_once('/').unwrap_or((entry, ""));
    (of == "*" || of == resource) && (part == "*" || part == subresource)
}

fn is_namespaces(request: &AdmissionRequest<'_>) -> bool {
    request.group.is_empty() && request.resource == "namespaces"
}

/// Whether webhooks and policies are never asked: they could lock everybody out of taking them away.
pub(crate) fn is_exempt(request: &AdmissionRequest<'_>) -> bool {
    const KINDS: [&str; 6] = [
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    ];
    request.group == OWN_GROUP && KINDS.contains(&request.resource)
}

/// Rules, selectors and match policy: upstream's MatchResources, and the same part of a webhook.
#[derive(Clone, Debug, Default)]
pub(crate) struct Criteria {
    pub rules: Vec<Rule>,
    pub excluded: Vec<Rule>,
    /// Whether no rules mean all requests (a policy binding's).
    pub all_without_rules: bool,
    pub exact: bool,
    pub namespaces: LabelSelector,
    pub objects: LabelSelector,
}

impl Criteria {
    /// Of a webhook or a MatchResources; `rules` is where its rules stand.
    pub fn read(value: &Value, rules: &str) -> Result<Self, String> {
        Ok(Self {
            rules: items(&value[rules]).iter().map(Rule::read).collect(),
            excluded: items(&value["excludeResourceRules"]).iter().map(Rule::read).collect(),
            all_without_rules: false,
            exact: value["matchPolicy"] == "Exact",
            namespaces: selector::read(&value["namespaceSelector"])?,
            objects: selector::read(&value["objectSelector"])?,
        })
    }

    /// What the request is matched as; `None` when it is not.
    pub async fn matches(&self, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Option<Matched>, Status> {
        if !self.objects_match(request) {
            return Ok(None);
        }
        let own = Matched::of(request);
        if self.any(&self.excluded, request, &own).is_some() {
            return Ok(None);
        }
        let matched = if self.rules.is_empty() && self.all_without_rules { Some(own) } else { self.any(&self.rules, request, &own) };
        // The namespace is looked up last, since it costs most.
        match matched {
            Some(matched) if self.namespace_matches(request, lookup).await? => Ok(Some(matched)),
            _ => Ok(None),
        }
    }

    fn any(&self, rules: &[Rule], request: &AdmissionRequest<'_>, own: &Matched) -> Option<Matched> {
        if rules.iter().any(|rule| rule.matches(request, own)) {
            return Some(own.clone());
        }
        if self.exact || rules.is_empty() || !request.subresource.is_empty() {
            return None;
        }
        let others = request.host.versions(request.cluster, request.group, request.resource);
        others.into_iter().filter(|other| other.version != own.version).find_map(|other| {
            let kind = (other.group.clone(), other.version.clone(), other.kind);
            let matched = Matched { group: other.group, version: other.version, resource: other.resource, kind };
            rules.iter().any(|rule| rule.matches(request, &matched)).then_some(matched)
        })
    }

    fn objects_match(&self, request: &AdmissionRequest<'_>) -> bool {
        let fits = |object: &Value| selector::matches_object(&self.objects, object);
        self.objects.is_everything() || fits(request.object()) || fits(request.old())
    }

    async fn namespace_matches(&self, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<bool, Status> {
        if self.namespaces.is_everything() {
            return Ok(true);
        }
        if is_namespaces(request) && request.subresource.is_empty() && matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(self.namespaces.matches(&selector::labels_of(&request.object()["metadata"]["labels"])));
        }
        let name = request.review_namespace();
        if name.is_empty() {
            return Ok(true);
        }
        let namespace = lookup.get(request.cluster, &GroupResource::new("", "namespaces"), "", name).await?;
        let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", name))?;
        Ok(self.namespaces.matches(&selector::labels_of(&namespace.to_value()["metadata"]["labels"])))
    }
}
