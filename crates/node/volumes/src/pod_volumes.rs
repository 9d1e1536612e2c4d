//! PodVolumes: one pod's volumes; resolves each to what brings it up, and writes its contents.
use crate::atomic_writer::{self, Payload};
use crate::claim::{self, Claim};
use crate::csi::{Inline, Wanted};
use crate::empty_dir;
use crate::error::{SetUpError, VolumeError};
use crate::host_path;
use crate::manager::{MountedVolume, NodeFacts, VolumeManager, blocking};
use crate::ownership::{self, FsGroup};
use crate::payload::{self, mode_bits};
use crate::referenced_objects::{Following, ObjectReference, ReadError, Referable};
use crate::tokens::{self, Token};
use api_meta::{ClusterName, Quantity};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, PersistentVolumeClaim, Pod, ProjectedVolumeSource, Secret, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// One pod's volumes as they are on this node.
pub struct PodVolumes {
    cluster: ClusterName,
    pod: Arc<Pod>,
    facts: NodeFacts,
    config_maps: BTreeMap<String, Arc<Following<ConfigMap>>>,
    secrets: BTreeMap<String, Arc<Following<Secret>>>,
    /// By volume and the place of the source in it.
    tokens: BTreeMap<(String, usize), Token>,
    /// Volumes that don't change once they are up: all but those with contents.
    settled: BTreeMap<String, MountedVolume>,
    /// Claims of mounted CSI volumes, by volume: their volumes may grow.
    claims: BTreeMap<String, Arc<Following<PersistentVolumeClaim>>>,
    references: References,
}

/// The objects a pod's contents come from.
pub type References = Arc<Mutex<HashSet<ObjectReference>>>;

const DEFAULT_MODE: i32 = 0o644;

impl PodVolumes {
    pub fn new(cluster: ClusterName, references: References) -> Self {
        Self {
            cluster,
            pod: Arc::default(),
            facts: NodeFacts::default(),
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            tokens: BTreeMap::new(),
            settled: BTreeMap::new(),
            claims: BTreeMap::new(),
            references,
        }
    }

    /// Brings up or renews everything, for the pod as it is now.
    pub async fn bring_up(&mut self, manager: &VolumeManager, pod: Arc<Pod>, facts: NodeFacts) -> Result<BTreeMap<String, MountedVolume>, VolumeError> {
        (self.pod, self.facts) = (pod.clone(), facts);
        let (mut mounted, mut first_error) = (BTreeMap::new(), None);
        self.follow_references(manager);
        for volume in used_volumes(&pod) {
            match self.bring_up_one(manager, volume).await {
                Ok(Some(volume_mounted)) => {
                    mounted.insert(volume.name.clone(), volume_mounted);
                }
                Ok(None) => {}
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(mounted), Err)
    }

    /// Renews contents. Gives the errors of those volumes that keep their old ones.
    pub async fn refresh(&mut self, manager: &VolumeManager) -> Vec<VolumeError> {
        let mut errors = Vec::new();
        let pod = self.pod.clone();
        for volume in used_volumes(&pod).filter(|volume| Content::of(volume).is_some()) {
            if let Err(error) = self.bring_up_one(manager, volume).await {
                errors.push(error);
            }
        }
        for name in self.claims.keys().cloned().collect::<Vec<_>>() {
            if let Err(cause) = self.grow(manager, &name).await {
                errors.push(VolumeError::SetUp { volume: name, cause });
            }
        }
        errors
    }

    /// When the first token is due.
    pub fn next_renewal(&self) -> Option<Timestamp> {
        self.tokens.values().map(|token| token.renew_at).min()
    }

    fn follow_references(&mut self, manager: &VolumeManager) {
        let pod = self.pod.clone();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (mut config_maps, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        for content in used_volumes(&pod).filter_map(Content::of) {
            for (name, is_secret) in content.references() {
                if is_secret {
                    secrets.entry(name.to_owned()).or_insert_with(|| manager.objects().follow(&self.cluster, namespace, name));
                } else {
                    config_maps.entry(name.to_owned()).or_insert_with(|| manager.objects().follow(&self.cluster, namespace, name));
                }
            }
        }
        let references = config_maps.values().map(|f: &Arc<Following<_>>| f.reference.clone());
        let references = references.chain(secrets.values().map(|f: &Arc<Following<_>>| f.reference.clone()));
        *self.references.lock() = references.chain(self.claims.values().map(|f| f.reference.clone())).collect();
        (self.config_maps, self.secrets) = (config_maps, secrets);
    }

    async fn bring_up_one(&mut self, manager: &VolumeManager, volume: &Volume) -> Result<Option<MountedVolume>, VolumeError> {
        let failed = |cause: SetUpError| VolumeError::SetUp { volume: volume.name.clone(), cause };
        if let Some(mounted) = self.settled.get(&volume.name) {
            return Ok(Some(mounted.clone()));
        }
        if let Some(content) = Content::of(volume) {
            return self.write_content(manager, volume, &content).await.map(Some);
        }
        let mounted = if volume.empty_dir.is_some() {
            let host_path = self.directory(manager, "empty-dir", &volume.name)?;
            let (pod, memory, fs_group) = (self.pod.clone(), self.allocatable_memory(), fs_group(&self.pod));
            let (path, source) = (host_path.clone(), volume.empty_dir.clone().unwrap_or_default());
            blocking(move || empty_dir::set_up(&path, &source, &pod, memory, fs_group)).await.map_err(failed)?;
            MountedVolume { host_path, read_only: false, block: false }
        } else if let Some(source) = volume.host_path.clone() {
            let host_path = blocking(move || host_path::set_up(&source)).await.map_err(failed)?;
            MountedVolume { host_path, read_only: false, block: false }
        } else if let Some(claim) = Claim::of(volume, &self.pod) {
            let found = claim::resolve(manager.clients.cluster(&self.cluster), &self.pod, &claim).await?;
            let (name, read_only, as_device, fs_group) = (volume.name.clone(), claim.read_only, is_device(&self.pod, &volume.name), fs_group(&self.pod));
            if found.spec.as_ref().is_some_and(|spec| spec.csi.is_some()) {
                claim::check_mode(&found, &name, as_device)?;
                let pod_directory = manager.pod_directory(self.pod.metadata.uid.as_deref().unwrap_or_default())?;
                let wanted = Wanted { cluster: &self.cluster, pod: &self.pod, pod_directory, volume: &found, read_only, fs_group };
                let mounted = manager.csi.publish(&*manager.clients, wanted).await.map_err(failed)?;
                let following = manager.objects().follow(&self.cluster, self.pod.metadata.namespace.as_deref().unwrap_or_default(), &claim.name);
                self.references.lock().insert(following.reference.clone());
                self.claims.insert(volume.name.clone(), following);
                if let Err(error) = self.grow(manager, &volume.name).await {
                    // The pod can do with what there is; the claim goes on saying that it waits.
                    tracing::warn!(cluster = %self.cluster, volume = volume.name, %error, "a volume's file system can't grow yet");
                }
                mounted
            } else {
                blocking(move || claim::set_up(&found, &name, read_only, as_device, fs_group)).await?
            }
        } else if let Some(source) = &volume.csi {
            let pod_directory = manager.pod_directory(self.pod.metadata.uid.as_deref().unwrap_or_default())?;
            let inline = Inline { cluster: &self.cluster, pod: &self.pod, pod_directory, name: &volume.name, source, fs_group: fs_group(&self.pod) };
            manager.csi.publish_inline(&*manager.clients, inline).await.map_err(failed)?
        } else {
            return Err(refuse(volume));
        };
        self.settled.insert(volume.name.clone(), mounted.clone());
        Ok(Some(mounted))
    }

    /// Makes the file system of a volume as large as the volume has become, if its claim waits for that.
    async fn grow(&self, manager: &VolumeManager, volume: &str) -> Result<(), SetUpError> {
        let Some(following) = self.claims.get(volume) else { return Ok(()) };
        let claim = following.current().await?;
        let pod_directory = manager.pod_directory(self.pod.metadata.uid.as_deref().unwrap_or_default());
        let pod_directory = pod_directory.map_err(|error| SetUpError::Refused(error.to_string()))?;
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(manager.clock.now());
        manager.csi.grow(manager.clients.cluster(&self.cluster), now, &pod_directory, &claim).await
    }

    async fn write_content(&mut self, manager: &VolumeManager, volume: &Volume, content: &Content<'_>) -> Result<MountedVolume, VolumeError> {
        let failed = |cause: SetUpError| VolumeError::SetUp { volume: volume.name.clone(), cause };
        let payload = self.collect(manager, &volume.name, content).await.map_err(failed)?;
        let host_path = self.directory(manager, content.plugin(), &volume.name)?;
        let (path, pod, memory, fs_group) = (host_path.clone(), self.pod.clone(), self.allocatable_memory(), fs_group(&self.pod));
        let in_memory = !matches!(content, Content::ConfigMap { .. });
        let name = format!("..{}{}", manager.clock.now().strftime("%Y_%m_%d_%H_%M_%S."), clock::random_suffix(10));
        blocking(move || {
            if in_memory {
                empty_dir::set_up_in_memory(&path, &pod, memory)?;
            } else {
                empty_dir::make_directory(&path)?;
            }
            // The whole volume, as the links outside of the new directory may be new as well.
            atomic_writer::write(&path, &payload, &name, || ownership::apply(&path, FsGroup { only_on_root_mismatch: false, ..fs_group }, true))
        })
        .await
        .map_err(failed)?;
        Ok(MountedVolume { host_path, read_only: true, block: false })
    }

    async fn collect(&mut self, manager: &VolumeManager, volume: &str, content: &Content<'_>) -> Result<Payload, SetUpError> {
        match content {
            Content::ConfigMap(source) => {
                let optional = source.optional == Some(true);
                let found = present(self.config_maps.get(&source.name), &source.name, optional).await?;
                payload::of_config_map(found.as_deref(), source.items.as_deref(), mode_or_default(source.default_mode), optional)
            }
            Content::Secret(source) => {
                let optional = source.optional == Some(true);
                let name = source.secret_name.as_deref().unwrap_or_default();
                let found = present(self.secrets.get(name), name, optional).await?;
                payload::of_secret(found.as_deref(), source.items.as_deref(), mode_or_default(source.default_mode), optional)
            }
            Content::DownwardApi(source) => {
                payload::of_pod(&self.pod, source.items.as_deref().unwrap_or_default(), mode_or_default(source.default_mode), &self.facts.allocatable)
            }
            Content::Projected(source) => {
                let (mode, mut all, mut errors) = (mode_or_default(source.default_mode), Payload::new(), Vec::new());
                for (index, projection) in source.sources.iter().flatten().enumerate() {
                    match self.collect_projection(manager, (volume, index), projection, mode).await {
                        Ok(payload) => all.extend(payload),
                        Err(error) => errors.push(error),
                    }
                }
                if errors.is_empty() { Ok(all) } else { Err(SetUpError::aggregate(errors)) }
            }
        }
    }

    async fn collect_projection(
        &mut self,
        manager: &VolumeManager,
        place: (&str, usize),
        projection: &VolumeProjection,
        mode: u32,
    ) -> Result<Payload, SetUpError> {
        if let Some(source) = &projection.config_map {
            let optional = source.optional == Some(true);
            let found = present(self.config_maps.get(&source.name), &source.name, optional).await?;
            payload::of_config_map(found.as_deref(), source.items.as_deref(), mode, optional)
        } else if let Some(source) = &projection.secret {
            let optional = source.optional == Some(true);
            let found = present(self.secrets.get(&source.name), &source.name, optional).await?;
            payload::of_secret(found.as_deref(), source.items.as_deref(), mode, optional)
        } else if let Some(source) = &projection.downward_api {
            payload::of_pod(&self.pod, source.items.as_deref().unwrap_or_default(), mode, &self.facts.allocatable)
        } else if let Some(source) = &projection.service_account_token {
            let token = self.token(manager, place, source).await?;
            let owner = fs_user(&self.pod);
            // Ownership widens it again for the group; nobody else is to read a token.
            let mode = if owner.is_some() || fs_group(&self.pod).gid.is_some() { 0o600 } else { mode };
            Ok(Payload::from([(source.path.clone(), atomic_writer::FileProjection { data: token.into_bytes(), mode, owner })]))
        } else if projection.cluster_trust_bundle.is_some() {
            Err(SetUpError::Refused("clusterTrustBundle projections are not supported by this node: the ClusterTrustBundleProjection feature is off".into()))
        } else if projection.pod_certificate.is_some() {
            Err(SetUpError::Refused("podCertificate projections are not supported by this node: the PodCertificateRequest feature is off".into()))
        } else {
            Ok(Payload::new())
        }
    }

    async fn token(&mut self, manager: &VolumeManager, (volume, index): (&str, usize), source: &ServiceAccountTokenProjection) -> Result<String, SetUpError> {
        let place = (volume.to_owned(), index);
        let clock = &*manager.clock;
        let old = self.tokens.get(&place);
        if let Some(old) = old.filter(|token| !token.is_due(clock)) {
            return Ok(old.value.clone());
        }
        match (tokens::request(manager.clients.cluster(&self.cluster), &self.pod, source).await, old) {
            (Ok(token), _) => {
                let value = token.value.clone();
                self.tokens.insert(place, token);
                Ok(value)
            }
            (Err(error), Some(old)) if !old.is_expired(clock) => {
                tracing::warn!(cluster = %self.cluster, volume, %error, "a token could not be renewed and is used on");
                Ok(old.value.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    fn directory(&self, manager: &VolumeManager, plugin: &str, volume: &str) -> Result<PathBuf, VolumeError> {
        let pod = manager.pod_directory(self.pod.metadata.uid.as_deref().unwrap_or_default())?;
        Ok(pod.join("volumes").join(format!("kubernetes.io~{plugin}")).join(volume))
    }

    fn allocatable_memory(&self) -> Option<Quantity> {
        self.facts.allocatable.get("memory").and_then(|q| Quantity::parse(&q.0).ok())
    }
}

/// The kinds whose files are written from objects, and rewritten when those change.
enum Content<'a> {
    ConfigMap(&'a k8s_openapi::api::core::v1::ConfigMapVolumeSource),
    Secret(&'a k8s_openapi::api::core::v1::SecretVolumeSource),
    DownwardApi(&'a k8s_openapi::api::core::v1::DownwardAPIVolumeSource),
    Projected(&'a ProjectedVolumeSource),
}

impl<'a> Content<'a> {
    fn of(volume: &'a Volume) -> Option<Self> {
        None.or(volume.config_map.as_ref().map(Self::ConfigMap))
            .or(volume.secret.as_ref().map(Self::Secret))
            .or(volume.downward_api.as_ref().map(Self::DownwardApi))
            .or(volume.projected.as_ref().map(Self::Projected))
    }

    fn plugin(&self) -> &'static str {
        match self {
            Self::ConfigMap(_) => "configmap",
            Self::Secret(_) => "secret",
            Self::DownwardApi(_) => "downward-api",
            Self::Projected(_) => "projected",
        }
    }

    /// Names of ConfigMaps (false) and Secrets (true).
    fn references(&self) -> Vec<(&'a str, bool)> {
        match self {
            Self::ConfigMap(source) => vec![(&source.name, false)],
            Self::Secret(source) => source.secret_name.iter().map(|name| (name.as_str(), true)).collect(),
            Self::DownwardApi(_) => Vec::new(),
            Self::Projected(source) => source
                .sources
                .iter()
                .flatten()
                .flat_map(|p| p.config_map.iter().map(|c| (c.name.as_str(), false)).chain(p.secret.iter().map(|s| (s.name.as_str(), true))))
                .collect(),
        }
    }
}

/// The object; `None` when it is missing and need not be there.
async fn present<K: Referable>(following: Option<&Arc<Following<K>>>, name: &str, optional: bool) -> Result<Option<Arc<K>>, ReadError> {
    let missing = ReadError::NotFound { kind: K::NAME, name: name.into() };
    let read = match following {
        Some(following) => following.current().await,
        None => Err(missing),
    };
    match read {
        Ok(object) => Ok(Some(object)),
        Err(ReadError::NotFound { .. }) if optional => Ok(None),
        Err(error) => Err(error),
    }
}

fn mode_or_default(mode: Option<i32>) -> u32 {
    mode_bits(mode.unwrap_or(DEFAULT_MODE))
}

/// The volumes that some container mounts or uses as a device; others are left alone.
fn used_volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let used: BTreeSet<&str> = containers(pod)
        .flat_map(|c| c.volume_mounts.iter().flatten().map(|m| m.name.as_str()).chain(c.volume_devices.iter().flatten().map(|d| d.name.as_str())))
        .chain(ephemeral_mounts(pod))
        .collect();
    // Image volumes are the runtime's to bring up, with the container.
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(move |volume| used.contains(volume.name.as_str()) && volume.image.is_none())
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}

fn ephemeral_mounts(pod: &Pod) -> impl Iterator<Item = &str> {
    let mounts = pod.spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten()).flat_map(|c| c.volume_mounts.iter().flatten());
    mounts.map(|mount| mount.name.as_str())
}

fn is_device(pod: &Pod, volume: &str) -> bool {
    containers(pod).flat_map(|c| c.volume_devices.iter().flatten()).any(|device| device.name == volume)
}

fn fs_group(pod: &Pod) -> FsGroup {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    FsGroup {
        gid: context.and_then(|c| c.fs_group).and_then(|gid| u32::try_from(gid).ok()),
        only_on_root_mismatch: context.and_then(|c| c.fs_group_change_policy.as_deref()) == Some("OnRootMismatch"),
    }
}

/// The user all containers run as, where all name the same one.
fn fs_user(pod: &Pod) -> Option<u32> {
    let pod_user = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.run_as_user);
    let mut users = containers(pod).map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod_user));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

fn refuse(volume: &Volume) -> VolumeError {
    if volume.git_repo.is_some() {
        let reason = "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate `GitRepoVolumeDriver`";
        return VolumeError::SetUp { volume: volume.name.clone(), cause: SetUpError::Refused(reason.into()) };
    }
    VolumeError::Unresolved { volume: volume.name.clone(), reason: claim::no_plugin(&volume.name) }
}
