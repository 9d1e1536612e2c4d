//! /metrics: who may see them, and that they count what happens.
use crate::support::{CONFIG_MAPS, SOON, config_map, quiet};
use serde_json::json;
use testkit::{Api, Server, wait_until};

fn value(api: &Api, sample: &str) -> Option<f64> {
    let reply = api.get("/metrics");
    assert_eq!((reply.code, reply.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let text = reply.text();
    text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

#[test]
fn requests_watches_and_objects_are_counted() {
    let (_server, api) = quiet();
    for n in 0..3 {
        api.post(CONFIG_MAPS, &config_map(&format!("c{n}"), &json!({}))).ok();
    }
    let labels = r#"group="",version="v1",resource="configmaps",subresource="",scope="resource",component="apiserver""#;
    assert_eq!(value(&api, &format!("apiserver_request_total{{verb=\"POST\",dry_run=\"\",{labels},code=\"201\"}}")), Some(3.0));
    assert_eq!(value(&api, &format!("apiserver_request_duration_seconds_count{{verb=\"POST\",dry_run=\"\",{labels}}}")), Some(3.0));
    api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("d", &json!({}))).ok();
    assert_eq!(value(&api, &format!("apiserver_request_total{{verb=\"POST\",dry_run=\"All\",{labels},code=\"201\"}}")), Some(1.0));
    // One tells aggregated servers whom to believe.
    assert_eq!(value(&api, "apiserver_storage_objects{resource=\"configmaps\"}"), Some(4.0));
    assert_eq!(value(&api, "apiserver_current_inflight_requests{request_kind=\"readOnly\"}"), Some(1.0), "this one");
    let watches =
        r#"apiserver_longrunning_requests{verb="WATCH",group="",version="v1",resource="configmaps",subresource="",scope="namespace",component="apiserver"}"#;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=0"));
    assert_eq!([watch.next_short(), watch.next_short(), watch.next_short()], ["ADDED c0", "ADDED c1", "ADDED c2"]);
    assert_eq!(value(&api, watches), Some(1.0));
    api.post(CONFIG_MAPS, &config_map("e", &json!({}))).ok();
    assert_eq!(watch.next_short(), "ADDED e");
    assert_eq!(value(&api, "apiserver_watch_events_total{group=\"\",version=\"v1\",resource=\"configmaps\"}"), Some(4.0));
    drop(watch);
    wait_until("the watch is over", SOON, || {
        api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("d", &json!({}))).ok();
        api.patch("merge", &format!("{CONFIG_MAPS}/e"), &json!({"data": {"t": format!("{:?}", std::time::Instant::now())}})).ok();
        value(&api, watches) == Some(0.0)
    });
    // What does not exist leaves no trace: labels are not for clients to make up.
    api.get("/apis/made.up/v1/things").refusal();
    let text = api.get("/metrics").text();
    assert!(!text.contains("made.up") && text.contains("process_resident_memory_bytes ") && text.contains("# TYPE apiserver_request_total counter"), "{text}");
    assert_eq!(api.acting_as("somebody", &[]).get("/metrics").refusal().0, 403);
    assert_eq!(api.anonymous().get("/metrics").refusal().0, 401);
}

#[test]
fn controllers_tell_of_their_queues() {
    let server = Server::control_plane();
    let api = server.api();
    wait_until("a controller has worked", SOON, || value(&api, "workqueue_adds_total{name=\"namespace-controller\"}").is_some_and(|count| count > 0.0));
    for sample in [
        "workqueue_depth{name=\"namespace-controller\"}",
        "workqueue_work_duration_seconds_count{name=\"namespace-controller\"}",
        "workqueue_retries_total{name=\"namespace-controller\"}",
    ] {
        assert!(value(&api, sample).is_some(), "{sample}");
    }
}
