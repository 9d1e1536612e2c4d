//! Limits: of requests at a time, of sizes and patience, of an Event's life; and what is compressed.
use crate::support::{CONFIG_MAPS, SOON, config_map, names, pod, quiet};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use testkit::{Api, Ask, Server, ServerOptions, wait_until};

fn with_arguments(arguments: &[&str]) -> (Server, Api) {
    let mut all: Vec<String> = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam"].map(Into::into).into();
    all.extend(arguments.iter().flat_map(|argument| ["--kube-apiserver-arg".to_owned(), (*argument).to_owned()]));
    let server = Server::start(ServerOptions { arguments: all, ..ServerOptions::default() });
    let api = server.api();
    (server, api)
}

#[test]
fn one_change_too_many_at_a_time_is_told_to_come_again() {
    let (_server, api) = with_arguments(&["enable-priority-and-fairness=false", "max-mutating-requests-inflight=1"]);
    let role = json!({
        "metadata": {"name": "writer"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}],
    });
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).ok();
    let binding = json!({
        "metadata": {"name": "writer"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}],
    });
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).ok();
    let eve = api.acting_as("eve", &[]);
    let refused = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (eve, refused) = (&eve, &refused);
            scope.spawn(move || {
                for n in 0..40 {
                    let reply = eve.post(CONFIG_MAPS, &config_map(&format!("c{writer}-{n}"), &json!({"x": "y".repeat(100_000)})));
                    match reply.code {
                        201 => {}
                        429 => *refused.lock().unwrap() = Some(reply),
                        other => panic!("{other} {}", reply.text()),
                    }
                }
            });
        }
        // Administrators are always served.
        for n in 0..20 {
            api.post(CONFIG_MAPS, &config_map(&format!("admin{n}"), &json!({}))).ok();
        }
    });
    let reply = refused.into_inner().unwrap().expect("eight writers meet");
    assert_eq!((reply.header("retry-after"), reply.text().as_str()), (Some("1"), "Too many requests, please try again later.\n"));
    assert_eq!(eve.get(CONFIG_MAPS).code, 200, "reads have a limit of their own");
}

const FLOW_CONTROL: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

/// A level of one seat, and the schema that sorts eve's requests into it.
fn tight_level(api: &Api, response: &Value) -> (Value, Value) {
    let level = json!({
        "metadata": {"name": "tight"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": response}},
    });
    let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]});
    let schema = json!({
        "metadata": {"name": "eve"},
        "spec": {
            "priorityLevelConfiguration": {"name": "tight"}, "matchingPrecedence": 50, "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "eve"}}], "resourceRules": [everything]}],
        },
    });
    let level = api.post(&format!("{FLOW_CONTROL}/prioritylevelconfigurations"), &level).ok();
    (level, api.post(&format!("{FLOW_CONTROL}/flowschemas"), &schema).ok())
}

/// What eight writers of a user's are answered at the same time.
fn crowd(api: &Api, round: &str) -> Vec<testkit::Reply> {
    let replies = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let replies = &replies;
            scope.spawn(move || {
                for n in 0..30 {
                    let map = config_map(&format!("{round}-{writer}-{n}"), &json!({"x": "y".repeat(100_000)}));
                    let reply = api.post(CONFIG_MAPS, &map);
                    replies.lock().unwrap().push(reply);
                }
            });
        }
    });
    replies.into_inner().unwrap()
}

#[test]
fn flow_schemas_say_who_waits_and_who_is_refused() {
    let (_server, api) = with_arguments(&["max-requests-inflight=10", "max-mutating-requests-inflight=10"]);
    let edit = |user: &str| {
        let binding = json!({
            "metadata": {"name": user}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).ok();
        api.acting_as(user, &["system:authenticated"])
    };
    let (eve, bob) = (edit("eve"), edit("bob"));
    let (level, schema) = tight_level(&api, &json!({"type": "Reject"}));
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let one = eve.get(CONFIG_MAPS);
    assert_eq!(one.header("x-kubernetes-pf-flowschema-uid"), Some(uid(&schema).as_str()));
    assert_eq!(one.header("x-kubernetes-pf-prioritylevel-uid"), Some(uid(&level).as_str()));
    assert_ne!(bob.get(CONFIG_MAPS).header("x-kubernetes-pf-flowschema-uid"), Some(uid(&schema).as_str()));

    let (eves, bobs) = std::thread::scope(|scope| {
        let eves = scope.spawn(|| crowd(&eve, "refused"));
        let bobs: Vec<u16> = (0..40).map(|_| bob.get(CONFIG_MAPS).code).collect();
        (eves.join().unwrap(), bobs)
    });
    let refused: Vec<_> = eves.iter().filter(|reply| reply.code == 429).collect();
    assert!(!refused.is_empty() && eves.iter().all(|reply| matches!(reply.code, 201 | 429)));
    assert_eq!((refused[0].header("retry-after"), refused[0].text().as_str()), (Some("1"), "Too many requests, please try again later.\n"));
    assert_eq!(bobs, [200; 40], "another's flood refuses nobody else");
    let page = api.get("/metrics").text();
    let counted =
        format!("apiserver_flowcontrol_rejected_requests_total{{flow_schema=\"eve\",priority_level=\"tight\",reason=\"concurrency-limit\"}} {}", refused.len());
    assert!(page.contains(&counted), "{page}");

    // A change that many watch takes its seat until they have been told, longer than its answer.
    let mut writes = eve.connection();
    let mut write = |name: &str| {
        let ask = Ask::new("POST", CONFIG_MAPS).json(&config_map(name, &json!({})));
        writes.send(&ask).code
    };
    let unwatched: Vec<u16> = (0..10).map(|n| write(&format!("unwatched-{n}"))).collect();
    assert!(unwatched.iter().filter(|code| **code == 201).count() >= 8, "{unwatched:?}");
    let watches: Vec<_> = (0..100).map(|_| api.watch(&format!("{CONFIG_MAPS}?watch=1"))).collect();
    assert_eq!([write("watched-0"), write("watched-1")], [201, 429]);
    assert!(api.get("/metrics").text().contains("apiserver_flowcontrol_current_executing_seats{priority_level=\"tight\"}"));
    drop(watches);

    let queue = json!({"spec": {"limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 1, "queueLengthLimit": 50}}}}});
    api.patch("merge", &format!("{FLOW_CONTROL}/prioritylevelconfigurations/tight"), &queue).ok();
    let codes: Vec<u16> = crowd(&eve, "waits").iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [201; 240], "who may wait is served");
}

#[test]
fn events_go_when_their_time_is_over() {
    let (mut server, api) = with_arguments(&["event-ttl=3s"]);
    let events = "/api/v1/namespaces/default/events";
    let event = |name: &str| json!({"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "R", "type": "Normal", "source": {"component": "test"}});
    api.post(events, &event("a")).ok();
    api.post(events, &event("b")).ok();
    assert_eq!(names(&api.get(&format!("{events}?fieldSelector=source%3Dtest")).ok()), ["a", "b"]);
    assert_eq!(names(&api.get(&format!("{events}?fieldSelector=source%3Dother")).ok()), Vec::<String>::new());
    let told = Instant::now();
    wait_until("the first event goes, and the second, which is written again and again, does not", SOON, || {
        api.patch("merge", &format!("{events}/b"), &json!({"count": 2, "message": format!("{:?}", Instant::now())})).ok();
        names(&api.get(events).ok()) == ["b"]
    });
    assert!(told.elapsed() > Duration::from_millis(2500));
    // A start does not make it forget.
    server.end(nix::sys::signal::Signal::SIGKILL);
    server.launch();
    wait_until("the second goes too", SOON, || names(&api.get(events).ok()).is_empty());
}

#[test]
fn large_answers_are_compressed_for_who_accepts_that() {
    let (_server, api) = quiet();
    for n in 0..20 {
        api.post(CONFIG_MAPS, &config_map(&format!("big{n:02}"), &json!({"text": "x".repeat(10_000)}))).ok();
    }
    let plain = api.get(CONFIG_MAPS);
    assert_eq!(plain.header("content-encoding"), None);
    let ask = |path: &str, accept: &str| api.send(&Ask::new("GET", path).header("accept-encoding", "deflate, gzip").header("accept", accept));
    let packed = ask(CONFIG_MAPS, "application/json");
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
    assert!(packed.body.len() * 10 < plain.body.len());
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.body);
    assert_eq!(ask(&format!("{CONFIG_MAPS}/big00"), "application/json").header("content-encoding"), None, "small ones are not");
    let table = ask(&format!("{CONFIG_MAPS}?includeObject=Object"), "application/json;as=Table;g=meta.k8s.io;v=v1");
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&table.body[..]).read_to_end(&mut text).unwrap();
    let table: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(table["rows"].as_array().unwrap().len(), 20);
    let watch = api.with_header("accept-encoding", "gzip").watch(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1"));
    assert!(watch.headers.iter().all(|(name, _)| name != "content-encoding"));
    assert_eq!(watch.count(), 20);
}

#[test]
fn forms_of_answers_are_negotiated() {
    let (_server, api) = quiet();
    let accept = |accept: &str| api.send(&Ask::new("GET", CONFIG_MAPS).header("accept", accept));
    assert_eq!(accept("application/vnd.kubernetes.protobuf, application/json").header("content-type"), Some("application/vnd.kubernetes.protobuf"));
    assert_eq!(accept("application/json, application/vnd.kubernetes.protobuf").header("content-type"), Some("application/json"));
    let (code, reason, message) = accept("application/cbor").refusal();
    assert_eq!((code, reason.as_str()), (406, "NotAcceptable"));
    assert_eq!(message, "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf");
    assert_eq!(accept("application/json;q=0.4, application/yaml").header("content-type"), Some("application/yaml"));
    api.post("/api/v1/namespaces/default/pods", &pod("a")).ok();
    let page = api.get("/api/v1/namespaces/default/configmaps?continue=!").refusal();
    assert_eq!(page.2, "invalid continue token: continue key is not valid: illegal base64 data at input byte 0");
}

#[test]
fn who_sends_nothing_is_let_go_and_disturbs_nobody() {
    let (server, api) = quiet();
    let started = Instant::now();
    let mut silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
    assert_eq!(api.get("/api").code, 200);
    let mut buffer = [0; 16];
    // No handshake comes: the server closes.
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        assert_eq!(stream.read(&mut buffer).unwrap_or(0), 0);
    }
    assert!(started.elapsed() < Duration::from_secs(35));
}

#[test]
fn sizes_have_limits_and_refusals_say_so() {
    let (server, api) = quiet();
    let reply = api.send(&Ask::new("POST", CONFIG_MAPS).body("application/json", vec![b' '; (3 << 20) + 1]));
    assert_eq!((reply.code, reply.refusal().1.as_str()), (413, "RequestEntityTooLarge"));
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(api.send(&Ask::new("POST", CONFIG_MAPS).body("application/json", deep)).refusal().0, 400);
    let long = api.get(&format!("{CONFIG_MAPS}?labelSelector={}", "a".repeat(200_000)));
    assert!(matches!(long.code, 400 | 414 | 431), "{}", long.code);
    // What is no TLS is no reason to stop either.
    let mut plain = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(api.get("/api").code, 200);
}
