//! Manifests by the thousand, valid ones and mutated ones of every kind: each is refused in good order, or stored so
//! that it can be read and written back unchanged.
//!
//! `K8SHOST_MANIFESTS` says how many (10,000 without it), `K8SHOST_SEED` which.
use crate::custom_resources::{define, widget, widgets};
use crate::support::quiet;
use api_schema::{Schema, SchemaRef};
use fuzz::{Random, generate, kind_of, manifests, mutate, mutate_bytes, numbered};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::{Api, Ask, Connection, Reply};

const MANIFESTS: u64 = 10_000;
const SEED: u64 = 37;
const CONNECTIONS: usize = 4;
/// Of so many failures all are told.
const MOST_FAILURES: usize = 12;
/// What changes how other requests are answered: written one at a time, and taken away at once.
const DISTURBING: &[&str] = &[
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "CustomResourceDefinition",
    "APIService",
    "ResourceQuota",
    "LimitRange",
    "PriorityClass",
    "RuntimeClass",
];

/// A kind under test: a valid manifest and where its objects are.
struct Subject {
    manifest: Value,
    schema: SchemaRef,
    path: String,
    /// Whether its objects can be read back.
    kept: bool,
    status: bool,
}

impl Subject {
    fn builtin(manifest: &Value) -> Self {
        let (group, version, kind) = kind_of(manifest);
        let resource = api_builtins::BUILTINS.iter().find(|resource| {
            let names = resource.names();
            (names.group.as_ref(), names.version.as_ref(), names.kind.as_ref()) == (group, version, kind)
        });
        let resource = resource.unwrap_or_else(|| panic!("no kind of {manifest}"));
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let namespace = manifest["metadata"]["namespace"].as_str().unwrap_or("default");
        let scope = if resource.namespaced() { format!("/namespaces/{namespace}") } else { String::new() };
        Self {
            manifest: manifest.clone(),
            schema: resource.schema(),
            path: format!("{root}{scope}/{}", resource.names().plural),
            kept: resource.verbs().contains(&"get"),
            status: resource.has_status(),
        }
    }
    fn kind(&self) -> &str {
        self.manifest["kind"].as_str().unwrap()
    }
}

/// What came of one case, for the table at the end and the failures.
#[derive(Default)]
struct Outcomes {
    /// Of each kind, how many were accepted and refused.
    counts: BTreeMap<String, (u64, u64)>,
    failures: Vec<String>,
}

/// One manifest's way through the server.
struct Case<'a> {
    subject: &'a Subject,
    random: Random,
    number: u64,
    connection: &'a mut Connection,
    failures: Vec<String>,
    /// The manifest itself is sent, which is to be accepted.
    plain: bool,
}

impl Case<'_> {
    /// Sends a request that may be refused but must not break anything.
    fn send(&mut self, ask: &Ask) -> Reply {
        let reply = self
            .connection
            .try_send(ask)
            .unwrap_or_else(|error| panic!("case {}: {error}: {} {} {}", self.number, ask.method, ask.path, String::from_utf8_lossy(&ask.body)));
        let told = serde_json::from_slice::<Value>(&reply.body).is_ok_and(|body| reply.code < 400 || body["kind"] == "Status" && body["code"] == reply.code);
        if reply.code >= 500 || !told {
            self.fail("breaks the server", ask, &reply);
        }
        reply
    }
    fn fail(&mut self, why: &str, ask: &Ask, reply: &Reply) {
        let (sent, got) = (String::from_utf8_lossy(&ask.body).into_owned(), reply.text());
        self.failures.push(format!("case {}: {why}: {} {}\n  sent {sent}\n  got  {} {got}", self.number, ask.method, ask.path, reply.code));
    }

    /// A manifest near the valid one.
    fn manifest(&mut self) -> Value {
        let (random, schema) = (&mut self.random, &*self.subject.schema);
        let mut object = numbered(&self.subject.manifest, self.number);
        match random.below(10) {
            0..4 => generate::enrich(random, &mut object, schema, 1 + self.number as usize % 3),
            4..8 => mutate(random, &mut object, schema, 1 + self.number as usize % 3),
            8 => {
                generate::enrich(random, &mut object, schema, 3);
                mutate(random, &mut object, schema, 1);
            }
            _ => {
                let mut made = generate::value(random, schema, "");
                for identity in ["apiVersion", "kind", "metadata"] {
                    made[identity] = object[identity].take();
                }
                object = made;
            }
        }
        object
    }

    fn run(&mut self) -> bool {
        let manifest = if self.plain { numbered(&self.subject.manifest, self.number) } else { self.manifest() };
        let mut body = manifest.to_string().into_bytes();
        if !self.plain && self.random.percent(5) {
            mutate_bytes(&mut self.random, &mut body, b"{\"metadata\":{}}");
        }
        if body.is_empty() {
            return false;
        }
        let create = Ask::new("POST", &self.subject.path).body("application/json", body);
        let reply = self.send(&create);
        if reply.code >= 300 {
            // There is no such pod to be bound.
            if self.plain && self.subject.kind() != "Binding" {
                self.fail("is refused, though valid", &create, &reply);
            }
            return false;
        }
        let Some(name) = self.subject.kept.then(|| reply.json()["metadata"]["name"].as_str().unwrap_or_default().to_owned()) else { return true };
        // Names of roles may hold nearly anything.
        let name: String = name
            .bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect();
        let path = format!("{}/{name}", self.subject.path);
        if let Some(stored) = self.settled(&path) {
            self.change(&path, &manifest, stored);
        }
        if DISTURBING.contains(&self.subject.kind()) {
            let gone = Ask::new("DELETE", &path);
            let reply = self.send(&gone);
            // It may have got a finalizer.
            if reply.code < 300 && self.send(&Ask::new("GET", &path)).code == 200 {
                let free = Ask::new("PATCH", &path).body("application/merge-patch+json", r#"{"metadata":{"finalizers":null}}"#);
                self.send(&free);
            }
        }
        true
    }

    /// What is stored can be read, and written back as it is without a change. Gives it.
    fn settled(&mut self, path: &str) -> Option<Value> {
        let read = Ask::new("GET", path);
        let reply = self.send(&read);
        if reply.code != 200 {
            self.fail("cannot be read", &read, &reply);
            return None;
        }
        let write = Ask::new("PUT", path).body("application/json", reply.body.clone());
        let written = self.send(&write);
        // The server itself tells in a definition's status what became of it, and in an APIService's whether somebody answers.
        if written.code == 409 && matches!(self.subject.kind(), "CustomResourceDefinition" | "APIService") {
            return self.settled(path);
        }
        if written.code != 200 {
            self.fail("is stored, but cannot be written back", &write, &written);
            return None;
        }
        if written.json() != reply.json() {
            self.fail("changes when it is written back", &write, &written);
        }
        Some(reply.json())
    }

    /// Changes the object in one of many ways; then it must be as settled as before.
    fn change(&mut self, path: &str, manifest: &Value, stored: Value) {
        let random = &mut self.random;
        let mut next = stored;
        let ask = match random.below(10) {
            0..3 => {
                mutate(random, &mut next, &self.subject.schema, 1);
                Ask::new("PUT", path).json(&next)
            }
            3..5 if self.subject.status => {
                if let Some(status) = self.subject.schema.field("status") {
                    next["status"] = generate::value(random, status, "status");
                }
                Ask::new("PUT", &format!("{path}/status")).json(&next)
            }
            kind @ 5..8 => {
                let mut patch = manifest.clone();
                patch.as_object_mut().map(|fields| fields.remove("metadata"));
                mutate(random, &mut patch, &self.subject.schema, 2);
                let kind = if kind == 5 { "merge" } else { "strategic-merge" };
                Ask::new("PATCH", path).body(&format!("application/{kind}-patch+json"), patch.to_string())
            }
            8 => {
                let mut config = manifest.clone();
                mutate(random, &mut config, &self.subject.schema, 1);
                Ask::new("PATCH", &format!("{path}?fieldManager=me&force=true")).body("application/apply-patch+yaml", config.to_string())
            }
            _ => return,
        };
        if self.send(&ask).code < 300 {
            // The last finalizer of what is being deleted may have gone.
            self.settled(path);
        }
    }
}

fn run(subjects: &[&Subject], cases: std::ops::Range<u64>, seed: u64, api: &Api, connections: usize, outcomes: &Mutex<Outcomes>) {
    let next = AtomicU64::new(cases.start);
    let work = || {
        let mut connection = api.connection();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= cases.end || outcomes.lock().unwrap().failures.len() >= MOST_FAILURES {
                return;
            }
            let plain = cases.start + subjects.len() as u64;
            let subject = subjects[(number - cases.start) as usize % subjects.len()];
            let mut case =
                Case { subject, random: Random::of_case(seed, number), number, connection: &mut connection, failures: Vec::new(), plain: number < plain };
            let accepted = case.run();
            let failures = case.failures;
            let mut outcomes = outcomes.lock().unwrap();
            let (yes, no) = outcomes.counts.entry(subject.kind().to_owned()).or_default();
            *(if accepted { yes } else { no }) += 1;
            outcomes.failures.extend(failures);
        }
    };
    std::thread::scope(|scope| (0..connections).for_each(|_| drop(scope.spawn(work))));
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[test]
fn whatever_is_sent_is_refused_or_stored_for_good() {
    let (count, seed) = (setting("K8SHOST_MANIFESTS", MANIFESTS), setting("K8SHOST_SEED", SEED));
    let (server, api) = quiet();
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "aside"}})).ok();
    let definition = widgets();
    define(&api, &definition);
    let schema = Schema::of_custom_resource(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]).unwrap();
    let spec = json!({"size": 3, "color": "red", "port": "http", "parts": [{"name": "a"}], "tags": ["x"], "any": {"thing": [1]}, "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}});
    let mut subjects: Vec<Subject> = manifests().iter().map(Subject::builtin).collect();
    subjects.push(Subject {
        manifest: widget("n{n}", spec),
        schema: SchemaRef::new(schema),
        path: crate::custom_resources::WIDGETS.into(),
        kept: true,
        status: true,
    });
    for resource in api_builtins::BUILTINS.iter().filter(|resource| resource.verbs().contains(&"create")) {
        assert!(subjects.iter().any(|subject| subject.kind() == resource.names().kind), "no manifest of {}", resource.names().kind);
    }
    let (disturbing, calm): (Vec<&Subject>, Vec<&Subject>) = subjects.iter().partition(|subject| DISTURBING.contains(&subject.kind()));
    let outcomes = Mutex::new(Outcomes::default());
    let alone = count / 10;
    run(&calm, 0..count - alone, seed, &api, CONNECTIONS, &outcomes);
    run(&disturbing, count - alone..count, seed, &api, 1, &outcomes);
    let outcomes = outcomes.into_inner().unwrap();
    println!("{count} manifests with seed {seed}; accepted and refused: {:?}", outcomes.counts);
    assert!(outcomes.failures.is_empty(), "seed {seed}:\n{}", outcomes.failures.join("\n"));
    for line in server.log().lines() {
        assert!(!line.contains("panicked"), "{line}");
    }
    for (kind, (accepted, refused)) in &outcomes.counts {
        assert!(*accepted > 0 || kind == "Binding", "all {refused} manifests of {kind} were refused");
    }
}
