//! Watches: what each watcher hears, in which order, from when and until when.
use crate::support::{CONFIG_MAPS, config_map, pod, quiet};
use serde_json::{Value, json};
use testkit::{Api, Ask, Server, ServerOptions, wait_until};

fn labelled(name: &str, color: &str) -> Value {
    let mut object = config_map(name, &json!({"k": "v"}));
    object["metadata"]["labels"] = json!({"color": color});
    object
}

fn newest(api: &Api) -> String {
    api.get(CONFIG_MAPS).ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// Whether a bookmark's revision lies between two: others may write meanwhile, things of whatever kind.
fn tells_of_now(bookmark: &Value, since: &str, now: &str) -> bool {
    let told = bookmark["metadata"]["resourceVersion"].as_str().unwrap();
    let [since, told, now] = [since, told, now].map(|revision| revision.parse::<u64>().unwrap());
    (since..=now).contains(&told)
}

#[test]
fn a_watcher_hears_of_what_it_selects_as_it_comes_changes_and_goes() {
    let (_server, api) = quiet();
    api.post(CONFIG_MAPS, &labelled("before", "red")).ok();
    let since = newest(&api);
    let mut all = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={since}"));
    let mut red = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={since}&labelSelector=color%3Dred"));
    let mut one = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={since}&fieldSelector=metadata.name%3Da"));
    let mut old_way = api.watch(&format!("/api/v1/watch/namespaces/default/configmaps/a?resourceVersion={since}"));
    let paint = |color: &str| api.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({"metadata": {"labels": {"color": color}}})).ok();
    api.post(CONFIG_MAPS, &labelled("a", "red")).ok();
    api.post(CONFIG_MAPS, &labelled("b", "blue")).ok();
    paint("blue");
    paint("red");
    api.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({"data": {"k": "w"}})).ok();
    api.delete(&format!("{CONFIG_MAPS}/a")).ok();
    api.delete(&format!("{CONFIG_MAPS}/b")).ok();
    let take = |watch: &mut testkit::Watch, count: usize| (0..count).map(|_| watch.next_short()).collect::<Vec<_>>();
    let a = ["ADDED a", "MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a"];
    assert_eq!(take(&mut all, 7), ["ADDED a", "ADDED b", "MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a", "DELETED b"]);
    assert_eq!(take(&mut one, 5), a);
    assert_eq!(take(&mut old_way, 5), a);
    // To who sees only red, what is painted blue is gone, in the last red it had, and comes back.
    assert_eq!(red.next_short(), "ADDED a");
    let (kind, gone) = red.next_event();
    assert_eq!((kind.as_str(), gone["metadata"]["labels"]["color"].as_str()), ("DELETED", Some("red")));
    assert_eq!(take(&mut red, 3), ["ADDED a", "MODIFIED a", "DELETED a"]);
}

#[test]
fn revisions_in_events_go_up_and_lead_on() {
    let (_server, api) = quiet();
    let since = newest(&api);
    for n in 0..5 {
        api.post(CONFIG_MAPS, &config_map(&format!("c{n}"), &json!({}))).ok();
    }
    api.delete(&format!("{CONFIG_MAPS}/c1")).ok();
    let all: Vec<(String, u64)> = api
        .watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={since}"))
        .take(6)
        .map(|(kind, object)| (format!("{kind} {}", object["metadata"]["name"]), object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()))
        .collect();
    assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].1), "{all:?}");
    // From any event on, the rest is the same.
    for (index, (_, revision)) in all.iter().enumerate().take(5) {
        let (kind, object) = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}")).next_event();
        assert_eq!(format!("{kind} {}", object["metadata"]["name"]), all[index + 1].0);
    }
}

#[test]
fn a_watch_can_begin_with_what_there_is_and_say_where_that_ends() {
    let (_server, api) = quiet();
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        api.post(CONFIG_MAPS, &labelled(name, color)).ok();
    }
    let since = newest(&api);
    let all = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=";
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?{all}&allowWatchBookmarks=true&labelSelector=color%3Dred"));
    assert_eq!([watch.next_short(), watch.next_short()], ["ADDED a", "ADDED c"]);
    let (kind, bookmark) = watch.next_event();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(bookmark["kind"], "ConfigMap");
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(tells_of_now(&bookmark, &since, &newest(&api)), "{since}: {bookmark}");
    api.post(CONFIG_MAPS, &labelled("d", "red")).ok();
    assert_eq!(watch.next_short(), "ADDED d");
    // Without bookmarks the end is not told; without the option only what comes is sent; the old way works too.
    let mut plain = api.watch(&format!("{CONFIG_MAPS}?{all}&labelSelector=color%3Dblue"));
    assert_eq!(plain.next_short(), "ADDED b");
    let mut old = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=0&labelSelector=color%3Dblue"));
    assert_eq!(old.next_short(), "ADDED b");
    let mut none = api.watch(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"));
    api.post(CONFIG_MAPS, &labelled("e", "blue")).ok();
    for watch in [&mut plain, &mut old, &mut none] {
        let event = watch.next_short();
        assert!(["ADDED e"].contains(&event.as_str()), "{event}");
    }
    let refused = |query: &str| api.get(&format!("{CONFIG_MAPS}?watch=1&{query}")).refusal().2.replace("ListOptions.meta.k8s.io \"\" is invalid: ", "");
    assert_eq!(refused("sendInitialEvents=true"), "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    assert_eq!(
        refused("resourceVersionMatch=NotOlderThan&resourceVersion=1"),
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    );
    assert_eq!(
        refused("sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1"),
        "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"
    );
    let (code, reason, _) = api.send(&Ask::new("GET", &format!("{CONFIG_MAPS}?watch=1")).header("accept", "application/yaml")).refusal();
    assert_eq!((code, reason.as_str()), (406, "NotAcceptable"));
}

#[test]
fn a_watch_ends_when_it_should_with_a_last_word() {
    let (_server, api) = quiet();
    let since = newest(&api);
    let started = std::time::Instant::now();
    let watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=3&allowWatchBookmarks=true&resourceVersion={since}"));
    let events: Vec<(String, Value)> = watch.collect();
    assert!(started.elapsed().as_secs_f32() >= 2.9);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].0 == "BOOKMARK" && tells_of_now(&events[0].1, &since, &newest(&api)), "{since}: {events:?}");
    // An age of the universe is cut to something sensible.
    let mut long = api.watch(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=9223372036854775807&resourceVersion={since}"));
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    assert_eq!(long.next_short(), "ADDED a");
}

#[test]
fn tables_and_metadata_are_watched_too() {
    let (_server, api) = quiet();
    let pods = "/api/v1/namespaces/default/pods";
    let watch = |form: &str| api.with_header("accept", &format!("application/json;as={form};g=meta.k8s.io;v=v1")).watch(&format!("{pods}?watch=1"));
    api.post(pods, &pod("a")).ok();
    let (mut table, mut metadata) = (watch("Table"), watch("PartialObjectMetadata"));
    api.post(pods, &pod("b")).ok();
    let (_, first) = table.next_event();
    assert_eq!((&first["kind"], &first["columnDefinitions"][0]["name"]), (&json!("Table"), &json!("Name")));
    assert_eq!((&first["rows"][0]["cells"][0], &first["rows"][0]["object"]["kind"]), (&json!("a"), &json!("PartialObjectMetadata")));
    let (_, second) = table.next_event();
    assert_eq!((&second["columnDefinitions"], &second["rows"][0]["cells"][0]), (&Value::Null, &json!("b")));
    let (_, object) = metadata.next_event();
    assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("PartialObjectMetadata"), &json!("a")));
    assert!(object.get("spec").is_none());
}

#[test]
fn a_watch_from_forgotten_times_is_told_so() {
    let server = Server::start(ServerOptions {
        arguments: ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam", "--kube-apiserver-arg", "etcd-compaction-interval=1s"]
            .map(Into::into)
            .into(),
        ..ServerOptions::default()
    });
    let api = server.api();
    let created = api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    let then = created["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let page = api.get("/api/v1/namespaces?limit=1").ok();
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    api.post(CONFIG_MAPS, &config_map("b", &json!({}))).ok();
    let exact = format!("{CONFIG_MAPS}?resourceVersion={then}&resourceVersionMatch=Exact");
    wait_until("history is compacted", crate::support::SOON, || {
        // Something has to happen for there to be something to forget.
        api.patch("merge", &format!("{CONFIG_MAPS}/b"), &json!({"data": {"t": format!("{:?}", std::time::Instant::now())}})).ok();
        api.get(&exact).code == 410
    });
    // The watch is accepted and then ends with an event that says why.
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={then}"));
    let (kind, status) = watch.next_event();
    assert_eq!((kind.as_str(), &status["kind"], &status["code"], &status["reason"]), ("ERROR", &json!("Status"), &json!(410), &json!("Expired")));
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too old resource version: {then} (")), "{message}");
    assert!(watch.next().is_none());
    let expired = api.get(&format!("/api/v1/namespaces?limit=1&continue={token}"));
    let (code, reason, message) = expired.refusal();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    assert!(message.starts_with("The provided continue parameter is too old to display a consistent list result."), "{message}");
    // Who prefers the rest as it is now to nothing has a token for that.
    let body = expired.json();
    let rest = api.get(&format!("/api/v1/namespaces?continue={}", body["metadata"]["continue"].as_str().unwrap())).ok();
    assert_eq!(rest["items"].as_array().unwrap().len(), 3);
    let (code, reason, _) = api.get(&exact).refusal();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
}
