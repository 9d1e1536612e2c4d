//! Runtime: the calls of CRI v1 as plain functions.
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::*;
use crate::{CriError, channel};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tonic::transport::Channel;

/// A connection to a CRI runtime. Cheap to clone; it connects again by itself when the runtime restarts.
#[derive(Clone, Debug)]
pub struct Runtime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// Lists of many pods outgrow gRPC's default of 4 MiB.
const MAX_MESSAGE: usize = 64 << 20;
/// As upstream's default for calls that start and stop things.
const TIMEOUT: Duration = Duration::from_secs(120);

fn timed<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

impl Runtime {
    /// Connects to a runtime's unix socket (a path, or `unix:///path`).
    pub async fn connect(socket: &Path) -> Result<Self, CriError> {
        let channel = channel::connect(socket).await?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        })
    }

    pub async fn version(&self) -> Result<VersionResponse, CriError> {
        Ok(self.runtime.clone().version(timed(VersionRequest { version: "v1".into() }, TIMEOUT)).await?.into_inner())
    }

    /// The runtime's conditions (`RuntimeReady`, `NetworkReady`) and handlers.
    pub async fn status(&self) -> Result<StatusResponse, CriError> {
        Ok(self.runtime.clone().status(timed(StatusRequest { verbose: false }, TIMEOUT)).await?.into_inner())
    }

    /// Tells runtimes that configure CNI themselves the pods' address range.
    pub async fn update_runtime_config(&self, pod_cidr: String) -> Result<(), CriError> {
        let runtime_config = Some(RuntimeConfig { network_config: Some(NetworkConfig { pod_cidr }) });
        self.runtime.clone().update_runtime_config(timed(UpdateRuntimeConfigRequest { runtime_config }, TIMEOUT)).await?;
        Ok(())
    }

    /// Creates and starts a sandbox; gives its id.
    pub async fn run_pod_sandbox(&self, config: PodSandboxConfig, runtime_handler: &str) -> Result<String, CriError> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: runtime_handler.into() };
        Ok(self.runtime.clone().run_pod_sandbox(timed(request, 2 * TIMEOUT)).await?.into_inner().pod_sandbox_id)
    }

    /// Ends all of a sandbox's processes and gives its addresses back. Idempotent.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        self.runtime.clone().stop_pod_sandbox(timed(StopPodSandboxRequest { pod_sandbox_id: id.into() }, TIMEOUT)).await?;
        Ok(())
    }

    /// Removes a sandbox and its containers. Idempotent.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        self.runtime.clone().remove_pod_sandbox(timed(RemovePodSandboxRequest { pod_sandbox_id: id.into() }, TIMEOUT)).await?;
        Ok(())
    }

    /// A sandbox's state and addresses.
    pub async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus, CriError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let answer = self.runtime.clone().pod_sandbox_status(timed(request, TIMEOUT)).await?.into_inner();
        answer.status.ok_or(CriError::Empty("PodSandboxStatus"))
    }

    /// The sandboxes that carry all of these labels.
    pub async fn list_pod_sandboxes(&self, labels: BTreeMap<String, String>) -> Result<Vec<PodSandbox>, CriError> {
        let filter = Some(PodSandboxFilter { label_selector: labels, ..Default::default() });
        Ok(self.runtime.clone().list_pod_sandbox(timed(ListPodSandboxRequest { filter }, TIMEOUT)).await?.into_inner().items)
    }

    /// Creates a container in a sandbox; gives its id. `sandbox_config` is what the sandbox was made with.
    pub async fn create_container(&self, sandbox: &str, config: ContainerConfig, sandbox_config: PodSandboxConfig) -> Result<String, CriError> {
        let request = CreateContainerRequest { pod_sandbox_id: sandbox.into(), config: Some(config), sandbox_config: Some(sandbox_config) };
        Ok(self.runtime.clone().create_container(timed(request, TIMEOUT)).await?.into_inner().container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<(), CriError> {
        self.runtime.clone().start_container(timed(StartContainerRequest { container_id: id.into() }, TIMEOUT)).await?;
        Ok(())
    }

    /// Ends a container: its stop signal, then after `grace` SIGKILL. Idempotent.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = timed(StopContainerRequest { container_id: id.into(), timeout }, TIMEOUT.saturating_add(grace).min(LONGEST));
        self.runtime.clone().stop_container(request).await?;
        Ok(())
    }

    /// Removes a container, killing it if it runs. Idempotent.
    pub async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        self.runtime.clone().remove_container(timed(RemoveContainerRequest { container_id: id.into() }, TIMEOUT)).await?;
        Ok(())
    }

    pub async fn list_containers(&self, filter: ContainerFilter) -> Result<Vec<Container>, CriError> {
        let request = ListContainersRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_containers(timed(request, TIMEOUT)).await?.into_inner().containers)
    }

    pub async fn container_status(&self, id: &str) -> Result<ContainerStatus, CriError> {
        Ok(self.container_status_verbose(id, false).await?.0)
    }

    /// A container's status, and the runtime's own information on it if `verbose`.
    pub async fn container_status_verbose(&self, id: &str, verbose: bool) -> Result<(ContainerStatus, BTreeMap<String, String>), CriError> {
        let request = ContainerStatusRequest { container_id: id.into(), verbose };
        let answer = self.runtime.clone().container_status(timed(request, TIMEOUT)).await?.into_inner();
        Ok((answer.status.ok_or(CriError::Empty("ContainerStatus"))?, answer.info))
    }

    pub async fn update_container_resources(&self, id: &str, linux: LinuxContainerResources) -> Result<(), CriError> {
        let request = UpdateContainerResourcesRequest { container_id: id.into(), linux: Some(linux), annotations: BTreeMap::new() };
        self.runtime.clone().update_container_resources(timed(request, TIMEOUT)).await?;
        Ok(())
    }

    /// Makes the runtime open the container's log file again, after rotation.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), CriError> {
        self.runtime.clone().reopen_container_log(timed(ReopenContainerLogRequest { container_id: id.into() }, TIMEOUT)).await?;
        Ok(())
    }

    /// Runs a command in a container and waits for it. `None` waits for ever.
    ///
    /// # Errors
    /// `is_timeout` when the command took longer than `timeout`.
    pub async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Option<Duration>) -> Result<ExecSyncResponse, CriError> {
        // CRI counts whole seconds and 0 means for ever, so a shorter timeout is rounded up.
        let seconds = timeout.map_or(0, |t| i64::try_from(t.as_secs_f64().ceil().max(1.0) as u64).unwrap_or(i64::MAX));
        let mut request = tonic::Request::new(ExecSyncRequest { container_id: id.into(), cmd: command, timeout: seconds });
        if let Some(timeout) = timeout {
            // The runtime should end it by itself; this only guards against one that hangs.
            request.set_timeout(timeout.saturating_add(Duration::from_secs(120)).min(LONGEST));
        }
        Ok(self.runtime.clone().exec_sync(request).await?.into_inner())
    }

    /// Prepares a streaming exec; gives the URL of the runtime's streaming server.
    pub async fn exec(&self, request: ExecRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().exec(timed(request, TIMEOUT)).await?.into_inner().url)
    }

    /// Prepares a streaming attach; gives the URL of the runtime's streaming server.
    pub async fn attach(&self, request: AttachRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().attach(timed(request, TIMEOUT)).await?.into_inner().url)
    }

    /// Prepares a port-forward; gives the URL of the runtime's streaming server.
    pub async fn port_forward(&self, sandbox: &str, ports: Vec<i32>) -> Result<String, CriError> {
        let request = PortForwardRequest { pod_sandbox_id: sandbox.into(), port: ports };
        Ok(self.runtime.clone().port_forward(timed(request, TIMEOUT)).await?.into_inner().url)
    }

    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats, CriError> {
        let answer = self.runtime.clone().container_stats(timed(ContainerStatsRequest { container_id: id.into() }, TIMEOUT)).await?.into_inner();
        answer.stats.ok_or(CriError::Empty("ContainerStats"))
    }

    pub async fn list_container_stats(&self, filter: ContainerStatsFilter) -> Result<Vec<ContainerStats>, CriError> {
        let request = ListContainerStatsRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_container_stats(timed(request, TIMEOUT)).await?.into_inner().stats)
    }

    /// Statistics of whole pods. `is_unimplemented` on runtimes that are too old.
    pub async fn list_pod_sandbox_stats(&self, filter: PodSandboxStatsFilter) -> Result<Vec<PodSandboxStats>, CriError> {
        let request = ListPodSandboxStatsRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_pod_sandbox_stats(timed(request, TIMEOUT)).await?.into_inner().stats)
    }

    /// The runtime's container events as they come. `is_unimplemented` on runtimes that are too old.
    pub async fn container_events(&self) -> Result<tonic::Streaming<ContainerEventResponse>, CriError> {
        Ok(self.runtime.clone().get_container_events(GetEventsRequest {}).await?.into_inner())
    }

    pub async fn list_images(&self) -> Result<Vec<Image>, CriError> {
        Ok(self.images.clone().list_images(timed(ListImagesRequest { filter: None }, TIMEOUT)).await?.into_inner().images)
    }

    /// An image by name or id, `None` when it is not on the node.
    pub async fn image_status(&self, image: &str) -> Result<Option<Image>, CriError> {
        let request = ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        Ok(self.images.clone().image_status(timed(request, TIMEOUT)).await?.into_inner().image)
    }

    /// Pulls an image; gives its id. It takes as long as it takes.
    pub async fn pull_image(&self, image: &str, auth: Option<AuthConfig>, sandbox_config: Option<PodSandboxConfig>) -> Result<String, CriError> {
        let request = PullImageRequest { image: Some(image_spec(image)), auth, sandbox_config };
        Ok(self.images.clone().pull_image(request).await?.into_inner().image_ref)
    }

    /// Removes an image and all its names. Idempotent.
    pub async fn remove_image(&self, image: &str) -> Result<(), CriError> {
        self.images.clone().remove_image(timed(RemoveImageRequest { image: Some(image_spec(image)) }, TIMEOUT)).await?;
        Ok(())
    }

    /// Use of the file systems that hold images.
    pub async fn image_fs_info(&self) -> Result<Vec<FilesystemUsage>, CriError> {
        Ok(self.images.clone().image_fs_info(timed(ImageFsInfoRequest {}, TIMEOUT)).await?.into_inner().image_filesystems)
    }
}

/// gRPC writes timeouts with eight digits; this stays below.
const LONGEST: Duration = Duration::from_secs(90_000_000);

/// An image named as the user wrote it.
pub fn image_spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.into(), user_specified_image: image.into(), ..Default::default() }
}
