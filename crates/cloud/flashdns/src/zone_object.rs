//! Zones in the API: one ConfigMap of the host cluster, which the server writes and every node's DNS follows.
use crate::engine::Engine;
use crate::hosted::HostedZones;
use crate::zone_keeper::{KeepError, Version, ZoneKeeper};
use crate::zones::Zones;
use api_cache::{Cache, Listening, Selection, Source};
use api_client::{has_code, kube};
use api_meta::ClusterName;
use http::{Method, Request, header};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Nodes may read it by this name: `api-auth`'s role `k8shost:node` has it.
pub const ZONES: &str = "flashdns-zones";
const NAMESPACE: &str = "kube-system";
const KEY: &str = "zones.json";
/// How long DNS waits for them before it answers without.
const ZONES_SOON: Duration = Duration::from_secs(10);

/// Keeps zones in the API.
pub struct ZoneObject {
    client: kube::Client,
}

impl ZoneObject {
    /// `client` is one of the host cluster, and may write there.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    async fn request<T: serde::de::DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> Result<T, kube::Error> {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let body = body.map(ToString::to_string).unwrap_or_default();
        self.client.request(request.body(body.into_bytes()).map_err(kube::Error::HttpError)?).await
    }
}

fn all() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

fn zones_of(object: &ConfigMap) -> Result<Zones, KeepError> {
    let text = object.data.as_ref().and_then(|data| data.get(KEY)).map_or("{}", String::as_str);
    serde_json::from_str(text).map_err(|error| KeepError::Unreadable(error.to_string()))
}

#[tonic::async_trait]
impl ZoneKeeper for ZoneObject {
    async fn read(&self) -> Result<(Zones, Version), KeepError> {
        match self.request::<ConfigMap>(Method::GET, &format!("{}/{ZONES}", all()), None).await {
            Ok(object) => Ok((zones_of(&object)?, Version(object.metadata.resource_version))),
            Err(error) if has_code(&error, 404) => Ok((Zones::default(), Version(None))),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, zones: &Zones, version: &Version) -> Result<bool, KeepError> {
        let text = serde_json::to_string(zones).map_err(|error| KeepError::Unreadable(error.to_string()))?;
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ZONES, "namespace": NAMESPACE}, "data": {KEY: text}});
        let written = match &version.0 {
            Some(version) => {
                object["metadata"]["resourceVersion"] = version.as_str().into();
                self.request::<Value>(Method::PUT, &format!("{}/{ZONES}?fieldManager=flashdns", all()), Some(&object)).await
            }
            None => self.request::<Value>(Method::POST, &format!("{}?fieldManager=flashdns", all()), Some(&object)).await,
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody made, changed or deleted it meanwhile.
            Err(error) if has_code(&error, 409) || has_code(&error, 404) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Keeps an engine's zones as the API has them, for as long as it is kept.
pub(crate) struct ZoneFollower {
    _cache: Arc<Cache<ConfigMap>>,
    _listening: Listening,
}

impl ZoneFollower {
    /// Returns when the engine has what there is, or that can't be told soon.
    pub async fn start(engine: Arc<Engine>, source: &dyn Source) -> Self {
        let fields = Some(format!("metadata.name={ZONES}"));
        let cache = Cache::start(source, Selection { cluster: Some(ClusterName::root()), fields, ..Selection::of::<ConfigMap>("configmaps") }, &[]);
        let listening = cache.listen(move |change| {
            // Others may give their objects that name, but not there.
            if &*change.key.namespace != NAMESPACE {
                return;
            }
            match change.new.as_deref().map_or_else(|| Ok(Zones::default()), zones_of) {
                Ok(zones) => engine.host(HostedZones::new(zones)),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the zones in the API are not served; those before stay"),
            }
        });
        // A server of another version may not let nodes read them: the cluster's own names don't wait for that.
        if tokio::time::timeout(ZONES_SOON, cache.synced()).await.is_err() {
            tracing::warn!("the zones made by the API are not known yet; their names are asked upstream until they are");
        }
        Self { _cache: cache, _listening: listening }
    }
}
