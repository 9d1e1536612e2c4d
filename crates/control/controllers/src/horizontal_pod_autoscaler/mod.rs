//! HorizontalPodAutoscaler: scales a workload by what its pods use.
mod behavior;
mod facts;
mod other_metrics;
mod reconcile;
mod replicas;
#[cfg(test)]
mod settling;
#[cfg(test)]
mod tests;

use crate::discovery::ServedResource;
use api_meta::{ClusterName, LabelSelector, split_api_version};
use behavior::Memory;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Recorder, Runner, async_trait};
use facts::{Facts, PodMetricsList, Scale, ScaleObject};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use k8s_openapi::api::core::v1::Pod;
use other_metrics::{Answer, CUSTOM_VERSIONS, Question, ValueList};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
pub use reconcile::{Action, World};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

pub struct HorizontalPodAutoscaling {
    kit: Kit,
    autoscalers: Objects<HorizontalPodAutoscaler>,
    pods: Objects<Pod>,
    events: Recorder,
    known: Mutex<HashMap<ObjectKey, Known>>,
}

/// What is known of an autoscaler besides its object. A start begins without: the first decision is the metrics' own.
#[derive(Clone, Default)]
struct Known {
    facts: Option<Facts>,
    memory: Memory,
}

pub fn runner(kit: &Kit) -> Runner<HorizontalPodAutoscaling> {
    let (autoscalers, pods) = (kit.objects::<HorizontalPodAutoscaler>(), kit.objects::<Pod>());
    let controller = HorizontalPodAutoscaling {
        kit: kit.clone(),
        autoscalers: autoscalers.clone(),
        pods: pods.clone(),
        events: kit.recorder("horizontal-pod-autoscaler"),
        known: Mutex::default(),
    };
    Runner::new(controller).needs(&pods).watch_own(&autoscalers)
}

impl HorizontalPodAutoscaling {
    fn change_known(&self, key: &ObjectKey, change: impl FnOnce(&mut Known)) {
        change(self.known.lock().expect("no holder of this lock panics").entry(key.clone()).or_default());
    }

    async fn scale(&self, key: &ObjectKey, target: &CrossVersionObjectReference) -> Result<Scale, Error> {
        let path = self.scale_path(key, target).await?;
        Ok(self.get::<ScaleObject>(&key.cluster, path).await?.into())
    }

    /// The path of a target's scale; which resource a kind is, the API tells.
    async fn scale_path(&self, key: &ObjectKey, target: &CrossVersionObjectReference) -> Result<String, Error> {
        let api_version = target.api_version.as_deref().unwrap_or("v1");
        let (group, version) = split_api_version(api_version);
        let plural = self.plural(key, api_version, &target.kind).await?;
        let served = ServedResource { group: group.into(), version: version.into(), plural, kind: target.kind.clone(), namespaced: true, verbs: Vec::new() };
        Ok(format!("{}/{}/scale", served.path(&key.namespace), target.name))
    }

    async fn plural(&self, key: &ObjectKey, api_version: &str, kind: &str) -> Result<String, Error> {
        let (group, version) = split_api_version(if api_version.is_empty() { "v1" } else { api_version });
        let client = self.kit.clients().cluster(&key.cluster);
        let listed = match group {
            "" => client.list_core_api_resources(version).await?,
            _ => client.list_api_group_resources(&format!("{group}/{version}")).await?,
        };
        let found = listed.resources.into_iter().find(|resource| resource.kind == kind && !resource.name.contains('/'));
        found.map(|resource| resource.name).ok_or_else(|| Error::NotYet(format!("no matches for kind {kind:?} in group {group:?}")))
    }

    async fn get<T: DeserializeOwned>(&self, cluster: &ClusterName, path: String) -> Result<T, Error> {
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| Error::Request(Box::new(error)))?;
        Ok(self.kit.clients().cluster(cluster).request(request).await?)
    }

    async fn measure(&self, key: &ObjectKey, autoscaler: &HorizontalPodAutoscaler) -> Facts {
        let target = &autoscaler.spec.scale_target_ref;
        let scale = self.scale(key, target).await.map_err(|error| error.to_string());
        let selector = scale.as_ref().map(|scale| scale.selector.clone()).unwrap_or_default();
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods?labelSelector={}", key.namespace, utf8_percent_encode(&selector, NON_ALPHANUMERIC));
        let listed: Result<PodMetricsList, Error> = self.get(&key.cluster, path).await;
        let usage = listed.map(PodMetricsList::usage).map_err(|error| format!("unable to fetch metrics from resource metrics API: {error}"));
        let questions = autoscaler.spec.metrics.iter().flatten().filter_map(|metric| Question::of(metric, &selector));
        let mut others = BTreeMap::new();
        for question in questions {
            let answer = self.ask(key, &question).await;
            others.insert(question, answer);
        }
        Facts { taken: self.kit.now(), scale, usage, others }
    }

    async fn ask(&self, key: &ObjectKey, question: &Question) -> Answer {
        let api = if question.is_external() { "external" } else { "custom" };
        let asked = async {
            let version = if question.is_external() { "v1beta1" } else { self.custom_version(&key.cluster).await? };
            let resource = match question {
                Question::Object { kind, api_version, .. } if kind != "Namespace" => self.resource(key, api_version, kind).await?,
                _ => String::new(),
            };
            self.get::<ValueList>(&key.cluster, question.path(&key.namespace, version, &resource)).await
        };
        let listed = asked.await.map_err(|error| format!("unable to fetch metrics from {api} metrics API: {error}"))?;
        Ok(listed.values(self.kit.now()))
    }

    /// The best version of custom.metrics.k8s.io that is served.
    async fn custom_version(&self, cluster: &ClusterName) -> Result<&'static str, Error> {
        let groups = self.kit.clients().cluster(cluster).list_api_groups().await?;
        let custom = groups.groups.into_iter().find(|group| group.name == "custom.metrics.k8s.io");
        let served = |wanted: &&str| custom.iter().flat_map(|group| &group.versions).any(|version| version.version == *wanted);
        let best = CUSTOM_VERSIONS.into_iter().find(|version| served(version));
        best.ok_or_else(|| Error::NotYet("no known available metric versions found".into()))
    }

    /// The resource a kind is, with its group: `deployments.apps`.
    async fn resource(&self, key: &ObjectKey, api_version: &str, kind: &str) -> Result<String, Error> {
        let (group, _) = split_api_version(api_version);
        let plural = self.plural(key, api_version, kind).await?;
        Ok(if group.is_empty() { plural } else { format!("{plural}.{group}") })
    }
}

#[async_trait]
impl Controller for HorizontalPodAutoscaling {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "horizontal-pod-autoscaler-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let Some(autoscaler) = self.autoscalers.get(key) else {
            self.known.lock().expect("no holder of this lock panics").remove(key);
            return None;
        };
        let Known { facts, memory } = self.known.lock().expect("no holder of this lock panics").get(key).cloned().unwrap_or_default();
        let selector = facts.as_ref().and_then(|facts| facts.scale.as_ref().ok()).and_then(|scale| LabelSelector::parse(&scale.selector).ok());
        let mut pods: Vec<Arc<Pod>> = match &selector {
            Some(_) => self.pods.list(&key.cluster, Some(&key.namespace)),
            None => Vec::new(),
        };
        pods.retain(|pod| selector.as_ref().is_some_and(|selector| selector.matches(&pod.metadata.labels)));
        Some(World { autoscaler, facts, pods, memory, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(autoscaler) = self.autoscalers.get(key) else { return Ok(()) };
        let target = &autoscaler.spec.scale_target_ref;
        match action {
            Action::Measure => {
                let facts = self.measure(key, &autoscaler).await;
                self.change_known(key, |known| known.facts = Some(facts));
            }
            Action::Remember(memory) => self.change_known(key, |known| known.memory = memory),
            Action::Scale { replicas, reason } => {
                let path = self.scale_path(key, target).await?;
                let body = serde_json::to_vec(&json!({"spec": {"replicas": replicas}}))?;
                let request = http::Request::patch(path).header(http::header::CONTENT_TYPE, "application/merge-patch+json").body(body);
                let request = request.map_err(|error| Error::Request(Box::new(error)))?;
                let scaled: Result<serde_json::Value, Error> = self.kit.clients().cluster(&key.cluster).request(request).await.map_err(Error::from);
                if let Err(error) = scaled {
                    self.events.warning(&key.cluster, &*autoscaler, "FailedRescale", format!("New size: {replicas}; reason: {reason}; error: {error}"));
                    return Err(error);
                }
            }
            Action::SetStatus(status) => {
                self.autoscalers.replace_status(&key.cluster, &HorizontalPodAutoscaler { status: Some(*status), ..(*autoscaler).clone() }).await?;
            }
            Action::Tell { warning: true, reason, message } => self.events.warning(&key.cluster, &*autoscaler, reason, message),
            Action::Tell { warning: false, reason, message } => self.events.normal(&key.cluster, &*autoscaler, reason, message),
        }
        Ok(())
    }
}
