//! The columns of Pods: readiness, one word for the state of all containers, restarts.
use crate::cells::{NONE, condition_is_true, text_or};
use crate::fields::Read;
use api_resource::{Column, Row, age};
use serde_json::Value;

pub const COLUMNS: &[Column] = &[
    Column::with("Ready", |row| {
        let summary = Summary::of(row.object);
        format!("{}/{}", summary.ready, summary.containers).into()
    }),
    Column::with("Status", |row| Summary::of(row.object).reason.into()),
    Column::with("Restarts", restarts),
    Column::with("IP", |row| text_or(&row.object["status"]["podIPs"][0]["ip"], NONE)).wide(),
    Column::with("Node", |row| text_or(&row.object["spec"]["nodeName"], NONE)).wide(),
    Column::with("Nominated Node", |row| text_or(&row.object["status"]["nominatedNodeName"], NONE)).wide(),
    Column::with("Readiness Gates", readiness_gates).wide(),
];

/// What a row says of a pod's containers.
struct Summary<'a> {
    containers: usize,
    ready: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<&'a str>,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let phase = status["phase"].text();
        let mut summary = Self {
            containers: spec["containers"].list().len(),
            ready: 0,
            reason: if status["reason"].text().is_empty() { phase } else { status["reason"].text() }.to_owned(),
            restarts: 0,
            last_restart: None,
        };
        if status["conditions"].list().iter().any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated") {
            summary.reason = "SchedulingGated".into();
        }
        let sidecars: Vec<&str> =
            spec["initContainers"].list().iter().filter(|container| container["restartPolicy"] == "Always").map(|container| container["name"].text()).collect();
        summary.containers += sidecars.len();

        let sidecar_restarts = summary.initialization(status, &sidecars, spec["initContainers"].list().len());
        if let Some((restarts, last_restart)) = sidecar_restarts {
            (summary.restarts, summary.last_restart) = (restarts, last_restart);
            summary.running(pod);
        }
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            if status["reason"] == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    /// Looks at the init containers; gives the restarts of sidecars if the containers' turn has come.
    fn initialization(&mut self, status: &'a Value, sidecars: &[&str], count: usize) -> Option<(i64, Option<&'a str>)> {
        let mut of_sidecars = (0, None);
        let mut initializing = false;
        for (index, container) in status["initContainerStatuses"].list().iter().enumerate() {
            let restarts = container["restartCount"].int().unwrap_or_default();
            let finished = container["lastState"]["terminated"]["finishedAt"].as_str();
            let is_sidecar = sidecars.contains(&container["name"].text());
            self.restarts += restarts;
            self.last_restart = later(self.last_restart, finished);
            if is_sidecar {
                of_sidecars = (of_sidecars.0 + restarts, later(of_sidecars.1, finished));
            }
            let (terminated, waiting) = (&container["state"]["terminated"], container["state"]["waiting"]["reason"].text());
            if terminated.is_set() && terminated["exitCode"].int().unwrap_or_default() == 0 {
                continue;
            }
            if is_sidecar && container["started"].flag() {
                self.ready += usize::from(container["ready"].flag());
                continue;
            }
            self.reason = if terminated.is_set() {
                format!("Init:{}", termination(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{count}")
            };
            initializing = true;
            break;
        }
        let initialized = status["conditions"].list().iter().any(|condition| condition["type"] == "Initialized" && condition["status"] == "True");
        (!initializing || initialized).then_some(of_sidecars)
    }

    fn running(&mut self, pod: &'a Value) {
        let mut any_runs = false;
        for container in pod["status"]["containerStatuses"].list().iter().rev() {
            self.restarts += container["restartCount"].int().unwrap_or_default();
            self.last_restart = later(self.last_restart, container["lastState"]["terminated"]["finishedAt"].as_str());
            let (state, waiting) = (&container["state"], container["state"]["waiting"]["reason"].text());
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if state["terminated"].is_set() {
                self.reason = termination(&state["terminated"]);
            } else if container["ready"].flag() && state["running"].is_set() {
                any_runs = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && any_runs {
            self.reason = if condition_is_true(pod, "Ready") { "Running" } else { "NotReady" }.into();
        }
    }
}

/// Why a container ended: its reason, else the signal, else the exit code.
fn termination(terminated: &Value) -> String {
    match (terminated["reason"].text(), terminated["signal"].int().unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", terminated["exitCode"].int().unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// The later of two times; RFC 3339 in UTC orders as text does.
fn later<'a>(one: Option<&'a str>, other: Option<&'a str>) -> Option<&'a str> {
    one.max(other)
}

fn restarts(row: &Row) -> Value {
    let summary = Summary::of(row.object);
    match summary.last_restart {
        Some(last) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, age(Some(last), row.now)),
        _ => summary.restarts.to_string(),
    }
    .into()
}

fn readiness_gates(row: &Row) -> Value {
    let gates = row.object["spec"]["readinessGates"].list();
    if gates.is_empty() {
        return NONE.into();
    }
    let open = gates.iter().filter(|gate| condition_is_true(row.object, gate["conditionType"].text())).count();
    format!("{open}/{}", gates.len()).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(pod: &Value) -> String {
        let row = Row { object: pod, now: "2026-01-01T01:00:00Z".parse().unwrap() };
        COLUMNS
            .iter()
            .take(3)
            .map(|column| match column.cell {
                api_resource::BuiltinCell::With(cell) => cell(&row).as_str().unwrap().to_owned(),
                api_resource::BuiltinCell::Path(_) => unreachable!("these columns compute"),
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn rows_read_as_kubectl_prints_them() {
        let pod = |spec: Value, status: Value| json!({"metadata": {}, "spec": spec, "status": status});
        let one = json!({"containers": [{"name": "a"}]});
        let init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let container = |state: Value| json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": state}]});
        let init_state = |state: Value| json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": state}]});
        for (pod, want) in [
            (pod(one.clone(), json!({"phase": "Pending"})), "0/1 Pending 0"),
            (pod(one.clone(), json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]})), "1/1 Running 0"),
            (pod(one.clone(), container(json!({"waiting": {"reason": "ContainerCreating"}}))), "0/1 ContainerCreating 0"),
            (pod(one.clone(), container(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}))), "0/1 Completed 0"),
            (pod(one.clone(), container(json!({"terminated": {"exitCode": 3}}))), "0/1 ExitCode:3 0"),
            (pod(one.clone(), container(json!({"terminated": {"exitCode": 137, "signal": 9}}))), "0/1 Signal:9 0"),
            (
                pod(
                    one.clone(),
                    json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}}]}),
                ),
                "0/1 CrashLoopBackOff 4 (5m ago)",
            ),
            (pod(init.clone(), init_state(json!({"waiting": {"reason": "PodInitializing"}}))), "0/2 Init:0/2 0"),
            (pod(init.clone(), init_state(json!({"waiting": {"reason": "ImagePullBackOff"}}))), "0/2 Init:ImagePullBackOff 0"),
            (pod(init.clone(), init_state(json!({"terminated": {"exitCode": 1, "reason": "Error"}}))), "0/2 Init:Error 0"),
            (
                pod(
                    init,
                    json!({"phase": "Running",
                        "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}},
                            {"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
                        "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}),
                ),
                "2/2 Running 1",
            ),
            (json!({"metadata": {"deletionTimestamp": "x"}, "spec": one, "status": {"phase": "Running"}}), "0/1 Terminating 0"),
        ] {
            assert_eq!(row(&pod), want, "{pod}");
        }
    }
}
