//! VolumeManager: mounts pods' volumes, keeps their contents current, and takes them down.
use crate::csi::{self, CsiVolumes, OtherPlugins, VolumeUse};
use crate::error::VolumeError;
use crate::mount_table::unmount_below;
use crate::pod_volumes::{PodVolumes, References};
use crate::referenced_objects::{ObjectReference, ReferencedObjects};
use crate::sub_path;
use api_client::Clients;
use api_meta::ClusterName;
use clock::Clock;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc};

/// Where a volume lies on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedVolume {
    /// What a container's mount is bound to; a device when `block`.
    pub host_path: PathBuf,
    /// Whether every mount of it must be read-only, whatever the container asks.
    pub read_only: bool,
    /// A raw device for `volumeDevices`.
    pub block: bool,
}

/// What volumes need to know of this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// The node's `status.allocatable`.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// Volumes of all pods of this node, of all clusters.
pub struct VolumeManager {
    pub(crate) root: PathBuf,
    pub(crate) clients: Arc<dyn Clients>,
    pub(crate) clock: Arc<dyn Clock>,
    objects: ReferencedObjects,
    pods: Mutex<HashMap<PodKey, Arc<PodEntry>>>,
    /// When some content of a pod is due to be renewed.
    deadlines: Mutex<HashMap<PodKey, Timestamp>>,
    deadline_moved: Arc<Notify>,
    changed: broadcast::Sender<PodKey>,
    pub(crate) csi: Arc<CsiVolumes>,
}

#[derive(Default)]
struct PodEntry {
    /// Beside the volumes' own lock, as a pod may be waiting long for a first read.
    references: References,
    volumes: tokio::sync::Mutex<Option<PodVolumes>>,
}

/// A pod by its cluster and uid.
pub type PodKey = (ClusterName, String);

/// How long to wait before contents that could not be renewed are tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The longest sleep, so that a step of the wall clock does not leave tokens to expire.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
const CHANGES_BACKLOG: usize = 1024;

impl VolumeManager {
    /// Starts keeping contents current, until the manager is dropped. Makes the root directory.
    ///
    /// # Errors
    /// When the root can't be made.
    pub fn new(root: &Path, clients: Arc<dyn Clients>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, VolumeError> {
        let fail = |cause| VolumeError::CleanUp { path: root.into(), cause };
        fs::DirBuilder::new().recursive(true).mode(0o750).create(root.join("pods")).map_err(fail)?;
        // The mount table shows real paths only.
        let root = root.canonicalize().map_err(fail)?;
        let (changes, changed_objects) = mpsc::unbounded_channel();
        let csi = Arc::new(CsiVolumes::new(&root));
        let manager = Arc::new(Self {
            root,
            objects: ReferencedObjects::new(clients.clone(), changes),
            clients,
            clock,
            pods: Mutex::default(),
            deadlines: Mutex::default(),
            deadline_moved: Arc::default(),
            changed: broadcast::channel(CHANGES_BACKLOG).0,
            csi,
        });
        tokio::spawn(keep_current(Arc::downgrade(&manager), changed_objects, manager.deadline_moved.clone()));
        Ok(manager)
    }

    /// Brings up every volume that the pod's containers use, or makes it current. Idempotent; call it
    /// again when the pod changed (labels, annotations) and after a failure.
    ///
    /// # Errors
    /// The first volume's error; the others were still brought up, so that a retry has less to do.
    pub async fn mount(&self, cluster: &ClusterName, pod: &Pod, facts: &NodeFacts) -> Result<BTreeMap<String, MountedVolume>, VolumeError> {
        let key = pod_key(cluster, pod.metadata.uid.as_deref().unwrap_or_default())?;
        let entry = self.pods.lock().entry(key.clone()).or_default().clone();
        let mut volumes = entry.volumes.lock().await;
        let volumes = volumes.get_or_insert_with(|| PodVolumes::new(cluster.clone(), entry.references.clone()));
        let result = volumes.bring_up(self, Arc::new(pod.clone()), facts.clone()).await;
        self.set_deadline(&key, volumes.next_renewal());
        result
    }

    /// Bind-mounts a part of a mounted volume for one mount of one container and says where.
    ///
    /// `mount_index` is the mount's place in the container's `volumeMounts`.
    pub async fn sub_path(
        &self,
        uid: &str,
        volume: (&str, &MountedVolume),
        container: &str,
        mount_index: usize,
        sub_path: &str,
    ) -> Result<PathBuf, VolumeError> {
        let (name, mounted) = volume;
        let target = self.pod_directory(uid)?.join("volume-subpaths").join(name).join(container).join(mount_index.to_string());
        let (from, part, to) = (mounted.host_path.clone(), sub_path.to_owned(), target.clone());
        blocking(move || sub_path::bind(&from, &part, &to)).await.map_err(|cause| VolumeError::SubPath {
            volume: name.into(),
            container: container.into(),
            cause,
        })?;
        Ok(target)
    }

    /// Unmounts and removes all of a pod's volumes; also those of an earlier run of the agent. Idempotent.
    ///
    /// # Errors
    /// When a mount is still in use: call it again once the containers are gone.
    pub async fn unmount(&self, cluster: &ClusterName, uid: &str) -> Result<(), VolumeError> {
        let key = pod_key(cluster, uid)?;
        let directory = self.pod_directory(uid)?;
        let entry = self.pods.lock().get(&key).cloned();
        // Held until the directories are gone, so that no refresh writes into them meanwhile.
        let mut volumes = match &entry {
            Some(entry) => Some(entry.volumes.lock().await),
            None => None,
        };
        if let Some(volumes) = &mut volumes {
            **volumes = None;
        }
        let path = directory.clone();
        // A bind of a part would keep the whole in use.
        let parts = directory.join("volume-subpaths");
        blocking(move || unmount_below(&parts)).await.map_err(|cause| VolumeError::CleanUp { path: directory.clone(), cause })?;
        self.csi.unpublish(&directory).await.map_err(|cause| VolumeError::TearDown { path: directory.clone(), cause })?;
        blocking(move || take_down(&path)).await.map_err(|cause| VolumeError::CleanUp { path: directory, cause })?;
        self.pods.lock().remove(&key);
        self.deadlines.lock().remove(&key);
        Ok(())
    }

    /// The uids of pods that have directories here, to find those left by pods that are gone.
    pub fn pods_on_disk(&self) -> Result<Vec<String>, VolumeError> {
        let path = self.root.join("pods");
        let names = || -> io::Result<Vec<String>> { fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect() };
        names().map_err(|cause| VolumeError::CleanUp { path: path.clone(), cause })
    }

    /// Lets CSI drivers register on this node, from now until the manager is dropped, and passes on plugins of another kind.
    ///
    /// # Errors
    /// When the directory they register in can't be made or watched.
    pub fn accept_drivers(&self, node_name: &str, others: Arc<dyn OtherPlugins>) -> Result<(), VolumeError> {
        let started = csi::registration::start(&self.csi, self.clients.clone(), node_name, others);
        started.map(drop).map_err(|cause| VolumeError::TearDown { path: self.root.clone(), cause })
    }

    /// The socket of a driver that is registered here now.
    pub fn driver_socket(&self, driver: &str) -> Option<PathBuf> {
        self.csi.plugins.now(driver).map(|plugin| plugin.socket.clone())
    }

    /// The volumes of drivers that are or may be mounted here, as a node's `status.volumesInUse` names them.
    pub async fn in_use(&self) -> Vec<String> {
        self.csi.in_use().await
    }

    /// Resolves once what `in_use` says may have changed.
    pub async fn in_use_changed(&self) {
        self.csi.in_use_changed().await;
    }

    /// How full the volumes of a pod's claims are.
    pub async fn usage(&self, uid: &str) -> Vec<VolumeUse> {
        match self.pod_directory(uid) {
            Ok(directory) => self.csi.usage(directory).await,
            Err(_) => Vec::new(),
        }
    }

    /// ConfigMaps and Secrets as pods see them, also for environments and image pull secrets.
    pub fn objects(&self) -> &ReferencedObjects {
        &self.objects
    }

    /// Tells of pods whose ConfigMaps or Secrets changed: a `mount` that failed may succeed now.
    pub fn changes(&self) -> broadcast::Receiver<PodKey> {
        self.changed.subscribe()
    }

    /// `{root}/pods/{uid}`.
    pub fn pod_directory(&self, uid: &str) -> Result<PathBuf, VolumeError> {
        let single = !uid.is_empty() && !matches!(uid, "." | "..") && !uid.contains(['/', '\0']);
        if single { Ok(self.root.join("pods").join(uid)) } else { Err(VolumeError::InvalidUid(uid.into())) }
    }

    async fn refresh(&self, key: PodKey) {
        let Some(entry) = self.pods.lock().get(&key).cloned() else { return };
        let mut volumes = entry.volumes.lock().await;
        let Some(volumes) = &mut *volumes else { return };
        let failed = volumes.refresh(self).await;
        for error in &failed {
            tracing::warn!(cluster = %key.0, pod = key.1, %error, "a volume's contents could not be renewed");
        }
        let mut next = volumes.next_renewal();
        if let Some(soonest) = &mut next {
            // What is due already failed just now.
            *soonest = (*soonest).max(self.clock.now().saturating_add(RETRY).unwrap_or(*soonest));
        }
        self.set_deadline(&key, next);
    }

    fn set_deadline(&self, key: &PodKey, at: Option<Timestamp>) {
        let mut deadlines = self.deadlines.lock();
        let old = match at {
            Some(at) => deadlines.insert(key.clone(), at),
            None => deadlines.remove(key),
        };
        if old != at {
            self.deadline_moved.notify_one();
        }
    }

    /// Takes out the pods that are due, and says how long until the next one.
    fn take_due(&self) -> (Vec<PodKey>, Duration) {
        let now = self.clock.now();
        let mut deadlines = self.deadlines.lock();
        let due: Vec<PodKey> = deadlines.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        due.iter().for_each(|key| {
            deadlines.remove(key);
        });
        let wait = deadlines.values().min().map_or(LONGEST_SLEEP, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        (due, wait.min(LONGEST_SLEEP))
    }

    fn pods_with(&self, reference: &ObjectReference) -> Vec<PodKey> {
        self.pods.lock().iter().filter(|(_, pod)| pod.references.lock().contains(reference)).map(|(key, _)| key.clone()).collect()
    }
}

async fn keep_current(manager: Weak<VolumeManager>, mut changes: mpsc::UnboundedReceiver<ObjectReference>, deadline_moved: Arc<Notify>) {
    loop {
        let wait = {
            let Some(manager) = manager.upgrade() else { return };
            let (due, wait) = manager.take_due();
            for key in due {
                let manager = manager.clone();
                tokio::spawn(async move { manager.refresh(key).await });
            }
            wait
        };
        tokio::select! {
            change = changes.recv() => {
                let (Some(change), Some(manager)) = (change, manager.upgrade()) else { return };
                for key in manager.pods_with(&change) {
                    let manager = manager.clone();
                    // Apart, since a pod that is being brought up now would hold up the others.
                    tokio::spawn(async move {
                        manager.refresh(key.clone()).await;
                        // An error only says that nobody listens.
                        let _ = manager.changed.send(key);
                    });
                }
            }
            () = deadline_moved.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn pod_key(cluster: &ClusterName, uid: &str) -> Result<PodKey, VolumeError> {
    if uid.is_empty() { Err(VolumeError::InvalidUid(uid.into())) } else { Ok((cluster.clone(), uid.to_owned())) }
}

/// INVARIANT: nothing is removed while anything is mounted below, so that no foreign data is deleted through a mount.
fn take_down(pod_directory: &Path) -> io::Result<()> {
    unmount_below(pod_directory)?;
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs::remove_dir_all(pod_directory.join("volumes")))?;
    gone(fs::remove_dir_all(pod_directory.join("volume-subpaths")))?;
    match fs::remove_dir(pod_directory) {
        // Files of others (logs, hosts) may still lie there.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => gone(other),
    }
}

/// Runs file system work where it does not hold up other tasks.
pub(crate) async fn blocking<T: Send + 'static, E: Send + 'static>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
