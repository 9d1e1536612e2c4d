//! Context: one authorized request for a resource, as every handler sees it.
use crate::kinds::Kind;
use crate::query::Query;
use crate::route::ResourceRoute;
use api_auth::User;
use api_meta::{ClusterName, FieldSelector, Status};
use api_resource::WriteContext;
use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use store::{Key, Scope};

pub struct Context<'a> {
    pub cluster: &'a ClusterName,
    pub user: &'a User,
    pub route: &'a ResourceRoute,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    pub now: Timestamp,
    pub warnings: Mutex<Vec<String>>,
}

impl Context<'_> {
    /// The namespace objects of this kind live in, in this request; "" for cluster-scoped kinds.
    pub fn namespace(&self, kind: &Kind) -> &str {
        if kind.namespaced() { &self.route.namespace } else { "" }
    }
    pub fn key(&self, kind: &Kind, name: &str) -> Key {
        Key::new(self.cluster, &kind.names().resource(), self.namespace(kind), name)
    }
    pub fn scope(&self, kind: &Kind) -> Scope {
        let namespace = Some(self.namespace(kind)).filter(|n| !n.is_empty()).map(str::to_owned);
        Scope::Resource { cluster: self.cluster.clone(), resource: kind.names().resource(), namespace }
    }
    /// The field selector, refused if it asks for what this kind can't select on.
    pub fn fields(&self, kind: &Kind) -> Result<FieldSelector, Status> {
        let fields = self.query.fields()?;
        for requirement in fields.requirements() {
            let field = requirement.field.as_str();
            let known = field == "metadata.name" || (field == "metadata.namespace" && kind.namespaced()) || kind.fields().iter().any(|f| f.path == field);
            if !known {
                return Err(Status::bad_request(format!(
                    "Unable to find {:?} that match label selector \"\", field selector {:?}: field label not supported: {field}",
                    kind.names().kind().to_string(),
                    self.query.get("fieldSelector").unwrap_or_default()
                )));
            }
        }
        Ok(fields)
    }
    pub fn warn(&self, warning: impl Into<String>) {
        self.warnings.lock().push(warning.into());
    }
    /// `dryRun=All`, the only dry run there is.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let mut dry = false;
        for value in self.query.all("dryRun").filter(|v| !v.is_empty()) {
            if value != "All" {
                return Err(Status::new(422, "Invalid", format!(" \"\" is invalid: dryRun: Unsupported value: {value:?}: supported values: \"All\"")));
            }
            dry = true;
        }
        Ok(dry)
    }
    /// The field manager: the parameter, else the user agent up to its first slash.
    pub fn manager(&self) -> String {
        if let Some(manager) = self.query.get("fieldManager") {
            return manager.to_owned();
        }
        let agent = self.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("unknown");
        let prefix: String = agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(128).collect();
        if prefix.is_empty() { "unknown".into() } else { prefix }
    }
    pub fn write_context(&self) -> WriteContext<'_> {
        WriteContext { now: self.now, username: &self.user.username, user_uid: &self.user.uid, groups: &self.user.groups }
    }
}
