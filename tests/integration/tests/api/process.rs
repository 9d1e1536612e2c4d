//! The server as a process: what it keeps, what it refuses to share, what it needs no privilege for.
use crate::support::{CONFIG_MAPS, SOON, config_map, names, quiet};
use nix::sys::signal::Signal;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::{Ask, Server, ServerOptions, binary};

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let (mut server, api) = quiet();
    let first = api.post(CONFIG_MAPS, &config_map("first", &json!({}))).ok();
    let since = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let service = api.post("/api/v1/namespaces/default/services", &service).ok();
    let stop = AtomicBool::new(false);
    // Writers at work while the server is killed: whatever was answered counts.
    let acknowledged: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (api, stop) = (&api, &stop);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    for n in 0.. {
                        let name = format!("w{writer}-{n}");
                        match api.try_send(&Ask::new("POST", CONFIG_MAPS).json(&config_map(&name, &json!({"n": n.to_string()})))) {
                            Ok(reply) if reply.code == 201 => done.push(name),
                            _ => break,
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    done
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        server.end(Signal::SIGKILL);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert!(acknowledged.len() > 4, "{acknowledged:?}");
    server.launch();
    // The same certificates and tokens go on working.
    let stored = names(&api.get(CONFIG_MAPS).ok());
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !stored.contains(name)).collect();
    assert!(lost.is_empty(), "acknowledged but gone: {lost:?}");
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/first")).ok(), first);
    // A watch goes on from before as if nothing had been.
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={since}"));
    let heard: Vec<String> = (0..stored.len() - 1).map(|_| watch.next_short()).collect();
    let mut wanted: Vec<String> = stored.iter().filter(|name| *name != "first").map(|name| format!("ADDED {name}")).collect();
    let mut sorted = heard.clone();
    wanted.sort();
    sorted.sort();
    assert_eq!(sorted, wanted);
    // Revisions go on upwards, and what was allocated stays so.
    let next = api.post(CONFIG_MAPS, &config_map("next", &json!({}))).ok();
    let number = |object: &serde_json::Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(&next) > number(&first) + acknowledged.len() as u64);
    assert_eq!(watch.next_short(), "ADDED next");
    let same = json!({"metadata": {"name": "t"}, "spec": {"clusterIP": service["spec"]["clusterIP"], "ports": [{"port": 80}]}});
    assert_eq!(api.post("/api/v1/namespaces/default/services", &same).refusal().0, 422);
}

/// Runs a server that must end by itself with an error; gives what it said.
pub fn refused(arguments: &[String]) -> String {
    let mut child = Command::new(binary())
        .arg("server")
        .args(arguments)
        .args(["--disable-agent", "--disable", "controllers,scheduler,hosting,iam"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > SOON {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the server runs: {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn ports_and_data_are_not_shared() {
    let (server, api) = quiet();
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    let other = tempdir(&server, "other");
    let arguments = |data: &str, port: u16| {
        ["--data-dir", data, "--https-listen-port", &port.to_string(), "--write-kubeconfig", &format!("{other}/kubeconfig")].map(str::to_owned)
    };
    let taken = refused(&arguments(&other, server.port));
    assert!(taken.contains(&format!(":{}", server.port)) && taken.contains("Address already in use"), "{taken}");
    assert!(!std::path::Path::new(&format!("{other}/server/db")).exists(), "it left a store behind");
    let shared = refused(&arguments(server.data_dir().to_str().unwrap(), testkit::free_port()));
    assert!(shared.contains("state.db") && (shared.contains("another process") || shared.contains("in use")), "{shared}");
    let wrong = refused(&["--https-listen-port".into(), "http".into()]);
    assert!(wrong.contains("https-listen-port") && wrong.contains("\"http\""), "{wrong}");
    let unknown = refused(&["--kube-apiserver-arg".into(), "nonsense=1".into()]);
    assert!(unknown.contains("nonsense"), "{unknown}");
    assert_eq!(names(&api.get(CONFIG_MAPS).ok()), ["a"]);
}

fn tempdir(server: &Server, name: &str) -> String {
    let path = server.directory.path().join(name);
    std::fs::create_dir(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn no_privilege_is_needed_and_keys_are_nobody_elses() {
    const NOBODY: u32 = 65534;
    let server = Server::start(ServerOptions { arguments: vec!["--disable-agent".into()], user: Some(NOBODY), ..ServerOptions::default() });
    let api = server.api();
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    assert_eq!(server.tool().k("get configmap a -o name").ok(), "configmap/a\n");
    let mut directories = vec![server.data_dir()];
    let mut files = vec![server.kubeconfig()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    for file in &files {
        let metadata = std::fs::metadata(file).unwrap();
        assert_eq!(metadata.uid(), NOBODY, "{file:?}");
        let secret = file.extension().is_some_and(|e| e == "key" || e == "db") || file.ends_with("kubeconfig.yaml");
        assert!(!secret || metadata.permissions().mode() & 0o077 == 0, "{file:?} is open to others: {:o}", metadata.permissions().mode());
    }
    assert!(files.iter().any(|file| file.extension().is_some_and(|e| e == "key")), "{files:?}");
}

#[test]
fn a_server_that_is_told_to_stop_ends_its_watches_and_goes() {
    let (mut server, api) = quiet();
    let watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=1"));
    let started = Instant::now();
    let ended = std::thread::scope(|scope| {
        let watching = scope.spawn(move || watch.count());
        std::thread::sleep(Duration::from_millis(100));
        server.end(Signal::SIGTERM);
        watching.join().unwrap()
    });
    assert!(started.elapsed() < SOON);
    assert_eq!(ended, 0);
    assert!(server.earlier_log().contains("k8shost has stopped"), "{}", server.earlier_log());
}
