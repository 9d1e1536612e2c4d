//! The operations on a resource, whatever form their document has.
use super::definitions::{DELETE_OPTIONS, PATCH, STATUS};
use super::{Served, ServedSubresource, parameters};

/// A path and what can be done there.
pub(super) struct Path {
    pub path: String,
    /// Its placeholders.
    pub places: Vec<&'static str>,
    pub operations: Vec<Operation>,
}

pub(super) struct Operation {
    pub method: &'static str,
    /// `x-kubernetes-action`.
    pub action: &'static str,
    pub id: String,
    pub description: String,
    pub kind: (String, String, String),
    pub query: &'static [&'static str],
    /// The definition it takes.
    pub body: Option<String>,
    /// The definition it gives; `None`: text.
    pub gives: Option<String>,
    /// Codes it answers with, besides 401.
    pub codes: &'static [u16],
    /// Whether strategic merge patches are known.
    pub strategic: bool,
}

/// `apps_v1`, `rbacAuthorization_v1`: the tag of a group and version.
pub(super) fn tag(served: &Served) -> String {
    let name = group_name(served);
    let mut letters = name.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    format!("{}{}_{}", first.map(String::from).unwrap_or_default(), letters.as_str(), served.version)
}

/// `RbacAuthorization` of `rbac.authorization.k8s.io`.
fn group_name(served: &Served) -> String {
    let group = match served.group.as_str() {
        "" => "core",
        group if served.document.is_none() => group.trim_end_matches(".k8s.io"),
        group => group,
    };
    group.split('.').map(title).collect()
}

fn title(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).filter(|c| *c != '-').collect()
}

/// Every path of a resource.
pub(super) fn paths(served: &Served) -> Vec<Path> {
    let scope = if served.namespaced { "Namespaced" } else { "" };
    let base = if served.namespaced {
        format!("/{}/namespaces/{{namespace}}/{}", served.root(), served.plural)
    } else {
        format!("/{}/{}", served.root(), served.plural)
    };
    let place = if served.namespaced { vec!["namespace"] } else { Vec::new() };
    let named: Vec<&str> = ["name"].into_iter().chain(place.iter().copied()).collect();
    let maker = Maker { served, scope };

    let mut paths = Vec::new();
    let mut add = |path: String, places: Vec<&'static str>, operations: Vec<Operation>| {
        if !operations.is_empty() {
            paths.push(Path { path, places, operations });
        }
    };
    if served.namespaced && served.has("list") {
        add(format!("/{}/{}", served.root(), served.plural), Vec::new(), vec![maker.list("ForAllNamespaces", "")]);
    }
    let collection = [
        served.has("list").then(|| maker.list("", scope)),
        served.has("create").then(|| maker.create()),
        served.has("deletecollection").then(|| maker.delete_collection()),
    ];
    add(base.clone(), place, collection.into_iter().flatten().collect());
    let object = [
        served.has("get").then(|| maker.read("")),
        served.has("update").then(|| maker.replace("")),
        served.has("delete").then(|| maker.delete()),
        served.has("patch").then(|| maker.patch("")),
    ];
    add(format!("{base}/{{name}}"), named.clone(), object.into_iter().flatten().collect());
    for subresource in &served.subresources {
        let operations = maker.subresource(subresource);
        add(format!("{base}/{{name}}/{}", subresource.name), named.clone(), operations);
    }
    paths
}

struct Maker<'a> {
    served: &'a Served,
    scope: &'static str,
}

impl Maker<'_> {
    /// `createAppsV1NamespacedDeployment`: verb, group, version, what stands between, kind, what follows.
    fn operation(&self, method: &'static str, action: &'static str, verb: &str, between: &str, after: &str, description: String) -> Operation {
        let served = self.served;
        Operation {
            method,
            action,
            id: format!("{verb}{}{}{between}{}{after}", group_name(served), title(&served.version), served.kind),
            description,
            kind: (served.group.clone(), served.version.clone(), served.kind.clone()),
            query: &[],
            body: None,
            gives: Some(served.definition()),
            codes: &[200],
            strategic: served.document.is_none(),
        }
    }
    fn of_kind(&self, what: &str) -> String {
        format!("{what} {}", self.served.kind)
    }

    fn list(&self, after: &str, between: &str) -> Operation {
        let operation = self.operation("get", "list", "list", between, after, self.of_kind("list or watch objects of kind"));
        Operation { query: parameters::LIST, gives: Some(format!("{}List", self.served.definition())), ..operation }
    }
    fn create(&self) -> Operation {
        let article = if self.served.kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
        let operation = self.operation("post", "post", "create", self.scope, "", format!("create {article} {}", self.served.kind));
        Operation { query: parameters::WRITE, body: Some(self.served.definition()), codes: &[200, 201, 202], ..operation }
    }
    fn delete_collection(&self) -> Operation {
        let between = format!("Collection{}", self.scope);
        let operation = self.operation("delete", "deletecollection", "delete", &between, "", self.of_kind("delete collection of"));
        Operation { query: parameters::DELETE_COLLECTION, body: Some(DELETE_OPTIONS.into()), gives: Some(STATUS.into()), ..operation }
    }
    fn read(&self, after: &str) -> Operation {
        self.operation("get", "get", "read", self.scope, after, self.of_kind(&what("read", after, "the specified")))
    }
    fn replace(&self, after: &str) -> Operation {
        let operation = self.operation("put", "put", "replace", self.scope, after, self.of_kind(&what("replace", after, "the specified")));
        Operation { query: parameters::WRITE, body: Some(self.served.definition()), codes: &[200, 201], ..operation }
    }
    fn patch(&self, after: &str) -> Operation {
        let operation = self.operation("patch", "patch", "patch", self.scope, after, self.of_kind(&what("partially update", after, "the specified")));
        Operation { query: parameters::PATCH, body: Some(PATCH.into()), codes: &[200, 201], ..operation }
    }
    fn delete(&self) -> Operation {
        let operation = self.operation("delete", "delete", "delete", self.scope, "", self.of_kind("delete a"));
        Operation { query: parameters::DELETE, body: Some(DELETE_OPTIONS.into()), gives: Some(STATUS.into()), codes: &[200, 202], ..operation }
    }

    fn subresource(&self, subresource: &ServedSubresource) -> Vec<Operation> {
        let after = title(&subresource.name);
        let (group, version, kind) = &subresource.speaks;
        let spoken = crate::builtin::for_kind(group, version, kind).and_then(|s| s.definition.as_deref().map(str::to_owned));
        let operations = subresource.verbs.iter().filter_map(|verb| match (subresource.name.as_str(), verb.as_str()) {
            ("exec", "get") => Some(self.connect("get", &after, parameters::EXEC)),
            ("exec", "create") => Some(self.connect("post", &after, parameters::EXEC)),
            ("attach", "get") => Some(self.connect("get", &after, parameters::ATTACH)),
            ("attach", "create") => Some(self.connect("post", &after, parameters::ATTACH)),
            ("portforward", "get") => Some(self.connect("get", &after, parameters::PORT_FORWARD)),
            ("portforward", "create") => Some(self.connect("post", &after, parameters::PORT_FORWARD)),
            ("proxy", "get") => Some(self.connect("get", &after, parameters::PROXY)),
            ("proxy", "create") => Some(self.connect("post", &after, parameters::PROXY)),
            ("proxy", "update") => Some(self.connect("put", &after, parameters::PROXY)),
            ("proxy", "patch") => Some(self.connect("patch", &after, parameters::PROXY)),
            ("proxy", "delete") => Some(self.connect("delete", &after, parameters::PROXY)),
            ("log", "get") => Some(Operation { query: parameters::LOG, gives: None, ..self.read(&after) }),
            (_, "get") => Some(self.read(&after)),
            (_, "update") => Some(self.replace(&after)),
            (_, "patch") => Some(self.patch(&after)),
            (_, "create") => Some(Operation {
                id: format!("create{}{}{}{}{after}", group_name(self.served), title(&self.served.version), self.scope, self.served.kind),
                description: self.of_kind(&what("create", &after, "a")),
                ..self.create()
            }),
            _ => None,
        });
        let mut operations: Vec<Operation> = operations.collect();
        for operation in &mut operations {
            // A connection speaks its options' kind. Were it the resource's own, clients that look for
            // the patch of that kind would take a proxied PATCH for it.
            if operation.action == "connect" && !kind.is_empty() {
                operation.kind = subresource.speaks.clone();
                continue;
            }
            let Some(spoken) = spoken.as_ref().filter(|_| operation.gives.is_some()) else { continue };
            operation.kind = subresource.speaks.clone();
            operation.gives = Some(spoken.clone());
            if operation.action != "patch" && operation.body.is_some() {
                operation.body = Some(spoken.clone());
            }
        }
        operations
    }

    fn connect(&self, method: &'static str, after: &str, query: &'static [&'static str]) -> Operation {
        let verb = format!("connect{}", title(method));
        let description = format!("connect {} requests to {} of {}", method.to_uppercase(), after.to_lowercase(), self.served.kind);
        Operation { query, gives: None, ..self.operation(method, "connect", &verb, self.scope, after, description) }
    }
}

/// `read status of the specified`; without a subresource `read the specified`.
fn what(verb: &str, after: &str, whole: &str) -> String {
    if after.is_empty() { format!("{verb} {whole}") } else { format!("{verb} {} of {whole}", after.to_lowercase()) }
}
