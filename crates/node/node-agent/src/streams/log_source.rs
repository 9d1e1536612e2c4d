//! Log sources: which of a container's runs a log request means, from its status. Pure.
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

/// The runtime's id of the run whose log is meant, or upstream's reason why there is none.
pub fn container_id(pod: &Pod, container: &str, previous: bool) -> Result<String, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let place = format!("container \"{container}\" in pod \"{name}\"");
    let Some(status) = container_status(pod, container) else { return Err(format!("{place} is not available")) };
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let (waiting, running, terminated) = match &status.state {
        Some(state) => (state.waiting.as_ref(), state.running.as_ref(), state.terminated.as_ref()),
        None => (None, None, None),
    };
    if previous {
        return last.and_then(own_id).ok_or_else(|| format!("previous terminated {place} not found"));
    }
    if running.is_some() {
        return status.container_id.as_deref().and_then(runtime_id).ok_or_else(|| format!("{place} is not available"));
    }
    if let Some(terminated) = terminated {
        // Without an id of its own, the run never came to be: the one before it is meant.
        return own_id(terminated).or_else(|| last.and_then(own_id)).ok_or_else(|| format!("{place} is terminated"));
    }
    if let Some(last) = last {
        return own_id(last).ok_or_else(|| format!("{place} is terminated"));
    }
    Err(match waiting.map(|waiting| waiting.reason.as_deref().unwrap_or_default()) {
        Some("ErrImagePull") => format!("{place} is waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => format!("{place} is waiting to start: trying and failing to pull image"),
        Some(reason) => format!("{place} is waiting to start: {reason}"),
        None => format!("{place} is waiting to start - no logs yet"),
    })
}

/// A container's status, of whatever kind the container is.
pub fn container_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == container)
}

/// `containerd://ab12` is `ab12`.
pub fn runtime_id(id: &str) -> Option<String> {
    let id = id.split_once("://").map_or(id, |(_, id)| id);
    (!id.is_empty()).then(|| id.to_owned())
}

fn own_id(terminated: &ContainerStateTerminated) -> Option<String> {
    runtime_id(terminated.container_id.as_deref()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(status: Value, previous: bool) -> Result<String, String> {
        let mut status = status;
        status["name"] = json!("c");
        for field in ["image", "imageID"] {
            status[field] = json!("");
        }
        (status["ready"], status["restartCount"]) = (json!(true), json!(0));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"initContainerStatuses": [status]}})).unwrap();
        container_id(&pod, "c", previous)
    }

    #[test]
    fn the_run_meant_depends_on_the_state() {
        let ran = |id: &str| json!({"terminated": {"exitCode": 0, "containerID": id}});
        assert_eq!(check(json!({"state": {"running": {}}, "containerID": "containerd://now", "lastState": ran("containerd://old")}), false).unwrap(), "now");
        assert_eq!(check(json!({"state": {"running": {}}, "containerID": "containerd://now", "lastState": ran("containerd://old")}), true).unwrap(), "old");
        assert_eq!(check(json!({"state": ran("containerd://done")}), false).unwrap(), "done");
        assert_eq!(check(json!({"state": ran(""), "lastState": ran("containerd://old")}), false).unwrap(), "old");
        assert_eq!(check(json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ran("containerd://old")}), false).unwrap(), "old");
    }

    #[test]
    fn reasons_are_upstreams() {
        let place = "container \"c\" in pod \"p\"";
        let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
        assert_eq!(check(waiting("ContainerCreating"), false).unwrap_err(), format!("{place} is waiting to start: ContainerCreating"));
        assert_eq!(check(waiting("ErrImagePull"), false).unwrap_err(), format!("{place} is waiting to start: image can't be pulled"));
        assert_eq!(check(waiting("ImagePullBackOff"), false).unwrap_err(), format!("{place} is waiting to start: trying and failing to pull image"));
        assert_eq!(check(json!({"state": {"running": {}}}), true).unwrap_err(), format!("previous terminated {place} not found"));
        assert_eq!(check(json!({}), false).unwrap_err(), format!("{place} is waiting to start - no logs yet"));
        assert_eq!(container_id(&Pod::default(), "c", false).unwrap_err(), "container \"c\" in pod \"\" is not available");
    }
}
