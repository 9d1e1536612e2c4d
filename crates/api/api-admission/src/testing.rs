//! For the tables in the plugins' tests: a world of objects to look up in, and requests built in a line.
use crate::request::About;
use crate::{AdmissionRequest, Host, Operation, Plugin, Served};
use api_auth::{Attributes, Decision, User};
use api_meta::{ClusterName, GroupResource, Object, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

/// Objects by resource ("pods", "deployments.apps").
#[derive(Default)]
pub struct World(Vec<(String, Arc<Object>)>);

impl World {
    pub fn of<'a>(objects: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let parse = |value: Value| Arc::new(Object::parse(serde_json::to_vec(&value).unwrap().into()).unwrap());
        Self(objects.into_iter().map(|(resource, value)| (resource.to_owned(), parse(value))).collect())
    }
}

#[async_trait]
impl Lookup for World {
    async fn get(&self, cluster: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        let all = self.list(cluster, resource, Some(namespace)).await?;
        Ok(all.into_iter().find(|object| *object.meta().name == *name))
    }
    async fn list(&self, _: &ClusterName, resource: &GroupResource, namespace: Option<&str>) -> Result<Vec<Arc<Object>>, Status> {
        let fits = |object: &Object| namespace.is_none_or(|namespace| *object.meta().namespace == *namespace);
        Ok(self.0.iter().filter(|(of, object)| *of == resource.to_string() && fits(object)).map(|(_, object)| object.clone()).collect())
    }
}

/// Allows these alone (`delete pods`, `update replicasets/finalizers`), and serves built-in kinds by their usual plural.
struct Allowing(Vec<String>);

impl Host for Allowing {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let part = if attributes.subresource.is_empty() { String::new() } else { format!("/{}", attributes.subresource) };
        let asked = format!("{} {}{part}", attributes.verb, attributes.resource);
        if self.0.contains(&asked) { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
    }
    fn serves(&self, _: &ClusterName, group: &str, version: &str, kind: &str) -> Option<Served> {
        let schema = api_schema::builtin::for_kind(group, version, kind)?;
        let resource = format!("{}s", kind.to_lowercase());
        Some(Served { group: group.into(), version: version.into(), kind: kind.into(), resource, namespaced: true, schema })
    }
    fn versions(&self, _: &ClusterName, _: &str, _: &str) -> Vec<Served> {
        Vec::new()
    }
    fn settle(&self, _: &ClusterName, _: &mut Value) -> Result<(), String> {
        Ok(())
    }
    fn convert(&self, _: &ClusterName, object: &Value, _: &str) -> Result<Value, String> {
        Ok(object.clone())
    }
}

pub struct Ask {
    resource: GroupResource,
    subresource: String,
    namespace: String,
    name: String,
    operation: Operation,
    object: Option<Value>,
    old: Option<Value>,
    user: User,
    allowed: Vec<String>,
}

/// What a plugin made of a request.
#[derive(Debug)]
pub struct Answer {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// A request for a resource, "pods" or "ingresses.networking.k8s.io", or a part, "pods/status".
pub fn ask(resource: &str) -> Ask {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    Ask {
        resource: GroupResource::new(group, resource),
        subresource: subresource.into(),
        namespace: String::new(),
        name: String::new(),
        operation: Operation::Connect,
        object: None,
        old: None,
        user: User::authenticated("someone", []),
        allowed: Vec::new(),
    }
}

impl Ask {
    pub fn named(mut self, namespace: &str, name: &str) -> Self {
        (self.namespace, self.name) = (namespace.into(), name.into());
        self
    }
    pub fn by(mut self, user: User) -> Self {
        self.user = user;
        self
    }
    /// For a part of the resource, when its group leaves no place for it in the name.
    pub fn part(mut self, subresource: &str) -> Self {
        self.subresource = subresource.into();
        self
    }
    pub fn allowed(mut self, allowed: &[&str]) -> Self {
        self.allowed = allowed.iter().map(|what| (*what).to_owned()).collect();
        self
    }
    pub fn creates(mut self, object: Value) -> Self {
        (self.operation, self.object) = (Operation::Create, Some(object));
        self
    }
    pub fn updates(mut self, old: Value, object: Value) -> Self {
        (self.operation, self.old, self.object) = (Operation::Update, Some(old), Some(object));
        self
    }
    pub fn deletes(mut self, old: Value) -> Self {
        (self.operation, self.old) = (Operation::Delete, Some(old));
        self
    }
    pub async fn mutated(self, plugin: &dyn Plugin, world: &World) -> Result<Answer, Status> {
        self.through(plugin, world, true).await
    }
    pub async fn validated(self, plugin: &dyn Plugin, world: &World) -> Result<Answer, Status> {
        self.through(plugin, world, false).await
    }

    async fn through(self, plugin: &dyn Plugin, world: &World, mutate: bool) -> Result<Answer, Status> {
        let (cluster, options) = (ClusterName::root(), json!({}));
        let host = Allowing(self.allowed);
        let about = About {
            cluster: &cluster,
            group: &self.resource.group,
            version: "v1",
            resource: &self.resource.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            user: &self.user,
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
            host: &host,
            kind: (&self.resource.group, "v1", ""),
        };
        let mut request = AdmissionRequest::new(about, self.operation, self.object, self.old.as_ref(), &options, false);
        if mutate {
            plugin.mutate(&mut request, world).await?;
        } else {
            plugin.validate(&mut request, world).await?;
        }
        Ok(Answer { object: request.object.unwrap_or_default(), warnings: request.warnings })
    }
}
