//! The agent as a whole: brings everything up, runs it, and takes it down as asked.
use crate::AgentError;
use crate::backend::AgentBackend;
use crate::cgroup::Cgroups;
use crate::containerd::{ContainerdProcess, ContainerdSettings, import_sandbox_image};
use crate::context::AgentContext;
use crate::devices::{Drivers, NodeDevices, Registration, knows_cdi};
use crate::events::EventRecorder;
use crate::image::ImagePuller;
use crate::machine::{self, Machine};
use crate::node::{NodeReporter, allocatable, capacity};
use crate::pod::dns::{DnsSettings, HostResolver};
use crate::pod::resources::NodeLimits;
use crate::pod_manager::PodManager;
use crate::pod_table::PodTable;
use crate::settings::{AgentSettings, OnShutdown};
use crate::streams::{StreamsServer, StreamsSettings};
use api_cache::{Cache, HostedClusters, Selection, Source};
use api_client::Clients;
use clock::Clock;
use cri::Runtime;
use k8s_openapi::api::core::v1::{Pod, Service};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use volumes::{NodeFacts, VolumeManager};

/// Runs the node until `shutdown` resolves, and then ends as that says.
///
/// `clients` writes to the clusters of the pods, `source` gives pods and Services of all clusters. Dropping
/// the future is like being killed: pods run on.
pub async fn run(
    settings: AgentSettings,
    clients: Arc<dyn Clients>,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = OnShutdown> + Send,
) -> Result<(), AgentError> {
    let (process, runtime, socket) = connect(&settings).await?;
    let context = Arc::new(context(settings, runtime, clients, &*source, clock).await?);
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let server = serve(&context, stop.clone()).await?;

    let mut reporter = NodeReporter::new(context.clone());
    let registration = {
        let (context, stop) = (context.clone(), stop.clone());
        tokio::spawn(async move {
            // Environments name Services: none may start before they are known.
            context.services.synced().await;
            reporter.register(&stop).await?;
            reporter.run(stop).await;
            Ok::<_, AgentError>(())
        })
    };
    let mut registration = tokio_util::task::AbortOnDropHandle::new(registration);

    let others = Arc::new(Registration(context.devices.drivers.clone()));
    context.volumes.accept_drivers(&context.settings.node_name, others).map_err(AgentError::Volumes)?;
    let mut manager = PodManager::new(context.clone(), socket);
    let (ended, failure) = {
        let pods = async {
            context.services.synced().await;
            if let Some(clusters) = &context.clusters {
                clusters.synced().await;
            }
            manager.run(process.clone(), stop.clone()).await;
        };
        tokio::pin!(pods, shutdown);
        tokio::select! {
            // A server that is away may keep everything else waiting.
            how = &mut shutdown => (how, None),
            () = &mut pods => (OnShutdown::LeavePods, None),
            registered = &mut registration => match registered {
                Ok(Err(error)) => (OnShutdown::LeavePods, Some(error)),
                _ => (OnShutdown::LeavePods, None),
            },
        }
    };
    stop.cancel();
    // It ends by itself once told; how it ended was told above.
    let _ = server.await;
    if let OnShutdown::StopPods { grace } = ended {
        manager.stop_all(grace).await;
        context.cgroups.remove_all();
        if let Some(process) = process {
            process.stop().await;
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The runtime: the one the settings name, or a containerd of our own.
async fn connect(settings: &AgentSettings) -> Result<(Option<ContainerdProcess>, Runtime, PathBuf), AgentError> {
    if let Some(socket) = &settings.container_runtime_endpoint {
        let runtime = Runtime::connect(socket).await?;
        runtime.version().await?;
        return Ok((None, runtime, socket.clone()));
    }
    let containerd = ContainerdSettings::under(&settings.data_dir, settings.cni_bin_dir.clone(), settings.cni_conf_dir.clone());
    let (process, runtime) = ContainerdProcess::ensure(containerd).await?;
    let socket = process.settings().socket();
    import_sandbox_image(&runtime, &socket).await.map_err(AgentError::SandboxImage)?;
    Ok((Some(process), runtime, socket))
}

async fn context(
    settings: AgentSettings,
    runtime: Runtime,
    clients: Arc<dyn Clients>,
    source: &dyn Source,
    clock: Arc<dyn Clock>,
) -> Result<AgentContext, AgentError> {
    let data_dir = &settings.data_dir;
    for dir in [data_dir.clone(), crate::pod::paths::logs_root(data_dir), crate::pod::paths::files_root(data_dir)] {
        std::fs::create_dir_all(&dir).map_err(AgentError::file(&dir))?;
    }
    let machine = Machine::read()?;
    let cgroups = Cgroups::new(&settings.cgroup_parent);
    let least_oom_score = if machine::may_lower_oom_score() { -1000 } else { machine::own_oom_score_adj() };
    let limits = NodeLimits { memory: machine.memory, least_oom_score, unified_cgroups: cgroups.is_unified() };
    let allocatable = allocatable(&capacity(&machine, machine::file_system(data_dir), settings.max_pods), &settings);
    let dns = DnsSettings {
        cluster_dns: settings.cluster_dns.clone(),
        cluster_domain: settings.cluster_domain.clone(),
        host: HostResolver::parse(&std::fs::read_to_string(&settings.resolv_conf).unwrap_or_default()),
    };
    if !settings.pod_cidrs.is_empty()
        && let Err(error) = runtime.update_runtime_config(settings.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")).await
    {
        tracing::debug!(%error, "the runtime does not take the pods' range");
    }
    let version = runtime.version().await?;
    let drivers = Drivers::new(clients.clone(), &settings.node_name);
    let devices = NodeDevices::new(data_dir, drivers, knows_cdi(&version.runtime_name, &version.runtime_version));
    let selection = Selection { fields: Some(format!("spec.nodeName={}", settings.node_name)), ..Selection::of::<Pod>("pods") };
    Ok(AgentContext {
        volumes: VolumeManager::new(data_dir, clients.clone(), clock.clone()).map_err(AgentError::Volumes)?,
        devices: Arc::new(devices.map_err(AgentError::file(&data_dir.join("dra")))?),
        events: EventRecorder::start(clients.clone(), clock.clone(), settings.node_name.clone()),
        pods: Cache::start(source, selection, &[]),
        services: Cache::start(source, Selection::of::<Service>("services"), &[]),
        clusters: settings.virtual_cluster_cidr.map(|range| HostedClusters::start(source, range)),
        images: ImagePuller::new(runtime.clone()),
        table: PodTable::default(),
        facts: NodeFacts { allocatable },
        cgroups,
        dns,
        limits,
        machine,
        runtime,
        clients,
        clock,
        settings,
    })
}

/// Starts the kubelet server.
async fn serve(context: &Arc<AgentContext>, stop: CancellationToken) -> Result<tokio::task::JoinHandle<()>, AgentError> {
    let settings = &context.settings;
    let streams = StreamsSettings {
        address: settings.streaming_address,
        serving: settings.serving.clone().ok_or(AgentError::NoServingCertificate)?,
        client_ca_pem: settings.client_ca_pem.clone(),
    };
    let backend = Arc::new(AgentBackend::new(context.clone()));
    let server = StreamsServer::bind(streams, backend, context.clock.clone()).await.map_err(|error| AgentError::Server(Box::new(error)))?;
    Ok(tokio::spawn(server.run(stop)))
}
