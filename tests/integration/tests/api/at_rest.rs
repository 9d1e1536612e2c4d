//! Secrets at rest: what the disk holds of them, and what a change of keys, or its sudden end, does to them.
use crate::support::{CONFIG_MAPS, config_map, names, quiet};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use testkit::{Api, Ask, Server, binary};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn secret(name: &str, text: &str) -> Value {
    json!({"metadata": {"name": name}, "stringData": {"password": text}})
}

/// Whether any file of the store, its write-ahead log included, holds these bytes.
fn on_disk(server: &Server, bytes: &[u8]) -> bool {
    let files = std::fs::read_dir(server.data_dir().join("server/db")).unwrap();
    files.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).any(|content| content.windows(bytes.len()).any(|window| window == bytes))
}

fn secrets_encrypt(server: &Server, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).arg("secrets-encrypt").args(arguments).arg("--kubeconfig").arg(server.kubeconfig()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn password(api: &Api, name: &str) -> Value {
    api.get(&format!("{SECRETS}/{name}")).ok()["data"]["password"].clone()
}

#[test]
fn secrets_are_not_to_be_read_from_the_disk_and_everything_else_is_as_it_was() {
    let (mut server, api) = quiet();
    api.post(SECRETS, &secret("s", "correct horse battery staple")).ok();
    api.post(CONFIG_MAPS, &config_map("c", &json!({"open": "not a secret at all"}))).ok();
    // As it is stored: base64.
    let stored = password(&api, "s");
    let stored = stored.as_str().unwrap().as_bytes().to_vec();
    assert!(on_disk(&server, b"not a secret at all"), "what is not secret is found, so the search works");
    assert!(!on_disk(&server, &stored) && !on_disk(&server, b"correct horse"));
    let keys = server.data_dir().join("server/cred/encryption-config.json");
    assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    // History is read from the disk too.
    let before = api.get(&format!("{SECRETS}/s")).ok();
    api.patch("merge", &format!("{SECRETS}/s"), &json!({"stringData": {"password": "changed"}})).ok();
    api.delete(&format!("{SECRETS}/s")).ok();
    server.end(Signal::SIGKILL);
    server.launch();
    let version = before["metadata"]["resourceVersion"].as_str().unwrap();
    let then = api.get(&format!("{SECRETS}?resourceVersion={version}&resourceVersionMatch=Exact")).ok();
    assert_eq!(then["items"][0]["data"], before["data"]);
    let mut watch = api.watch(&format!("{SECRETS}?watch=1&resourceVersion={version}"));
    let (kind, object) = watch.next_event();
    assert_eq!((kind.as_str(), &object["data"]["password"]), ("MODIFIED", &json!("Y2hhbmdlZA==")));
    assert_eq!(watch.next_short(), "DELETED s");
    assert!(!on_disk(&server, &stored));
}

#[test]
fn new_keys_seal_everything_anew_and_nobody_notices() {
    let (server, api) = quiet();
    for n in 0..20 {
        api.post(SECRETS, &secret(&format!("s{n:02}"), &format!("password {n}"))).ok();
    }
    let before = api.get(SECRETS).ok();
    let (ok, text) = secrets_encrypt(&server, &["status"]);
    assert!(ok && text.contains("Encryption Status: Enabled\nCurrent Rotation Stage: start\n"), "{text}");
    let first = text.lines().last().unwrap().split_whitespace().last().unwrap().to_owned();
    assert!(on_disk(&server, first.as_bytes()));
    let (ok, text) = secrets_encrypt(&server, &["rotate-keys"]);
    assert!(ok, "{text}");
    let (_, text) = secrets_encrypt(&server, &["status", "-o", "json"]);
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&status["stage"], status["keys"].as_array().unwrap().len()), (&json!("reencrypt_finished"), 2));
    let active = status["active"]["name"].as_str().unwrap();
    assert_ne!(active, first);
    assert_eq!(status["keys"][1], first.as_str());
    // Nothing on disk is sealed with the old key any more, and no object has changed.
    assert!(on_disk(&server, active.as_bytes()) && !on_disk(&server, first.as_bytes()));
    assert_eq!(api.get(SECRETS).ok(), before);
    let user = api.acting_as("somebody", &[]);
    assert_eq!(user.get("/v1-k8shost/encrypt/status").refusal().0, 403);
    assert_eq!(user.send(&Ask::new("PUT", "/v1-k8shost/encrypt/rotate-keys")).refusal().0, 403);
}

#[test]
fn a_kill_amid_a_change_of_keys_leaves_everything_readable() {
    let (mut server, api) = quiet();
    for n in 0..300 {
        api.post(SECRETS, &secret(&format!("s{n:03}"), &format!("{n} {}", "x".repeat(2000)))).ok();
    }
    let before = api.get(SECRETS).ok();
    for round in 0..4 {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                // It breaks off when the server is killed.
                scope.spawn(|| drop(api.try_send(&Ask::new("PUT", "/v1-k8shost/encrypt/rotate-keys"))));
            }
            std::thread::sleep(Duration::from_millis(5 + 20 * round));
            server.end(Signal::SIGKILL);
        });
        server.launch();
        assert_eq!(api.get(SECRETS).ok()["items"], before["items"], "round {round}");
    }
    api.send(&Ask::new("PUT", "/v1-k8shost/encrypt/rotate-keys")).ok();
    assert_eq!(names(&api.get(SECRETS).ok()), names(&before));
}
