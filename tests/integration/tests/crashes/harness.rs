//! Harness: a story told without a crash, then with a crash after every write, or every few: the end is always the same.
use crate::mortal::{Mortal, Versions, Write, connection};
use crate::state::normalized;
use crate::story::{Step, Story, UID_OF};
use api_client::Clients;
use api_meta::ClusterName;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::{Api, Ask, Connection, Reply, Server, ServerOptions};

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(90);
/// What is not as it should be after so long never will be.
const LATE: Duration = Duration::from_secs(20);
/// After so many looks at which nobody had asked the server for anything, nothing more is to come. A busy machine takes
/// longer over each, as over all else.
const QUIET: usize = 30;
/// What is as it should be may be looked at.
const STILL: usize = 3;
const PAUSE: Duration = Duration::from_millis(10);
/// Tells the story, and tells it again with lives that end.
#[track_caller]
pub fn survives_every_crash(story: &Story) {
    let arguments = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam"].map(str::to_owned).into();
    let server = Server::start(ServerOptions { arguments, ..ServerOptions::default() });
    let api = server.api();
    let mut stage = Stage { connection: api.connection(), api, server };
    stage.prepare(story);
    let calm = stage.tell(story, "calm00", usize::MAX, None);
    let by = |name: &&&str| calm.writes.iter().any(|write| write.by == **name);
    let silent: Vec<_> = story.of.iter().filter(|name| !by(name)).collect();
    assert!(silent.is_empty(), "{silent:?} wrote nothing in its story, but these did:\n{}", listed(&calm.writes));
    stage.rests(story, "calm00", calm.seen.last().expect("a story has steps"));
    for &allowed in story.lives {
        let told = stage.tell(story, &format!("lives{allowed}"), allowed, Some(&calm.seen));
        println!("{} writes in {} lives of {allowed}, {} without a crash", told.writes.len(), told.lives, calm.writes.len());
        assert!(told.lives > 1, "nobody died in lives of {allowed}");
    }
}

struct Stage {
    server: Server,
    api: Api,
    connection: Connection,
}

/// What came of telling a story.
#[derive(Default)]
struct Told {
    /// What there was after each step.
    seen: Vec<Value>,
    writes: Vec<Write>,
    lives: usize,
}

/// The controllers of one telling, one life after the other.
struct Lives<'a> {
    kubeconfig: std::path::PathBuf,
    story: &'a Story,
    allowed: usize,
    versions: Versions,
    now: Option<Mortal>,
    told: Told,
}

impl<'a> Lives<'a> {
    fn new(server: &Server, story: &'a Story, allowed: usize) -> Self {
        Self { kubeconfig: server.kubeconfig(), story, allowed, versions: Versions::default(), now: None, told: Told::default() }
    }

    fn begin(&mut self) {
        self.now = Some(Mortal::start(&self.kubeconfig, self.story, self.allowed, &self.versions));
        self.told.lives += 1;
    }

    /// Waits a moment; if they die, new ones come in their place. True if they asked for nothing.
    fn rest(&mut self, before: &mut usize) -> bool {
        let now = self.now.as_ref().expect("there is one until the end");
        if now.dies_within(PAUSE) {
            let mortal = self.now.take().expect("it was just seen");
            self.told.writes.extend(mortal.writes());
            mortal.die();
            self.begin();
            return false;
        }
        let Some(asked) = now.asked() else { return false };
        std::mem::replace(before, asked) == asked
    }

    fn end(mut self) -> Told {
        if let Some(mortal) = self.now.take() {
            self.told.writes.extend(mortal.writes());
            if mortal.is_over() { mortal.die() } else { mortal.stop() }
        }
        self.told
    }

    fn log(&self) -> String {
        let mut writes = self.told.writes.clone();
        writes.extend(self.now.iter().flat_map(Mortal::writes));
        listed(&writes)
    }
}

fn listed(writes: &[Write]) -> String {
    writes.iter().map(|write| format!("  {}: {}\n", write.by, write.what)).collect()
}

impl Stage {
    /// Controllers that start where all is done have nothing to write. What one tells of itself at its next look may be still to come.
    #[track_caller]
    fn rests(&mut self, story: &Story, namespace: &str, expected: &Value) {
        let mut writes = self.start(story);
        if !writes.is_empty() {
            writes = self.start(story);
        }
        assert!(writes.is_empty(), "starts where nothing is to be done write something:\n{}", listed(&writes));
        let state = self.state(story, namespace);
        assert!(state == *expected, "after a start where nothing is to be done: {}", difference(expected, &state));
    }

    fn start(&mut self, story: &Story) -> Vec<Write> {
        let mut lives = Lives::new(&self.server, story, usize::MAX);
        lives.begin();
        let (mut asked, mut still) = (0, 0);
        while still < QUIET {
            // Until they look, they ask for nothing; this takes the longer, the longer they take to begin.
            self.exists("/readyz");
            still = if lives.rest(&mut asked) { still + 1 } else { 0 };
        }
        lives.end().writes
    }

    /// What the controllers beside the server's own need.
    fn prepare(&self, story: &Story) {
        let Some(others) = &story.others else { return };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { (others.prepare)(connection(&self.server.kubeconfig()).cluster(&ClusterName::root())).await });
    }

    #[track_caller]
    fn tell(&mut self, story: &Story, namespace: &str, allowed: usize, expected: Option<&[Value]>) -> Told {
        let mut lives = Lives::new(&self.server, story, allowed);
        lives.begin();
        self.api.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace, "labels": {"story": namespace}}})).ok();
        let (began, mut asked) = (Instant::now(), 0);
        while !["serviceaccounts/default", "configmaps/kube-root-ca.crt"].iter().all(|path| self.exists(&format!("/api/v1/namespaces/{namespace}/{path}"))) {
            lives.rest(&mut asked);
            assert!(began.elapsed() < SOON, "{namespace} was never ready for use:\n{}", lives.log());
        }
        for (at, step) in story.steps.iter().enumerate() {
            self.take(step, namespace);
            let state = self.come_to_rest(&mut lives, namespace, at, expected.map(|all| &all[at]));
            lives.told.seen.push(state);
        }
        if let Some(expected) = expected.and_then(<[_]>::last) {
            // What is right stays so.
            let state = self.come_to_rest(&mut lives, namespace, story.steps.len(), None);
            assert!(state == *expected, "{namespace}, a moment later: {}\n{}", difference(expected, &state), lives.log());
        }
        lives.end()
    }

    /// Waits until nothing is written any more; where it is known what is to come, only until that is there.
    #[track_caller]
    fn come_to_rest(&mut self, lives: &mut Lives, namespace: &str, at: usize, expected: Option<&Value>) -> Value {
        let (began, mut since, mut asked, mut still) = (Instant::now(), Instant::now(), 0, 0);
        let enough = if expected.is_some() { STILL } else { QUIET };
        loop {
            let moved = self.nodes_work(namespace);
            if !lives.rest(&mut asked) || moved {
                (since, still) = (Instant::now(), 0);
            }
            still += 1;
            if still < enough {
                assert!(began.elapsed() < SOON, "{namespace} never came to rest after step {at}:\n{}", lives.log());
                continue;
            }
            let state = self.state(lives.story, namespace);
            match expected {
                Some(expected) if state != *expected => {
                    let late = since.elapsed() > LATE || began.elapsed() > SOON;
                    assert!(!late, "{namespace}, after step {at}: {}\n{}", difference(expected, &state), lives.log());
                }
                _ => return state,
            }
        }
    }

    fn take(&self, step: &Step, namespace: &str) {
        let told = |text: &str| text.replace("NAMESPACE", namespace);
        let body = |value: &Value| self.with_uids(serde_json::from_str(&told(&value.to_string())).unwrap());
        match step {
            Step::Create(path, value) => self.api.post(&told(path), &body(value)).ok(),
            Step::Patch(path, value) => self.api.patch("merge", &told(path), &body(value)).ok(),
            Step::Delete(path, policy) => self.api.delete(&format!("{}?propagationPolicy={policy}", told(path))).ok(),
        };
    }

    /// With what stands for an object's uid replaced by it.
    fn with_uids(&self, value: Value) -> Value {
        match value {
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, self.with_uids(value))).collect(),
            Value::Array(items) => items.into_iter().map(|item| self.with_uids(item)).collect(),
            Value::String(text) => match text.strip_prefix(UID_OF) {
                Some(path) => self.api.get(path).ok()["metadata"]["uid"].clone(),
                None => Value::String(text),
            },
            other => other,
        }
    }

    /// On a new connection where the server has given up the one there was.
    fn ask(&mut self, path: &str) -> Reply {
        let ask = Ask::new("GET", path);
        self.connection.try_send(&ask).unwrap_or_else(|_| {
            self.connection = self.api.connection();
            self.connection.send(&ask)
        })
    }

    fn get(&mut self, path: &str) -> Value {
        self.ask(path).ok()
    }

    fn exists(&mut self, path: &str) -> bool {
        self.ask(path).code == 200
    }

    fn state(&mut self, story: &Story, namespace: &str) -> Value {
        let mut objects = Vec::new();
        for path in story.looks_at {
            let reply = self.ask(&path.replace("NAMESPACE", namespace));
            // A kind that was just defined may not be served yet.
            let list = if reply.code == 404 { Value::Null } else { reply.ok() };
            for mut object in list["items"].as_array().cloned().unwrap_or_default() {
                object["kind"] = list["kind"].clone();
                objects.push(object);
            }
        }
        normalized(objects, namespace, story.but)
    }

    /// What nodes would do: pods run at once, and end if their label says how. True if there was something to do.
    fn nodes_work(&mut self, namespace: &str) -> bool {
        let pods = self.get(&format!("/api/v1/namespaces/{namespace}/pods"));
        let waiting = |pod: &&Value| pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null();
        let mut moved = false;
        for pod in pods["items"].as_array().unwrap().iter().filter(waiting) {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{}/status", pod["metadata"]["name"].as_str().unwrap());
            // It may be gone by now.
            self.api.patch("merge", &path, &json!({"status": status_of(pod)}));
            moved = true;
        }
        moved
    }
}

/// What a node would say of a pod.
fn status_of(pod: &Value) -> Value {
    let index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().unwrap_or("none");
    let ends = match pod["metadata"]["labels"]["ends"].as_str() {
        Some("index-1-fails") => Some(if index == "1" { "Failed" } else { "Succeeded" }),
        Some("well") => Some("Succeeded"),
        _ => None,
    };
    let (phase, ready, reason) = match ends {
        Some(phase) => (phase, "False", json!("PodCompleted")),
        None => ("Running", "True", Value::Null),
    };
    let ready = json!({"type": "Ready", "status": ready, "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({"phase": phase, "podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}], "conditions": [ready]})
}

/// What is there too much and too little.
fn difference(expected: &Value, state: &Value) -> String {
    let (expected, state) = (expected.as_array().unwrap(), state.as_array().unwrap());
    let lines = |of: &[Value], but: &[Value]| of.iter().filter(|object| !but.contains(object)).map(|object| format!("\n  {object}")).collect::<String>();
    format!("expected, and not there:{}\nthere, and not expected:{}", lines(expected, state), lines(state, expected))
}
