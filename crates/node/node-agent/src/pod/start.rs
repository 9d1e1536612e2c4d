//! Starting a container: image, configuration, creation, start, postStart.
use super::addresses::addresses_of;
use super::container_config::{ContainerInput, container_config, environment_files, hosts_mount, message_mount, target_container, volume_mount};
use super::containers::{self, is_host_network, spec};
use super::environment::{EnvironmentInput, environment, expand, references};
use super::hosts_file::{host_network_hosts_file, hosts_file};
use super::identity::{PodId, namespace};
use super::paths::PodPaths;
use super::runtime_state::PodRuntime;
use super::sandbox_config::{SandboxInput, sandbox_config};
use super::worker::PodMessage;
use crate::context::AgentContext;
use crate::events::EventType;
use crate::go_duration::go_duration;
use crate::image::PulledImage;
use crate::probe::{ActionTarget, run_hook};
use cri::v1::{Mount, PodSandboxConfig};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use volumes::downward::PodAddresses;
use volumes::{MountedVolume, ReadError};

/// What a start works with.
pub struct Start {
    pub context: Arc<AgentContext>,
    pub id: PodId,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub restart_count: i32,
    pub runtime: PodRuntime,
    pub volumes: Arc<BTreeMap<String, MountedVolume>>,
    pub owner: UnboundedSender<PodMessage>,
    /// The pod ends: what can be left off is.
    pub cancelled: CancellationToken,
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// As the container's status shows it.
    pub reason: String,
    pub message: String,
    /// The image that could not be pulled.
    pub image: Option<String>,
    /// A container was made (and is in the runtime's list): its crash counts, not this error.
    pub crashed: bool,
}

impl StartError {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), image: None, crashed: false }
    }
}

impl Start {
    /// Does it. The error is what the container's status is to say; `None` when the pod ended meanwhile.
    pub async fn run(self) -> Option<Result<String, StartError>> {
        let image = tokio::select! {
            () = self.cancelled.cancelled() => return None,
            image = self.image() => image,
        };
        let result = match image {
            Ok(image) => self.create_and_start(&image).await.transpose()?,
            Err(error) => Err(error),
        };
        if let Err(error) = &result
            && error.reason != "ErrImageNeverPull"
        {
            let text = if error.image.is_some() { &error.reason } else { &error.message };
            self.event(EventType::Warning, "Failed", format!("Error: {text}"));
        }
        Some(result)
    }

    fn event(&self, type_: EventType, reason: &'static str, message: String) {
        self.context.events.container(&self.id.cluster, &self.pod, &self.container.name, type_, reason, message);
    }

    async fn image(&self) -> Result<PulledImage, StartError> {
        let image = self.container.image.as_deref().unwrap_or_default();
        let policy = self.container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let images = &self.context.images;
        let failed = |error: &crate::image::PullError| StartError::new(error.reason(), error.to_string());
        match images.present(image, policy).await {
            Ok(Some(present)) => {
                self.event(EventType::Normal, "Pulled", format!("Container image \"{image}\" already present on machine and can be accessed by the pod"));
                return Ok(present);
            }
            Ok(None) => {}
            Err(error) => {
                let reason = match error.reason() {
                    "ErrImageNeverPull" => "ErrImageNeverPull",
                    "InvalidImageName" => "InspectFailed",
                    _ => "Failed",
                };
                self.event(EventType::Warning, reason, error.to_string());
                return Err(failed(&error));
            }
        }
        let secrets = self.pull_secrets().await;
        self.event(EventType::Normal, "Pulling", format!("Pulling image \"{image}\""));
        let begun = self.context.clock.instant();
        match images.pull(image, &secrets, &self.sandbox_config()).await {
            Ok(pulled) => {
                let took = Duration::from_millis(self.context.clock.instant().duration_since(begun).as_millis().try_into().unwrap_or(u64::MAX));
                let took = go_duration(took);
                let size = pulled.size;
                self.event(
                    EventType::Normal,
                    "Pulled",
                    format!("Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {size} bytes."),
                );
                Ok(pulled)
            }
            Err(error) => {
                self.event(EventType::Warning, "Failed", format!("Failed to pull image \"{image}\": {error}"));
                Err(StartError { image: Some(image.to_owned()), ..failed(&error) })
            }
        }
    }

    async fn pull_secrets(&self) -> Vec<Arc<Secret>> {
        let mut secrets = Vec::new();
        for reference in spec(&self.pod).image_pull_secrets.iter().flatten() {
            match self.context.volumes.objects().secret(&self.id.cluster, namespace(&self.pod), &reference.name).await {
                Ok(secret) => secrets.push(secret),
                // The image may be pulled without it.
                Err(error) => {
                    let message = format!("Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.", reference.name);
                    tracing::debug!(pod = %self.id, %error, "an image pull secret can't be read");
                    self.context.events.pod(&self.id.cluster, &self.pod, EventType::Warning, "FailedToRetrieveImagePullSecret", message);
                }
            }
        }
        secrets
    }

    fn sandbox_config(&self) -> PodSandboxConfig {
        let attempt = self.runtime.sandboxes.first().map_or(0, |s| s.attempt);
        sandbox_config_of(&self.context, &self.id, &self.pod, attempt)
    }

    /// `None` when the pod ended before there was a container.
    async fn create_and_start(&self, image: &PulledImage) -> Result<Option<String>, StartError> {
        let config_error = |message: String| StartError::new("CreateContainerConfigError", message);
        let sandbox = self.runtime.sandbox().ok_or_else(|| StartError::new("CreateContainerError", "the pod's sandbox is gone"))?;
        let mut environment = self.environment().await.map_err(config_error)?;
        let (mut mounts, mut devices) = self.mounts(&environment).await.map_err(config_error)?;
        let edits = self.context.devices.edits(&self.pod, &self.container).map_err(config_error)?;
        environment.retain(|(name, _)| !edits.environment.iter().any(|(other, _)| other == name));
        environment.extend(edits.environment);
        mounts.extend(edits.mounts);
        devices.extend(edits.devices);
        let target = target_container(&self.pod, &self.container.name).and_then(|name| self.runtime.latest(name)).map(|record| record.id.as_str());
        let seccomp_root = self.context.seccomp_root();
        let config = container_config(ContainerInput {
            id: &self.id,
            pod: &self.pod,
            container: &self.container,
            restart_count: self.restart_count,
            image_id: &image.id,
            image_user: &image.user,
            environment,
            mounts,
            devices,
            cdi_names: edits.names,
            target,
            node: self.context.limits,
            seccomp_root: &seccomp_root,
        })
        .map_err(config_error)?;
        if self.cancelled.is_cancelled() {
            return Ok(None);
        }
        let runtime = &self.context.runtime;
        let id = runtime
            .create_container(&sandbox.id, config, self.sandbox_config())
            .await
            .map_err(|error| StartError::new("CreateContainerError", error.to_string()))?;
        // Before it starts, so that no event of it is missed.
        self.context.table.own(&id, &self.owner);
        self.event(EventType::Normal, "Created", "Container created".into());
        if let Err(error) = runtime.start_container(&id).await {
            return Err(StartError { crashed: true, ..StartError::new("RunContainerError", error.to_string()) });
        }
        self.event(EventType::Normal, "Started", "Container started".into());
        self.post_start(&id).await?;
        Ok(Some(id))
    }

    async fn post_start(&self, id: &str) -> Result<(), StartError> {
        let Some(handler) = self.container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return Ok(()) };
        // While the hook runs the container shows as running.
        let _ = self.owner.send(PodMessage::Runtime { ended: None });
        let target = ActionTarget {
            runtime: self.context.runtime.clone(),
            container_id: id.into(),
            container: self.container.clone(),
            address: self.addresses().pod_ips.first().cloned().unwrap_or_default(),
        };
        let result = tokio::select! {
            () = self.cancelled.cancelled() => return Ok(()),
            result = run_hook(&target, &self.pod, handler, None) => result,
        };
        let Err(error) = result else { return Ok(()) };
        self.event(EventType::Warning, "FailedPostStartHook", "PostStartHook failed".into());
        self.event(EventType::Normal, "Killing", "FailedPostStartHook".into());
        let grace = super::plan::grace(&self.pod, None, super::plan::KillReason::PodEnds, None);
        if let Err(error) = self.context.runtime.stop_container(id, super::plan::remaining_grace(grace, Duration::ZERO)).await {
            tracing::warn!(pod = %self.id, container = self.container.name, %error, "a container whose postStart hook failed can't be stopped");
        }
        Err(StartError { crashed: true, ..StartError::new("PostStartHookError", error.to_string()) })
    }

    fn addresses(&self) -> PodAddresses {
        let host_ips = self.context.host_ips();
        let pod_ips = addresses_of(&self.pod, self.runtime.sandbox(), &host_ips);
        PodAddresses { host_ips, pod_ips }
    }

    async fn environment(&self) -> Result<Vec<(String, String)>, String> {
        let (cluster, of) = (&self.id.cluster, namespace(&self.pod));
        let (config_maps, secrets) = references(&self.container);
        let objects = self.context.volumes.objects();
        let mut services = self.context.services.list(cluster, Some(of));
        if of != "default" {
            services.extend(self.context.services.get(&api_cache::ObjectKey::new(cluster, "default", "kubernetes")));
        }
        let mut input = EnvironmentInput { services, addresses: self.addresses(), allocatable: self.context.facts.allocatable.clone(), ..Default::default() };
        for name in config_maps {
            let map = found(objects.config_map(cluster, of, &name).await)?;
            input.config_maps.insert(name, map);
        }
        for name in secrets {
            let secret = found(objects.secret(cluster, of, &name).await)?;
            input.secrets.insert(name, secret);
        }
        for (volume, path) in environment_files(&self.container) {
            let Some(mounted) = self.volumes.get(&volume) else { continue };
            // A part of the volume's own files only: the path may hold links.
            let file = self.context.volumes.sub_path(&self.id.uid, (&volume, mounted), &self.container.name, usize::MAX, &path.to_string_lossy()).await;
            if let Ok(text) = file.map_err(|error| error.to_string()).and_then(|file| std::fs::read_to_string(file).map_err(|error| error.to_string())) {
                input.files.insert((volume, path.to_string_lossy().into_owned()), text);
            }
        }
        environment(&self.pod, &self.container, &input)
    }

    async fn mounts(&self, environment: &[(String, String)]) -> Result<(Vec<Mount>, Vec<cri::v1::Device>), String> {
        let known: BTreeMap<&str, &str> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut mounts = Vec::new();
        for (index, mount) in self.container.volume_mounts.iter().flatten().enumerate() {
            let volume = self
                .volumes
                .get(&mount.name)
                .ok_or_else(|| format!("cannot find volume \"{}\" to mount into container \"{}\"", mount.name, self.container.name))?;
            let part = match mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty()) {
                Some(expression) => Some(expand_whole(expression, &known)?),
                None => mount.sub_path.clone().filter(|path| !path.is_empty()),
            };
            let host_path = match part {
                Some(part) => self
                    .context
                    .volumes
                    .sub_path(&self.id.uid, (&mount.name, volume), &self.container.name, index, &part)
                    .await
                    .map_err(|error| error.to_string())?,
                None => volume.host_path.clone(),
            };
            mounts.push(volume_mount(mount, &host_path, volume.read_only));
        }
        let paths = PodPaths::new(&self.context.settings.data_dir, &self.id, &self.pod);
        let addresses = self.addresses().pod_ips;
        let own_hosts = is_host_network(&self.pod) || !addresses.is_empty();
        let hosts = paths.hosts_file();
        if let Some(mount) = hosts_mount(&self.container, &hosts).filter(|_| own_hosts) {
            let text = if is_host_network(&self.pod) {
                host_network_hosts_file(&self.pod, &std::fs::read_to_string("/etc/hosts").unwrap_or_default())
            } else {
                hosts_file(&self.pod, &addresses, &self.context.dns.cluster_domain)
            };
            // In place: running containers hold a mount of this very file.
            write_file(&hosts, text.as_bytes(), 0o644).map_err(|error| format!("failed to write the hosts file: {error}"))?;
            mounts.push(mount);
        }
        let message = paths.termination_message(&self.container.name, self.restart_count);
        // Whoever the container runs as may write it.
        write_file(&message, b"", 0o666).map_err(|error| format!("failed to make the termination message file: {error}"))?;
        mounts.push(message_mount(&self.container, &message));
        let mut devices = Vec::new();
        for device in self.container.volume_devices.iter().flatten() {
            let volume = self.volumes.get(&device.name).filter(|volume| volume.block);
            let volume = volume.ok_or_else(|| format!("cannot find block volume \"{}\" for container \"{}\"", device.name, self.container.name))?;
            let permissions = if volume.read_only { "r" } else { "mrw" };
            devices.push(cri::v1::Device {
                container_path: device.device_path.clone(),
                host_path: volume.host_path.to_string_lossy().into_owned(),
                permissions: permissions.into(),
            });
        }
        Ok((mounts, devices))
    }
}

fn found<K>(read: Result<Arc<K>, ReadError>) -> Result<Option<Arc<K>>, String> {
    match read {
        Ok(object) => Ok(Some(object)),
        Err(ReadError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// A path must not hold what could not be expanded.
fn expand_whole(expression: &str, known: &BTreeMap<&str, &str>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(Vec::new());
    let text = expand(expression, |name| {
        let value = known.get(name).copied();
        if value.is_none() {
            missing.borrow_mut().push(name.to_owned());
        }
        value
    });
    match missing.into_inner().first() {
        Some(_) => Err(format!("failed to expand subPath expression \"{expression}\": missing value for \"{expression}\"")),
        None => Ok(text),
    }
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// A pod's sandbox configuration.
pub fn sandbox_config_of(context: &AgentContext, id: &PodId, pod: &Pod, attempt: u32) -> PodSandboxConfig {
    let paths = PodPaths::new(&context.settings.data_dir, id, pod);
    sandbox_config(&SandboxInput {
        id,
        pod,
        attempt,
        log_directory: &paths.logs,
        cgroup_parent: context.cgroups.path_of(id, pod),
        dns: &context.dns_of(id),
        seccomp_root: &context.seccomp_root(),
    })
}

/// Removes what is left of a container's earlier attempts but the last, and sandboxes without containers.
pub async fn prune(context: &AgentContext, runtime: &PodRuntime, container: &str) {
    let old = runtime.containers.iter().filter(|c| c.name == container && c.state == super::runtime_state::RunState::Exited).skip(1);
    let mut removed = Vec::new();
    for record in old {
        match context.runtime.remove_container(&record.id).await {
            Ok(()) => {
                removed.push(record.id.as_str());
                context.table.disown(&record.id);
                // The log may have been rotated away or never written.
                let _ = std::fs::remove_file(&record.log_path);
            }
            Err(error) => tracing::debug!(container = record.id, %error, "an old container can't be removed"),
        }
    }
    for sandbox in runtime.sandboxes.iter().skip(1).filter(|s| !s.ready) {
        let empty = !runtime.containers.iter().any(|c| c.sandbox == sandbox.id && !removed.contains(&c.id.as_str()));
        if empty && let Err(error) = context.runtime.remove_pod_sandbox(&sandbox.id).await {
            tracing::debug!(sandbox = sandbox.id, %error, "an old sandbox can't be removed");
        }
    }
}

/// The container a name means, to be started.
pub fn container_of(pod: &Pod, name: &str) -> Option<Container> {
    containers::find(pod, name).map(|(container, _)| container.into_owned())
}
