//! Logs over the wire.
use crate::client::{get, request, send};
use crate::stand::Stand;
use http_body_util::BodyExt;

pub async fn logs_are_read_and_followed(stand: &Stand) {
    let logs = async |query: &str| get(stand, Some(&stand.api_server), &format!("/clusters/root/containerLogs/default/p/{query}")).await;
    // Both outputs are written by two tasks of the runtime, in either order.
    let mut all = (0, String::new());
    for _ in 0..100 {
        all = logs("talker").await;
        if all.1.len() == "started\noops\n".len() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(all.0, 200);
    let mut lines: Vec<_> = all.1.lines().collect();
    lines.sort();
    assert_eq!(lines, ["oops", "started"]);
    assert_eq!(logs("talker?stream=Stdout").await, (200, "started\n".into()));
    assert_eq!(logs("talker?stream=Stdout&limitBytes=4").await, (200, "star".into()));
    assert_eq!(logs("talker?tailLines=0").await, (200, String::new()));
    assert_eq!(logs("talker?tailLines=1").await.1.lines().count(), 1);
    let stamped = logs("talker?timestamps=true&stream=Stderr").await.1;
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(text == "oops\n" && time.parse::<jiff::Timestamp>().is_ok(), "{stamped}");
    assert_eq!(logs("talker?sinceTime=2999-01-01T00:00:00Z").await, (200, String::new()));
    assert_eq!(logs("talker?tailLines=x").await.0, 400);
    assert_eq!(logs("talker?previous=true").await, (400, "previous terminated container \"talker\" in pod \"p\" not found".into()));
    assert_eq!(logs("late").await, (400, "container \"late\" in pod \"p\" is waiting to start: ContainerCreating".into()));
    assert_eq!(logs("none").await, (404, "container \"none\" not found in pod \"p\"\n".into()));

    let follow = send(stand, Some(&stand.api_server), request("GET", "/containerLogs/default/p/reader?follow=true")).await;
    let mut body = follow.into_body();
    let mut socket = crate::client::web_socket(stand, "/attach/default/p/reader?stdin=true&stdout=true", "v5.channel.k8s.io").await;
    crate::client::say(&mut socket, 0, b"into the log\n").await;
    let piece = tokio::time::timeout(std::time::Duration::from_secs(10), body.frame()).await.expect("in time").unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "into the log\n");
}
