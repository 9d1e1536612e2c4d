//! Backend: one APIService that leads to a Service, and how its server is.
use api_meta::ClusterName;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::RwLock;
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub struct Backend {
    pub cluster: ClusterName,
    /// The APIService's.
    pub name: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// PEM; empty for the system's authorities.
    pub authority: String,
    /// Whether nobody need prove to be that Service.
    pub unverified: bool,
    pub group_priority: i64,
    pub version_priority: i64,
    state: RwLock<State>,
    /// When it is another or none.
    pub gone: CancellationToken,
}

/// What the last look at it found.
#[derive(Clone, Default)]
pub struct State {
    pub available: bool,
    /// Its own word on its resources: an APIResourceList.
    pub resources: Option<Arc<Value>>,
    /// Its own OpenAPI v3 document of the version, if it has one.
    pub document: Option<Arc<Value>>,
    /// Its own OpenAPI v2 document, if it has one.
    pub document_v2: Option<Arc<Value>>,
}

impl Backend {
    /// `None` for what this server answers itself.
    pub fn read(cluster: &ClusterName, object: &Value) -> Option<Self> {
        let (spec, service) = (&object["spec"], object["spec"]["service"].as_object()?);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let bundle = STANDARD.decode(text(spec.get("caBundle"))).unwrap_or_default();
        Some(Self {
            cluster: cluster.clone(),
            name: text(object["metadata"].get("name")),
            group: text(spec.get("group")),
            version: text(spec.get("version")),
            namespace: text(service.get("namespace")),
            service: text(service.get("name")),
            port: service.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            authority: String::from_utf8(bundle).unwrap_or_default(),
            unverified: spec["insecureSkipTLSVerify"].as_bool().unwrap_or_default(),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            state: RwLock::default(),
            gone: CancellationToken::new(),
        })
    }

    /// Whether both lead to the same place on the same terms.
    pub fn same_as(&self, other: &Self) -> bool {
        let said = |backend: &Self| {
            (
                (backend.group.clone(), backend.version.clone(), backend.namespace.clone(), backend.service.clone()),
                (backend.port, backend.authority.clone(), backend.unverified, backend.group_priority, backend.version_priority),
            )
        };
        said(self) == said(other)
    }

    /// The name its certificate must hold.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    pub fn state(&self) -> State {
        self.state.read().clone()
    }

    /// Whether this changes what discovery says.
    pub fn set_state(&self, state: State) -> bool {
        let mut known = self.state.write();
        let documents = known.document != state.document || known.document_v2 != state.document_v2;
        let changed = known.available != state.available || known.resources != state.resources || documents;
        *known = state;
        changed
    }
}
