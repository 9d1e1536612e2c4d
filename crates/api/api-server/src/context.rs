//! Context: one authorized request for a resource, as every handler sees it.
use crate::errors;
use crate::kinds::Kind;
use crate::query::Query;
use crate::request_record::RequestRecord;
use crate::route::ResourceRoute;
use api_admission::AdmissionRequest;
use api_auth::User;
use api_meta::{ClusterName, FieldError, FieldPath, FieldSelector, Status};
use api_resource::WriteContext;
use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use store::{Key, Scope};

/// Upstream's limit on the name of a field manager.
const MANAGER_LIMIT: usize = 128;

pub struct Context<'a> {
    pub cluster: &'a ClusterName,
    /// Whether a node of the host asks for what concerns it in all clusters.
    pub across: bool,
    pub user: &'a User,
    pub route: &'a ResourceRoute,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    pub now: Timestamp,
    pub warnings: Mutex<Vec<String>>,
    pub record: &'a RequestRecord,
}

impl Context<'_> {
    /// The namespace objects of this kind live in, in this request; "" for cluster-scoped kinds.
    pub fn namespace(&self, kind: &Kind) -> &str {
        if kind.namespaced() { &self.route.namespace } else { "" }
    }
    pub fn key(&self, kind: &Kind, name: &str) -> Key {
        Key::new(self.cluster, &kind.stored_as(), self.namespace(kind), name)
    }
    /// What a list or a watch covers: a namespace or all of the kind, or the one object it names.
    pub fn scope(&self, kind: &Kind) -> Scope {
        if self.across {
            return Scope::AllClusters(kind.stored_as());
        }
        let namespace = Some(self.namespace(kind)).filter(|n| !n.is_empty()).map(str::to_owned);
        if !self.route.name.is_empty() && (namespace.is_some() || !kind.namespaced()) {
            return Scope::Key(self.key(kind, &self.route.name));
        }
        Scope::Resource { cluster: self.cluster.clone(), resource: kind.stored_as(), namespace }
    }
    /// The field selector, refused if it asks for what this kind can't select on.
    pub fn fields(&self, kind: &Kind) -> Result<FieldSelector, Status> {
        let fields = self.query.fields()?;
        for requirement in fields.requirements() {
            let field = requirement.field.as_str();
            if matches!(field, "metadata.name" | "metadata.namespace") || kind.fields().iter().any(|f| f.path == field) {
                continue;
            }
            return Err(Status::bad_request(match kind.fields() {
                [] => format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
                _ => format!("field label not supported: {field}"),
            }));
        }
        Ok(fields)
    }
    /// Passes on what admission has to tell, whatever it decided: warnings to the client, notes to the audit log.
    pub fn told(&self, request: &mut AdmissionRequest<'_>) {
        std::mem::take(&mut request.warnings).into_iter().for_each(|warning| self.warn(warning));
        std::mem::take(&mut request.annotations).into_iter().for_each(|(key, value)| self.record.annotate(key, value));
    }
    pub fn warn(&self, warning: impl Into<String>) {
        self.warnings.lock().push(warning.into());
    }
    /// The kind of the options that come with this request, as refusals name it.
    pub fn options_kind(&self) -> &'static str {
        match self.route.verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            "delete" | "deletecollection" => "DeleteOptions",
            _ => "ListOptions",
        }
    }
    /// `dryRun=All`, the only dry run there is.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let mut dry = false;
        for value in self.query.all("dryRun").filter(|v| !v.is_empty()) {
            if value != "All" {
                return Err(errors::options(self.options_kind(), FieldError::not_supported(&FieldPath::new("dryRun"), value, &["All"])));
            }
            dry = true;
        }
        Ok(dry)
    }
    /// The field manager: the parameter, else the user agent up to its first slash.
    pub fn manager(&self) -> Result<String, Status> {
        let Some(manager) = self.query.value("fieldManager") else {
            let agent = self.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("unknown");
            let prefix: String = agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(MANAGER_LIMIT).collect();
            return Ok(if prefix.is_empty() { "unknown".into() } else { prefix });
        };
        let path = FieldPath::new("fieldManager");
        if manager.len() > MANAGER_LIMIT {
            return Err(errors::options(self.options_kind(), FieldError::too_long(&path, MANAGER_LIMIT)));
        }
        if let Some((at, character)) = manager.char_indices().find(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at {at})", u32::from(character));
            return Err(errors::options(self.options_kind(), FieldError::invalid(&path, manager, why)));
        }
        Ok(manager.to_owned())
    }
    pub fn write_context(&self) -> WriteContext<'_> {
        WriteContext { now: self.now, username: &self.user.username, user_uid: &self.user.uid, groups: &self.user.groups }
    }
}
