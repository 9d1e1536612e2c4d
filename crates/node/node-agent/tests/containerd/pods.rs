//! Pods' lives on a node: from bound to gone, with crashes, probes and agents that are killed.
use crate::api::TestApi;
use crate::machine::TestMachine;
use clock::SystemClock;
use node_agent::{AgentError, AgentSettings, OnShutdown};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type RunningAgent = (JoinHandle<Result<(), AgentError>>, oneshot::Sender<OnShutdown>);

struct TestNode {
    machine: TestMachine,
    api: TestApi,
    agent: Option<RunningAgent>,
}

const LIMIT: Duration = Duration::from_secs(60);

impl TestNode {
    async fn start() -> Self {
        let machine = TestMachine::start().await;
        machine.import_busybox().await;
        let mut node = Self { machine, api: TestApi::default(), agent: None };
        node.start_agent();
        node
    }

    fn start_agent(&mut self) {
        let directory = self.machine.dir.path();
        let mut settings = AgentSettings::new("n1", "127.0.0.1".parse().unwrap(), directory);
        settings.streaming_address.set_port(0);
        settings.cgroup_parent = self.machine.cgroup_parent.clone();
        let authority = pki::CertificateAuthority::generate("test", &SystemClock).unwrap();
        let request = pki::LeafRequest {
            common_name: "n1".into(),
            organizations: vec![],
            dns_names: vec![],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            server: true,
            client: false,
            validity: Duration::from_secs(3600),
        };
        let issued = authority.issue(&request, &SystemClock).unwrap();
        settings.serving = Some(pki::Renewable::new(&issued).unwrap());
        settings.client_ca_pem = authority.certificate_pem().to_owned();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap_or(OnShutdown::LeavePods) };
        let (clients, source) = (Arc::new(self.api.clone()), Arc::new(self.api.clone()));
        let agent = tokio::spawn(node_agent::run(settings, clients, source, Arc::new(SystemClock), shutdown));
        self.agent = Some((agent, stop));
    }

    async fn stop_agent(&mut self, how: OnShutdown) {
        let (agent, stop) = self.agent.take().unwrap();
        stop.send(how).unwrap();
        agent.await.unwrap().unwrap();
    }

    /// As with SIGKILL: it stops wherever it is.
    async fn kill_agent(&mut self) {
        let (agent, _stop) = self.agent.take().unwrap();
        agent.abort();
        assert!(agent.await.unwrap_err().is_cancelled());
    }

    fn run(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = json!("n1");
        if spec["hostNetwork"].is_null() {
            spec["hostNetwork"] = json!(true);
        }
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = json!("busybox:test");
                container["imagePullPolicy"] = json!("Never");
            }
        }
        self.api.create("pods", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "generation": 1}, "spec": spec}));
    }

    fn pod(&self, name: &str) -> Option<Value> {
        self.api.get("pods", "default", name)
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                if let Some(pod) = self.pod(name)
                    && holds(&pod)
                {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(pod) => pod,
            Err(_) => panic!("{name} is not {what}: {:#}\n{:#?}", self.pod(name).unwrap_or_default()["status"], self.api.events(name)),
        }
    }

    async fn until_gone(&self, name: &str) {
        let wait = async {
            while self.pod(name).is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{name} is still there: {:#}", self.pod(name).unwrap_or_default()));
    }

    async fn until_nothing_runs(&self) {
        let wait = async {
            while !self.machine.runtime.list_pod_sandboxes(Default::default()).await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("all sandboxes are removed");
    }

    async fn stop(mut self) {
        if self.agent.is_some() {
            self.stop_agent(OnShutdown::LeavePods).await;
        }
        self.machine.stop().await;
    }
}

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn shell(script: &str) -> Value {
    json!(["sh", "-c", script])
}

/// A process that ends on SIGTERM at once.
const SERVE: &str = "trap 'exit 0' TERM; while true; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_goes_from_bound_to_gone_and_leaves_nothing() {
    let mut node = TestNode::start().await;
    node.api.create("configmaps", json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"COLOUR": "blue"}}));
    node.run(
        "web",
        json!({
            "terminationGracePeriodSeconds": 5,
            "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["db"]}],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "initContainers": [
                {"name": "first", "command": shell("echo one > /data/f"), "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                {"name": "helper", "restartPolicy": "Always", "command": shell("touch /data/ready; trap 'exit 0' TERM; while true; do sleep 0.05; done"),
                    "startupProbe": {"exec": {"command": ["test", "-e", "/data/ready"]}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
            ],
            "containers": [{"name": "main", "command": shell(&format!("cat /data/f; echo $(COLOUR) $NAME; id -u; id -G; grep db /etc/hosts; {SERVE}")),
                "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "envFrom": [{"configMapRef": {"name": "settings"}}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]
        }),
    );
    let pod = node.until("web", "ready", is_ready).await;
    let status = &pod["status"];
    assert_eq!((&status["phase"], &status["podIP"], &status["qosClass"]), (&json!("Running"), &json!("127.0.0.1"), &json!("Burstable")));
    assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(status["initContainerStatuses"][1]["started"], true);
    let log_root = node.machine.dir.path().join("logs/pods");
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let log = log_root.join(format!("default_web_{uid}/main/0.log"));
    let text = std::fs::read_to_string(&log).unwrap();
    for want in ["stdout F one", "stdout F blue web", "stdout F 1000", "2000", "192.0.2.9\tdb"] {
        assert!(text.contains(want), "{want} is missing in {text}");
    }
    let reasons: Vec<String> = node.api.events("web").into_iter().map(|(reason, _)| reason).collect();
    for reason in ["Pulled", "Created", "Started"] {
        assert!(reasons.iter().filter(|r| *r == reason).count() >= 3, "{reasons:?}");
    }

    node.api.delete_pod("web", 5);
    node.until_gone("web").await;
    node.until_nothing_runs().await;
    let left = |dir: &str| std::fs::read_dir(node.machine.dir.path().join(dir)).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
    for dir in ["logs/pods", "pod-files", "pods"] {
        let wait = async {
            while !left(dir).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{dir} still holds {:?}", left(dir)));
    }
    let registered = node.api.get("nodes", "", "n1").expect("the node registered");
    assert_eq!(registered["status"]["nodeInfo"]["kubeletVersion"], "v1.37.0");
    assert!(registered["status"]["conditions"].as_array().unwrap().iter().any(|c| c["reason"] == "KubeletHasSufficientMemory"));
    assert!(node.api.get("leases", "kube-node-lease", "n1").is_some());
    node.stop_agent(OnShutdown::StopPods { grace: Duration::from_secs(1) }).await;
    assert!(node.machine.cgroups().is_empty(), "{:?}", node.machine.cgroups());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_restart_as_their_policy_says() {
    let node = TestNode::start().await;
    node.run("crash", json!({"containers": [{"name": "c", "command": shell("echo last words > /dev/termination-log; exit 3")}]}));
    node.run("done", json!({"restartPolicy": "Never", "containers": [{"name": "b", "command": ["true"]}, {"name": "a", "command": ["true"]}]}));
    node.run("failed", json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["false"]}]}));
    node.run(
        "init",
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i", "command": ["false"]}], "containers": [{"name": "c", "command": ["true"]}]}),
    );
    node.run("absent", json!({"containers": [{"name": "c", "command": ["/bin/none"]}]}));
    node.run("late", json!({"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "command": shell(SERVE)}]}));
    node.run("missing", json!({"containers": [{"name": "c", "command": shell(SERVE), "envFrom": [{"secretRef": {"name": "later"}}]}]}));

    let pod = node.until("crash", "backing off", |pod| state(pod)["waiting"]["reason"] == "CrashLoopBackOff").await;
    let status = &pod["status"]["containerStatuses"][0];
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert_eq!(state(&pod)["waiting"]["message"], format!("back-off 10s restarting failed container=c pod=crash_default({uid})"));
    assert_eq!((&status["restartCount"], &status["lastState"]["terminated"]["exitCode"]), (&json!(1), &json!(3)));
    assert_eq!(status["lastState"]["terminated"]["message"], "last words\n");
    assert_eq!(pod["status"]["phase"], "Running");

    let pod = node.until("done", "succeeded", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["name"], "a");
    let ready = pod["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("PodCompleted")));
    node.until("failed", "failed", |pod| pod["status"]["phase"] == "Failed").await;
    let pod = node.until("init", "failed", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    let pod = node.until("late", "over its deadline", |pod| pod["status"]["reason"] == "DeadlineExceeded").await;
    assert_eq!(pod["status"]["phase"], "Failed");

    let waiting = |reason: &'static str| move |pod: &Value| state(pod)["waiting"]["reason"] == reason;
    let pod = node.until("missing", "waiting for its secret", waiting("CreateContainerConfigError")).await;
    assert_eq!(state(&pod)["waiting"]["message"], "secret \"later\" not found");
    node.api.create("secrets", json!({"metadata": {"name": "later", "namespace": "default"}, "data": {}}));
    node.until("missing", "running", |pod| state(pod)["running"].is_object()).await;
    node.until("absent", "failing to run", |pod| !pod["status"]["containerStatuses"][0]["lastState"]["terminated"].is_null()).await;
    let pod = node.pod("absent").unwrap();
    let reasons = ["RunContainerError", "CrashLoopBackOff"];
    assert!(reasons.contains(&state(&pod)["waiting"]["reason"].as_str().unwrap()), "{pod:#}");

    node.api.create("pods", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pull", "namespace": "default"},
        "spec": {"nodeName": "n1", "hostNetwork": true, "containers": [
            {"name": "never", "image": "none:1", "imagePullPolicy": "Never"}, {"name": "pull", "image": "127.0.0.1:1/none:1"}, {"name": "bad", "image": "Bad Name"}]}}));
    let reason = |pod: &Value, name: &str| {
        let list = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        list.iter().find(|c| c["name"] == name).map(|c| c["state"]["waiting"].clone()).unwrap_or_default()
    };
    let pod = node.until("pull", "backing off", |pod| reason(pod, "pull")["reason"] == "ImagePullBackOff").await;
    let message = reason(&pod, "pull")["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Back-off pulling image \"127.0.0.1:1/none:1\": ErrImagePull: "), "{message}");
    let pod = node.until("pull", "refused", |pod| reason(pod, "bad")["reason"] == "InvalidImageName").await;
    assert_eq!(reason(&pod, "never")["reason"], "ErrImageNeverPull");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_end_after_the_containers_they_serve() {
    let node = TestNode::start().await;
    let out = node.machine.dir.path();
    let sidecar = |name: &str| {
        json!({"name": name, "restartPolicy": "Always", "volumeMounts": [{"name": "out", "mountPath": "/out"}],
            "command": shell(&format!("trap 'echo {name} >> /out/ended; exit 1' TERM; while true; do sleep 0.05; done"))})
    };
    let pod = |code: &str| {
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 20, "volumes": [{"name": "out", "hostPath": {"path": out}}],
            "initContainers": [sidecar("one"), sidecar("two")], "containers": [{"name": "main", "command": ["sh", "-c", format!("sleep 0.3; exit {code}")]}]})
    };
    node.run("job", pod("0"));
    let done = node.until("job", "succeeded", |pod| pod["status"]["phase"] == "Succeeded").await;
    for status in done["status"]["initContainerStatuses"].as_array().unwrap() {
        assert_eq!((&status["state"]["terminated"]["exitCode"], &status["restartCount"]), (&json!(1), &json!(0)), "{status:#}");
    }
    assert_eq!(std::fs::read_to_string(out.join("ended")).unwrap(), "two\none\n");
    node.run("broken", pod("3"));
    node.until("broken", "failed", |pod| pod["status"]["phase"] == "Failed").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_deletion_with_less_grace_counts() {
    let node = TestNode::start().await;
    let stubborn =
        || json!({"terminationGracePeriodSeconds": 50, "containers": [{"name": "c", "command": shell("trap '' TERM; while true; do sleep 0.05; done")}]});
    let stopping = |node: &TestNode, name: &str| node.api.events(name).iter().any(|(reason, _)| reason == "Killing");
    for name in ["hurried", "forced"] {
        node.run(name, stubborn());
        node.until(name, "running", |pod| state(pod)["running"].is_object()).await;
        node.api.delete_pod(name, 50);
        node.until(name, "being ended", |_| stopping(&node, name)).await;
    }
    let begun = std::time::Instant::now();
    // As `kubectl delete --now`.
    node.api.delete_pod("hurried", 1);
    // As `kubectl delete --grace-period=0 --force`.
    node.api.remove("pods", "forced");
    node.until_gone("hurried").await;
    node.until_nothing_runs().await;
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    node.stop().await;
}

/// A network plugin that works once the file `broken` is gone.
fn install_network(dir: &Path) {
    let (bin, conf, broken) = (dir.join("cni/bin"), dir.join("cni/net.d"), dir.join("broken"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&conf).unwrap();
    std::fs::write(&broken, "").unwrap();
    let script = format!(
        r#"#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}}'
elif [ "${{0##*/}}" = test-network ] && [ -e '{broken}' ]; then
    echo '{{"cniVersion":"0.4.0","code":100,"msg":"the network is down"}}'
    exit 1
elif [ "$CNI_COMMAND" = ADD ]; then
    echo '{{"cniVersion":"0.4.0","interfaces":[{{"name":"'"$CNI_IFNAME"'","sandbox":"'"$CNI_NETNS"'"}}],"ips":[{{"version":"4","address":"192.0.2.7/24","interface":0}}]}}'
fi
"#,
        broken = broken.display()
    );
    for name in ["test-network", "loopback"] {
        std::fs::write(bin.join(name), &script).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(conf.join("10-test.conflist"), r#"{"cniVersion":"0.4.0","name":"test","plugins":[{"type":"test-network"}]}"#).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_with_its_network_and_registers_again_when_deleted() {
    let node = TestNode::start().await;
    let ready = async |want: &str| {
        let wait = async {
            loop {
                let found = node.api.get("nodes", "", "n1").unwrap_or_default();
                let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
                if conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == want) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("Ready is not {want}: {:#}", node.api.get("nodes", "", "n1").unwrap_or_default()))
    };
    let first = ready("False").await;
    node.api.remove_node("n1");
    let second = ready("False").await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    install_network(node.machine.dir.path());
    ready("True").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_sandboxes_are_not_in_the_way() {
    let node = TestNode::start().await;
    let dir = node.machine.dir.path();
    install_network(dir);
    node.run("p", json!({"hostNetwork": false, "containers": [{"name": "c", "command": shell(SERVE)}]}));
    let attempts = async || {
        let sandboxes = node.machine.runtime.list_pod_sandboxes(Default::default()).await.unwrap();
        sandboxes.into_iter().map(|sandbox| sandbox.metadata.unwrap().attempt).collect::<Vec<_>>()
    };
    let wait = async {
        while attempts().await.into_iter().max() < Some(3) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("no later attempt: {:#?}", node.api.events("p")));
    std::fs::remove_file(dir.join("broken")).unwrap();
    let pod = node.until("p", "ready", is_ready).await;
    assert_eq!(pod["status"]["podIP"], "192.0.2.7");
    let events = node.api.events("p");
    assert!(events.iter().any(|(reason, message)| reason == "FailedCreatePodSandBox" && message.contains("the network is down")), "{events:#?}");
    assert!(!events.iter().any(|(_, message)| message.contains("reserved")), "{events:#?}");
    assert_eq!(attempts().await.len(), 1, "the failed ones are removed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_hooks_decide() {
    let node = TestNode::start().await;
    node.run(
        "probed",
        json!({"terminationGracePeriodSeconds": 3, "containers": [{"name": "c", "command": shell("touch /tmp/alive; sleep 1; rm /tmp/alive; trap 'exit 0' TERM; while true; do sleep 0.05; done"),
            "livenessProbe": {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1}}]}),
    );
    node.run(
        "hooked",
        json!({"terminationGracePeriodSeconds": 10, "volumes": [{"name": "out", "hostPath": {"path": node.machine.dir.path(), "type": "Directory"}}],
            "containers": [{"name": "c", "command": shell(SERVE), "volumeMounts": [{"name": "out", "mountPath": "/out"}],
                "lifecycle": {"postStart": {"exec": {"command": ["touch", "/out/started"]}}, "preStop": {"exec": {"command": ["touch", "/out/stopping"]}}}}]}),
    );
    node.run("unready", json!({"containers": [{"name": "c", "command": shell(SERVE), "readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1}}]}));
    node.until("probed", "restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    let events = node.api.events("probed");
    assert!(events.iter().any(|(reason, message)| reason == "Unhealthy" && message.starts_with("Liveness probe failed")), "{events:?}");
    assert!(events.contains(&("Killing".into(), "Container c failed liveness probe, will be restarted".into())), "{events:?}");
    node.until("hooked", "ready", is_ready).await;
    let out = node.machine.dir.path();
    assert!(out.join("started").exists() && !out.join("stopping").exists());
    node.api.delete_pod("hooked", 10);
    node.until_gone("hooked").await;
    assert!(out.join("stopping").exists());
    let pod = node.until("unready", "running", |pod| pod["status"]["phase"] == "Running").await;
    let ready = pod["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!((&ready["reason"], &ready["message"]), (&json!("ContainersNotReady"), &json!("containers with unready status: [c]")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_adopts_what_runs_and_removes_what_is_not_wanted() {
    let mut node = TestNode::start().await;
    let container = json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "command": shell(SERVE)}]});
    for name in ["stays", "goes"] {
        node.run(name, container.clone());
        node.until(name, "ready", is_ready).await;
    }
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let before = node.pod("stays").unwrap();
    node.kill_agent().await;
    node.api.remove("pods", "goes");
    node.run("new", container.clone());
    node.start_agent();
    node.until("new", "ready", is_ready).await;
    let after = node.pod("stays").unwrap();
    assert_eq!((id(&before), &after["status"]["containerStatuses"][0]["restartCount"]), (id(&after), &json!(0)));
    let wait = async {
        while node.machine.runtime.list_pod_sandboxes(Default::default()).await.unwrap().len() != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("the sandbox of the pod that went is removed");

    // containerd dies under the agent: it comes back, and so does what the agent knows.
    let pid = std::fs::read_to_string(node.machine.process.settings().pid_file()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    node.run("after", container.clone());
    node.until("after", "ready", is_ready).await;

    // A forced deletion takes no notice of the grace.
    node.api.remove("pods", "stays");
    node.stop_agent(OnShutdown::StopPods { grace: Duration::from_secs(1) }).await;
    assert!(node.machine.cgroups().is_empty(), "{:?}", node.machine.cgroups());
    assert!(node.machine.mounts().is_empty(), "{:?}", node.machine.mounts());
    // Pods that were stopped with the agent start again with it.
    node.start_agent();
    let pod = node.until("after", "restarted", |pod| is_ready(pod) && id(pod).is_string() && pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(pod["status"]["phase"], "Running");
    node.stop().await;
}
