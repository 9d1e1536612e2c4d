//! Conversion between what is stored and what is served, at the edges: readers get their version, the store its own.
//!
//! What is stored as it is served goes through untouched; whether it is so shows in its first bytes.
use crate::conversion_review as review;
use crate::kinds::Kind;
use crate::lookup::StoreLookup;
use crate::stored::stored;
use crate::tenants::Tenants;
use api_admission::{ClientConfig, WebhookClient};
use api_meta::{ClusterName, Status, object};
use api_resource::{AnyResource, Versions};
use api_schema::SchemaRef;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::{Event, Record};

/// Upstream's, for conversion webhooks.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Converter {
    webhooks: WebhookClient,
    lookup: StoreLookup,
    tenants: Arc<Tenants>,
}

/// What an object of a kind begins with in the store.
fn opening(kind: &dyn AnyResource) -> String {
    let names = kind.names();
    format!("{{\"kind\":{},\"apiVersion\":{},", json!(names.kind), json!(names.api_version()))
}

fn failed(why: String) -> Status {
    tracing::warn!(why, "a conversion failed");
    Status::new(500, "", why)
}

impl Converter {
    pub fn new(lookup: StoreLookup, tenants: Arc<Tenants>) -> Self {
        Self { webhooks: WebhookClient::default(), lookup, tenants }
    }

    /// Records as this kind serves them.
    pub async fn records(&self, cluster: &ClusterName, kind: &Kind, mut records: Vec<Arc<Record>>) -> Result<Vec<Arc<Record>>, Status> {
        let Some(versions) = kind.versions() else { return Ok(records) };
        let opening = opening(&**kind);
        // (place, object) of those that are stored in another version.
        let mut foreign = Vec::new();
        for (index, record) in records.iter_mut().enumerate() {
            if !record.value.starts_with(opening.as_bytes()) {
                foreign.push((index, stored(record).object.to_value()));
            } else if record.mod_revision < versions.settled_since() {
                *record = settled(record, versions);
            }
        }
        if foreign.is_empty() {
            return Ok(records);
        }
        let list = foreign.len() > 1;
        let (places, objects): (Vec<usize>, Vec<Value>) = foreign.into_iter().unzip();
        for (index, object) in places.into_iter().zip(self.objects(cluster, versions, objects, &kind.names().api_version(), list).await?) {
            let old = &records[index];
            records[index] = Record::new(old.key.clone(), old.create_revision, old.mod_revision, encoded(&object, old.mod_revision));
        }
        Ok(records)
    }

    pub async fn record(&self, cluster: &ClusterName, kind: &Kind, record: Arc<Record>) -> Result<Arc<Record>, Status> {
        if kind.versions().is_none() {
            return Ok(record);
        }
        Ok(self.records(cluster, kind, vec![record]).await?.remove(0))
    }

    /// An event as this kind's watchers see it.
    pub async fn event(&self, cluster: &ClusterName, kind: &Kind, event: Arc<Event>) -> Result<Arc<Event>, Status> {
        if kind.versions().is_none() {
            return Ok(event);
        }
        let record = self.record(cluster, kind, event.record.clone()).await?;
        let previous = match &event.previous {
            Some(previous) => Some(self.record(cluster, kind, previous.clone()).await?),
            None => None,
        };
        let same = Arc::ptr_eq(&record, &event.record)
            && match (&previous, &event.previous) {
                (Some(new), Some(old)) => Arc::ptr_eq(new, old),
                _ => true,
            };
        // What is the same for all its watchers is encoded once for all.
        Ok(if same { event } else { Event::new(event.revision, record, previous, event.deleted) })
    }

    /// What is to be stored of an object of this kind.
    pub async fn to_store(&self, cluster: &ClusterName, kind: &Kind, object: &Value) -> Result<Bytes, Status> {
        let fields = |object: &Value| object::encode(object.as_object().expect("a decoded object"));
        match kind.versions() {
            Some(versions) if versions.storage() != object["apiVersion"] => {
                let converted = self.objects(cluster, versions, vec![object.clone()], versions.storage(), false).await?.remove(0);
                Ok(fields(&converted))
            }
            _ => Ok(fields(object)),
        }
    }

    async fn objects(&self, cluster: &ClusterName, versions: &dyn Versions, mut objects: Vec<Value>, to: &str, list: bool) -> Result<Vec<Value>, Status> {
        objects.iter_mut().for_each(|object| versions.settle(object));
        if versions.webhook().is_some() {
            objects = self.by_webhook(cluster, versions, objects, to, list).await?;
        }
        objects.into_iter().map(|object| versions.convert(object, to).map_err(failed)).collect()
    }

    async fn by_webhook(&self, cluster: &ClusterName, versions: &dyn Versions, objects: Vec<Value>, to: &str, list: bool) -> Result<Vec<Value>, Status> {
        let Some(webhook) = versions.webhook() else { return Ok(objects) };
        let what = objects.first().map(review::kind_of).unwrap_or_default() + if list { "List" } else { "" };
        let uid = uuid::Uuid::new_v4().to_string();
        let asked = review::request(&webhook.review_versions, &uid, to, &objects).ok_or_else(|| {
            failed(format!("conversion webhook for {what} failed: no supported conversion review version among {:?}", webhook.review_versions))
        })?;
        let body = serde_json::to_vec(&asked).expect("a value encodes");
        let answer = self
            .webhooks
            .ask(&ClientConfig::read(&webhook.client_config), (cluster, self.tenants.way(cluster)), &self.lookup, body, WEBHOOK_TIMEOUT)
            .await
            .map_err(|error| error.to_string());
        let converted =
            answer.and_then(|answer| review::answered(&asked, answer)).map_err(|why| failed(format!("conversion webhook for {what} failed: {why}")))?;
        review::settled(&what, list, to, &objects, converted).map_err(failed)
    }

    /// The same for one object, for those who can't wait: the thread does.
    pub fn one_blocking(&self, cluster: &ClusterName, versions: &dyn Versions, object: Value, to: &str) -> Result<Value, Status> {
        if versions.webhook().is_none() {
            return versions.convert(object, to).map_err(failed);
        }
        let work = self.objects(cluster, versions, vec![object], to, false);
        Ok(tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))?.remove(0))
    }
}

fn encoded(object: &Value, revision: u64) -> Bytes {
    object::stamp(&object::encode(object.as_object().expect("a stored object")), revision)
}

/// A record of the kind's own version in the form its schema asks for now; itself, if it has it.
fn settled(record: &Arc<Record>, versions: &dyn Versions) -> Arc<Record> {
    let by = versions.settled_by();
    let mut known = stored(record).settled.lock();
    if let Some((_, settled)) = known.as_ref().filter(|(known, _)| *known == by) {
        return settled.clone().unwrap_or_else(|| record.clone());
    }
    let old = stored(record).object.to_value();
    let mut new = old.clone();
    versions.settle(&mut new);
    let settled = (new != old).then(|| Record::new(record.key.clone(), record.create_revision, record.mod_revision, encoded(&new, record.mod_revision)));
    *known = Some((by, settled.clone()));
    settled.unwrap_or_else(|| record.clone())
}

/// The other versions of a kind, for those who look after the managers of its objects' fields.
pub struct Others<'a> {
    pub converter: &'a Converter,
    pub cluster: &'a ClusterName,
    pub versions: &'a dyn Versions,
}

impl api_patch::OtherVersions for Others<'_> {
    fn schema(&self, api_version: &str) -> Option<SchemaRef> {
        self.versions.schema_of(api_version)
    }
    fn view(&self, object: &Value, api_version: &str) -> Option<Value> {
        if object["apiVersion"] == api_version {
            return Some(object.clone());
        }
        self.converter.one_blocking(self.cluster, self.versions, object.clone(), api_version).ok()
    }
}
