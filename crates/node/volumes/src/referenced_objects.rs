//! ReferencedObjects: current copies of just those ConfigMaps, Secrets and claims that pods of this node refer to.
//!
//! Each is followed by one watch of its own while somebody holds it, as the kubelet does: a node may read no
//! others, and need not keep others in memory. An immutable one is read once.
use api_client::Clients;
use api_meta::ClusterName;
use futures::StreamExt;
use futures::TryStreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("failed to sync {kind} cache: {reason}")]
    Unavailable { kind: &'static str, reason: String },
}

/// Which object, of which cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectReference {
    pub cluster: ClusterName,
    /// `configmap`, `secret` or `persistentvolumeclaim`, as upstream's messages have it.
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

/// The objects followed now.
pub struct ReferencedObjects {
    clients: Arc<dyn Clients>,
    config_maps: Followed<ConfigMap>,
    secrets: Followed<Secret>,
    claims: Followed<PersistentVolumeClaim>,
    changes: mpsc::UnboundedSender<ObjectReference>,
}

/// Keeps one object followed while it lives.
pub struct Following<K> {
    pub reference: ObjectReference,
    state: watch::Receiver<State<K>>,
    task: tokio::task::AbortHandle,
}

/// An object of a kind that pods refer to.
pub trait Referable: k8s_openapi::Metadata<Ty = kube::api::ObjectMeta> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
where
    Self: k8s_openapi::Resource<Scope = NamespaceResourceScope>,
{
    const NAME: &'static str;
    fn is_immutable(&self) -> bool;
    #[doc(hidden)]
    fn followed(objects: &ReferencedObjects) -> &Followed<Self>;
}

impl Referable for ConfigMap {
    const NAME: &'static str = "configmap";
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
    fn followed(objects: &ReferencedObjects) -> &Followed<Self> {
        &objects.config_maps
    }
}

impl Referable for Secret {
    const NAME: &'static str = "secret";
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
    fn followed(objects: &ReferencedObjects) -> &Followed<Self> {
        &objects.secrets
    }
}

impl Referable for PersistentVolumeClaim {
    const NAME: &'static str = "persistentvolumeclaim";
    fn is_immutable(&self) -> bool {
        false
    }
    fn followed(objects: &ReferencedObjects) -> &Followed<Self> {
        &objects.claims
    }
}

type Followed<K> = Mutex<HashMap<ObjectReference, Weak<Following<K>>>>;

#[derive(Clone)]
enum State<K> {
    Unknown,
    /// Not read once yet, and the last try failed.
    Failed(String),
    Missing,
    Present(Arc<K>),
}

/// How long a reader waits for the first copy.
const FIRST_READ: Duration = Duration::from_secs(60);
const WATCH_SECONDS: u32 = 290;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl ReferencedObjects {
    /// `changes` is told of every object that appears, changes or goes while followed.
    pub(crate) fn new(clients: Arc<dyn Clients>, changes: mpsc::UnboundedSender<ObjectReference>) -> Self {
        Self { clients, config_maps: Mutex::default(), secrets: Mutex::default(), claims: Mutex::default(), changes }
    }

    /// A ConfigMap as it is now.
    pub async fn config_map(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ReadError> {
        self.read(cluster, namespace, name).await
    }

    /// A Secret as it is now.
    pub async fn secret(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Result<Arc<Secret>, ReadError> {
        self.read(cluster, namespace, name).await
    }

    /// Follows an object until the last holder lets go.
    pub(crate) fn follow<K: Referable>(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Arc<Following<K>> {
        let reference = ObjectReference { cluster: cluster.clone(), kind: K::NAME, namespace: namespace.into(), name: name.into() };
        let mut followed = K::followed(self).lock();
        if let Some(following) = followed.get(&reference).and_then(Weak::upgrade) {
            return following;
        }
        followed.retain(|_, following| following.strong_count() > 0);
        let (sender, state) = watch::channel(State::Unknown);
        let api = Api::namespaced(self.clients.cluster(cluster), namespace);
        let task = tokio::spawn(keep_following::<K>(api, reference.clone(), sender, self.changes.clone())).abort_handle();
        let following = Arc::new(Following { reference: reference.clone(), state, task });
        followed.insert(reference, Arc::downgrade(&following));
        following
    }

    /// The followed copy, or a read of the API when nobody follows it.
    async fn read<K: Referable>(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Result<Arc<K>, ReadError> {
        let reference = ObjectReference { cluster: cluster.clone(), kind: K::NAME, namespace: namespace.into(), name: name.into() };
        let following = K::followed(self).lock().get(&reference).and_then(Weak::upgrade);
        if let Some(following) = following {
            return following.current().await;
        }
        match Api::<K>::namespaced(self.clients.cluster(cluster), namespace).get_opt(name).await {
            Ok(Some(object)) => Ok(Arc::new(object)),
            Ok(None) => Err(ReadError::NotFound { kind: K::NAME, name: name.into() }),
            Err(error) => Err(ReadError::Unavailable { kind: K::NAME, reason: api_message(&error) }),
        }
    }
}

impl<K: Referable> Following<K> {
    /// The copy as it is now; waits for the first one.
    pub async fn current(&self) -> Result<Arc<K>, ReadError> {
        let mut state = self.state.clone();
        let unavailable = |reason: &str| ReadError::Unavailable { kind: K::NAME, reason: reason.into() };
        let known = match tokio::time::timeout(FIRST_READ, state.wait_for(|state| !matches!(state, State::Unknown))).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) => return Err(unavailable("the agent is stopping")),
            Err(_) => return Err(unavailable("timed out waiting for the condition")),
        };
        match known {
            State::Present(object) => Ok(object),
            State::Missing => Err(ReadError::NotFound { kind: K::NAME, name: self.reference.name.clone() }),
            State::Failed(reason) => Err(unavailable(&reason)),
            State::Unknown => Err(unavailable("not read yet")),
        }
    }
}

impl<K> Drop for Following<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the API said, without the client's wrapping.
pub fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

async fn keep_following<K: Referable>(
    api: Api<K>,
    reference: ObjectReference,
    state: watch::Sender<State<K>>,
    changes: mpsc::UnboundedSender<ObjectReference>,
) {
    let show = |new: State<K>| {
        let changed = state.send_if_modified(|old| {
            let version = |state: &State<K>| if let State::Present(object) = state { object.metadata().resource_version.clone() } else { None };
            let same = matches!((&*old, &new), (State::Missing, State::Missing)) || (version(old).is_some() && version(old) == version(&new));
            *old = new;
            !same
        });
        if changed {
            // An error only says that the manager is gone, and this task is about to be.
            let _ = changes.send(reference.clone());
        }
    };
    let mut pause = Duration::from_millis(500);
    loop {
        match list_and_watch(&api, &reference.name, &show).await {
            Ok(Ended::Immutable) => {
                // The sender must live on, for readers to see the state.
                state.closed().await;
                return;
            }
            Ok(Ended::TooOld) => pause = Duration::from_millis(500),
            Err(error) => {
                let message = api_message(&error);
                state.send_if_modified(|state| {
                    let unread = matches!(state, State::Unknown | State::Failed(_));
                    if unread {
                        *state = State::Failed(message.clone());
                    }
                    unread
                });
                tracing::debug!(?reference, error = message, "a referenced object can't be followed; trying again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum Ended {
    /// It will never change: no watch is needed.
    Immutable,
    /// The watch's place in history is gone: list again.
    TooOld,
}

async fn list_and_watch<K: Referable>(api: &Api<K>, name: &str, show: &impl Fn(State<K>)) -> Result<Ended, kube::Error> {
    let selector = format!("metadata.name={name}");
    let list = api.list(&ListParams::default().fields(&selector)).await?;
    let mut version = list.metadata.resource_version.unwrap_or_default();
    let first = list.items.into_iter().next();
    let immutable = first.as_ref().is_some_and(K::is_immutable);
    show(first.map_or(State::Missing, |object| State::Present(Arc::new(object))));
    if immutable {
        return Ok(Ended::Immutable);
    }
    loop {
        let mut events = api.watch(&WatchParams::default().fields(&selector).timeout(WATCH_SECONDS), &version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version = object.metadata().resource_version.clone().unwrap_or(version);
                    let immutable = object.is_immutable();
                    show(State::Present(Arc::new(object)));
                    if immutable {
                        return Ok(Ended::Immutable);
                    }
                }
                WatchEvent::Deleted(object) => {
                    version = object.metadata().resource_version.clone().unwrap_or(version);
                    show(State::Missing);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(Ended::TooOld),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
    }
}
