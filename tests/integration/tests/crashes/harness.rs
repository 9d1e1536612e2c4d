//! Harness: a story told without a crash, then with a crash after every write, or every few: the end is always the same.
use crate::mortal::{Mortal, Write};
use crate::state::normalized;
use crate::story::{Step, Story};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::{Api, Ask, Connection, Server, ServerOptions};

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(60);
/// After so long without a write, nothing more is to come.
const QUIET: Duration = Duration::from_millis(400);
/// What is as it should be may be looked at.
const STILL: Duration = Duration::from_millis(40);
const PAUSE: Duration = Duration::from_millis(10);
/// After how many writes lives end. One is the hardest: nothing that is known outlives any write. In longer ones, some
/// of what was decided together is done, and the rest must be decided again.
const LIVES: [usize; 2] = [1, 3];

/// Tells the story, and tells it again with lives that end.
#[track_caller]
pub fn survives_every_crash(story: &Story) {
    let arguments = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam"].map(str::to_owned).into();
    let server = Server::start(ServerOptions { arguments, ..ServerOptions::default() });
    let api = server.api();
    let mut stage = Stage { connection: api.connection(), api, server };
    let calm = stage.tell(story, "calm00", usize::MAX, None);
    let by = |name: &&&str| calm.writes.iter().any(|write| write.by == **name);
    let silent: Vec<_> = story.of.iter().filter(|name| !by(name)).collect();
    assert!(silent.is_empty(), "{silent:?} wrote nothing in its story, but these did:\n{}", listed(&calm.writes));
    stage.rests(story, "calm00", calm.seen.last().expect("a story has steps"));
    for allowed in LIVES {
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
    now: Option<Mortal>,
    told: Told,
}

impl Lives<'_> {
    fn begin(&mut self) {
        self.now = Some(Mortal::start(&self.kubeconfig, self.story, self.allowed));
        self.told.lives += 1;
    }

    /// Waits a moment; if they die, new ones come in their place. True if nothing was written.
    fn wait(&mut self, before: &mut usize) -> bool {
        let now = self.now.as_ref().expect("there is one until the end");
        if now.dies_within(PAUSE) {
            let mortal = self.now.take().expect("it was just seen");
            self.told.writes.extend(mortal.writes());
            mortal.die();
            self.begin();
            return false;
        }
        let made = self.writes();
        std::mem::replace(before, made) == made
    }

    fn writes(&self) -> usize {
        self.told.writes.len() + self.now.as_ref().map_or(0, |mortal| mortal.writes().len())
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

    fn start(&self, story: &Story) -> Vec<Write> {
        let mortal = Mortal::start(&self.server.kubeconfig(), story, usize::MAX);
        mortal.dies_within(QUIET * 2);
        let writes = mortal.writes();
        mortal.stop();
        writes
    }

    #[track_caller]
    fn tell(&mut self, story: &Story, namespace: &str, allowed: usize, expected: Option<&[Value]>) -> Told {
        let mut lives = Lives { kubeconfig: self.server.kubeconfig(), story, allowed, now: None, told: Told::default() };
        lives.begin();
        self.api.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace, "labels": {"story": namespace}}})).ok();
        let (began, mut writes) = (Instant::now(), 0);
        while !["serviceaccounts/default", "configmaps/kube-root-ca.crt"].iter().all(|path| self.exists(&format!("/api/v1/namespaces/{namespace}/{path}"))) {
            lives.wait(&mut writes);
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
        let (began, mut since, mut writes) = (Instant::now(), Instant::now(), 0);
        let enough = if expected.is_some() { STILL } else { QUIET };
        loop {
            let moved = self.nodes_work(namespace);
            if !lives.wait(&mut writes) || moved {
                since = Instant::now();
            }
            if since.elapsed() < enough {
                assert!(began.elapsed() < SOON, "{namespace} never came to rest after step {at}:\n{}", lives.log());
                continue;
            }
            let state = self.state(lives.story, namespace);
            match expected {
                Some(expected) if state != *expected => {
                    let late = began.elapsed() > SOON / 4 && since.elapsed() > SOON / 6;
                    assert!(!late, "{namespace}, after step {at}: {}\n{}", difference(expected, &state), lives.log());
                }
                _ => return state,
            }
        }
    }

    fn take(&self, step: &Step, namespace: &str) {
        let told = |text: &str| text.replace("NAMESPACE", namespace);
        let body = |value: &Value| serde_json::from_str::<Value>(&told(&value.to_string())).unwrap();
        match step {
            Step::Create(path, value) => self.api.post(&told(path), &body(value)).ok(),
            Step::Patch(path, value) => self.api.patch("merge", &told(path), &body(value)).ok(),
            Step::Delete(path, policy) => self.api.delete(&format!("{}?propagationPolicy={policy}", told(path))).ok(),
        };
    }

    fn get(&mut self, path: &str) -> Value {
        self.connection.send(&Ask::new("GET", path)).ok()
    }

    fn exists(&mut self, path: &str) -> bool {
        self.connection.send(&Ask::new("GET", path)).code == 200
    }

    fn state(&mut self, story: &Story, namespace: &str) -> Value {
        let mut objects = Vec::new();
        for path in story.looks_at {
            let list = self.get(&path.replace("NAMESPACE", namespace));
            for mut object in list["items"].as_array().cloned().unwrap_or_default() {
                object["kind"] = list["kind"].clone();
                objects.push(object);
            }
        }
        let text = Value::Array(objects).to_string().replace(namespace, "NAMESPACE");
        normalized(serde_json::from_str(&text).unwrap(), story.but)
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
