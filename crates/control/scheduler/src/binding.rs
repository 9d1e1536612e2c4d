//! Binding: what the scheduler writes: bindings, conditions, nominations, evictions, and events.
use crate::PodInfo;
use controller_kit::{Deletion, Error, EventKind, Kit, ObjectKey, Objects, Occurrence, Preconditions, Recorder, reference, whole_seconds};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

#[derive(Clone)]
pub struct Writer {
    pub kit: Kit,
    pub pods: Objects<Pod>,
    pub events: Recorder,
    pub name: &'static str,
}

impl Writer {
    /// Binds the pod to the node, if it is still the same pod.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), Error> {
        let key = &pod.key;
        let binding = json!({
            "kind": "Binding", "apiVersion": "v1",
            "metadata": {"name": &*key.name, "namespace": &*key.namespace, "uid": pod.uid()},
            "target": {"kind": "Node", "name": node}
        });
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", key.namespace, key.name);
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json").body(serde_json::to_vec(&binding)?);
        let request = request.map_err(|error| Error::Request(Box::new(error)))?;
        self.kit.clients().cluster(&key.cluster).request::<Value>(request).await?;
        self.tell(&pod.key, &pod.pod, EventKind::Normal, "Scheduled", "Binding", format!("Successfully assigned {}/{} to {node}", key.namespace, key.name));
        Ok(())
    }

    pub fn failed(&self, pod: &PodInfo, message: String) {
        self.tell(&pod.key, &pod.pod, EventKind::Warning, "FailedScheduling", "Scheduling", message);
    }

    /// Writes PodScheduled=False with this reason, unless it is there already.
    pub async fn refuse(&self, key: &ObjectKey, reason: &str, message: &str, nominated: Option<&str>) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let status = pod.status.clone().unwrap_or_default();
        let mut conditions = status.conditions.unwrap_or_default();
        let old = conditions.iter().find(|condition| condition.type_ == "PodScheduled").cloned();
        let transition = old.as_ref().filter(|old| old.status == "False").and_then(|old| old.last_transition_time.clone());
        let new = PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(transition.unwrap_or_else(|| whole_seconds(self.kit.now()))),
            observed_generation: old.as_ref().and_then(|old| old.observed_generation),
            last_probe_time: None,
        };
        let nominated = nominated.filter(|node| status.nominated_node_name.as_deref() != Some(node));
        if old.as_ref() == Some(&new) && nominated.is_none() {
            return Ok(());
        }
        conditions.retain(|condition| condition.type_ != "PodScheduled");
        conditions.push(new);
        let mut patch = json!({"status": {"conditions": conditions}});
        if let Some(node) = nominated {
            patch["status"]["nominatedNodeName"] = json!(node);
        }
        self.pods.patch(key, "/status", &patch, &Preconditions::exactly(&pod.metadata)).await?;
        Ok(())
    }

    /// Makes a pod go for a more important one.
    pub async fn evict(&self, victim: &PodInfo, by: &PodInfo, node: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.get(&victim.key).filter(|pod| pod.metadata.uid == victim.pod.metadata.uid && pod.metadata.deletion_timestamp.is_none())
        else {
            return Ok(());
        };
        let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.retain(|condition| condition.type_ != "DisruptionTarget");
        conditions.push(PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some("PreemptionByScheduler".into()),
            message: Some(format!("{}: preempting to accommodate a higher priority pod", self.name)),
            last_transition_time: Some(whole_seconds(self.kit.now())),
            ..Default::default()
        });
        self.pods.patch(&victim.key, "/status", &json!({"status": {"conditions": conditions}}), &Preconditions::exactly(&pod.metadata)).await?;
        self.pods.delete(&victim.key, &Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() }).await?;
        self.tell(&victim.key, &pod, EventKind::Normal, "Preempted", "Preempting", format!("Preempted by pod {} on node {node}", by.uid()));
        Ok(())
    }

    fn tell(&self, key: &ObjectKey, pod: &Pod, kind: EventKind, reason: &str, action: &'static str, message: String) {
        self.events.occurred(Occurrence { cluster: key.cluster.clone(), about: reference(pod), kind, reason: reason.into(), message, action: Some(action) });
    }
}
