//! The other effects of a plan: sandboxes, ending containers, cleaning up.
use super::identity::PodId;
use super::paths::PodPaths;
use super::plan::{Kill, remaining_grace};
use super::resources::pod_resources;
use super::runtime_state::PodRuntime;
use super::start::{container_of, sandbox_config_of};
use super::worker::PodMessage;
use crate::context::AgentContext;
use crate::events::EventType;
use crate::probe::{ActionTarget, run_hook};
use crate::{ExpectedPod, PodNetwork};
use cri::CriError;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::Api;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc::UnboundedSender, watch};

/// Makes and starts a sandbox; gives its id. The error is the text of an event.
pub async fn create_sandbox(context: &AgentContext, id: &PodId, pod: &Pod, attempt: u32, owner: &UnboundedSender<PodMessage>) -> Result<String, String> {
    let paths = PodPaths::new(&context.settings.data_dir, id, pod);
    std::fs::create_dir_all(&paths.logs).map_err(|error| format!("failed to create pod log directory: {error}"))?;
    let config = sandbox_config_of(context, id, pod, attempt);
    let cgroup = context.cgroups.path_of(id, pod);
    if let Err(error) = context.cgroups.create(&cgroup, &pod_resources(pod)) {
        return Err(format!("failed to ensure that the pod: {} cgroups exist and are correctly applied: {error}", id.uid));
    }
    let handler = runtime_handler(context, id, pod).await?;
    let told = tell_network(context, id, pod)?;
    let sandbox = context.runtime.run_pod_sandbox(config, &handler).await.map_err(|error| error.to_string())?;
    drop(told);
    context.table.own(&sandbox, owner);
    Ok(sandbox)
}

/// What the pod network was told of a pod; it may forget that when this is dropped.
struct Told {
    network: Arc<dyn PodNetwork>,
    uid: Arc<str>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.network.forget(&self.uid);
    }
}

/// Tells the pod network which cluster the pod is of. A virtual cluster's pod waits until its cluster's number and DNS
/// are known: it must never be taken for another's, or ask another's names.
fn tell_network(context: &AgentContext, id: &PodId, pod: &Pod) -> Result<Option<Told>, String> {
    let cluster = &id.cluster;
    let number = match &context.clusters {
        Some(clusters) => clusters.number_of(cluster),
        None => cluster.is_root().then_some(0),
    };
    let number = number.ok_or_else(|| format!("cluster {cluster} has no address on this node yet"))?;
    if number != 0 && context.cluster_dns_of(id).is_none() {
        return Err(format!("cluster {cluster} has no DNS Service yet"));
    }
    let Some(network) = context.settings.pod_network.clone() else {
        // Then pods of the host cluster are all the network knows.
        return if number == 0 { Ok(None) } else { Err(format!("the pod network of this node keeps no clusters apart, so no pod of {cluster} can run here")) };
    };
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let expected = ExpectedPod { uid: &id.uid, cluster, number, namespace, labels: &labels };
    network.expect(&expected).map_err(|error| format!("failed to tell the pod network of the pod: {error}"))?;
    Ok(Some(Told { network, uid: id.uid.clone() }))
}

async fn runtime_handler(context: &AgentContext, id: &PodId, pod: &Pod) -> Result<String, String> {
    let Some(name) = super::containers::spec(pod).runtime_class_name.as_deref().filter(|name| !name.is_empty()) else { return Ok(String::new()) };
    let api: Api<RuntimeClass> = Api::all(context.client(id));
    let class = api.get(name).await.map_err(|error| format!("failed to get sandbox runtime: {}", volumes_message(&error)))?;
    Ok(class.handler)
}

fn volumes_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Ends a container: preStop, its turn among sidecars, the signal.
pub async fn kill(
    context: Arc<AgentContext>,
    id: PodId,
    pod: Arc<Pod>,
    address: String,
    kill: Kill,
    mut running: watch::Receiver<BTreeSet<String>>,
) -> Result<(), CriError> {
    context.events.container(&id.cluster, &pod, &kill.container, EventType::Normal, "Killing", kill.message.clone());
    let begun = context.clock.instant();
    let used = || context.clock.instant().duration_since(begun);
    let container = container_of(&pod, &kill.container);
    let pre_stop = container.as_ref().and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.pre_stop.clone());
    if let (Some(container), Some(handler)) = (container, pre_stop)
        && !kill.grace.is_zero()
    {
        let target = ActionTarget { runtime: context.runtime.clone(), container_id: kill.id.clone(), container, address };
        let hook = run_hook(&target, &pod, &handler, Some(kill.grace));
        match tokio::time::timeout(kill.grace, hook).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(pod = %id, container = kill.container, %error, "a preStop hook failed");
                context.events.container(&id.cluster, &pod, &kill.container, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => context.events.container(&id.cluster, &pod, &kill.container, EventType::Warning, "FailedPreStopHook", "PreStopHook failed"),
        }
    }
    let turn = running.wait_for(|running| !kill.after.iter().any(|id| running.contains(id)));
    // When the grace is over its turn has come anyway.
    let _ = tokio::time::timeout(kill.grace.saturating_sub(used()), turn).await;
    match context.runtime.stop_container(&kill.id, remaining_grace(kill.grace, used())).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Takes away what a pod holds beside its records: volumes, devices and cgroup.
pub async fn clean_up(context: &AgentContext, id: &PodId, pod: &Pod) -> Result<(), String> {
    context.volumes.unmount(&id.cluster, &id.uid).await.map_err(|error| error.to_string())?;
    context.devices.unprepare(&id.uid).await?;
    context.cgroups.remove(&context.cgroups.path_of(id, pod));
    Ok(())
}

/// Removes everything the runtime and the disk keep of a pod that is gone.
pub async fn forget(context: &AgentContext, id: &PodId, pod: &Pod, runtime: &PodRuntime) {
    for sandbox in &runtime.sandboxes {
        remove_sandbox(context, &sandbox.id).await;
        context.table.disown(&sandbox.id);
    }
    for container in &runtime.containers {
        context.table.disown(&container.id);
    }
    context.cgroups.remove(&context.cgroups.path_of(id, pod));
    let paths = PodPaths::new(&context.settings.data_dir, id, pod);
    for dir in [&paths.logs, &paths.files] {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => tracing::warn!(dir = %dir.display(), %error, "a pod's files can't be removed"),
            _ => {}
        }
    }
}

/// Stops and removes a sandbox with all its containers. Returns whether it is gone.
pub async fn remove_sandbox(context: &AgentContext, id: &str) -> bool {
    for attempt in 0..REMOVAL_TRIES {
        let removed = match context.runtime.stop_pod_sandbox(id).await {
            Ok(()) => context.runtime.remove_pod_sandbox(id).await,
            Err(error) => Err(error),
        };
        let Err(error) = removed else { return true };
        // The answer may speak of one of its containers.
        if context.runtime.pod_sandbox_status(id).await.is_err_and(|error| error.is_not_found()) {
            return true;
        }
        if attempt + 1 == REMOVAL_TRIES {
            tracing::warn!(sandbox = id, %error, "a sandbox can't be removed");
        } else {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }
    false
}

const REMOVAL_TRIES: usize = 3;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);
