//! Exec and attach.
use crate::client::{get, hear, next, say, spdy, web_socket};
use crate::stand::Stand;
use bytes::Bytes;
use futures::SinkExt;
use node_agent::streams::spdy::{Event, open};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

fn exec(command: &[&str], streams: &str) -> String {
    let command: String =
        command.iter().map(|word| format!("command={}&", percent_encoding::utf8_percent_encode(word, percent_encoding::NON_ALPHANUMERIC))).collect();
    format!("/clusters/root/exec/default/p/talker?{command}{streams}")
}

pub async fn web_sockets_carry_streams_and_the_outcome(stand: &Stand) {
    let mut socket = web_socket(stand, &exec(&["cat"], "input=1&output=1&error=1"), "v5.channel.k8s.io, v4.channel.k8s.io").await;
    say(&mut socket, 0, b"hello ").await;
    say(&mut socket, 0, b"there").await;
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let (stdout, _, outcome) = hear(&mut socket).await;
    assert_eq!((stdout.as_slice(), &outcome["status"]), (&b"hello there"[..], &"Success".into()));

    let mut socket = web_socket(stand, &exec(&["sh", "-c", "echo out; echo err >&2; exit 3"], "stdout=true&stderr=true"), "v4.channel.k8s.io").await;
    let (stdout, stderr, outcome) = hear(&mut socket).await;
    assert_eq!((stdout.as_slice(), stderr.as_str()), (&b"out\n"[..], "err\n"));
    assert_eq!((&outcome["status"], &outcome["reason"]), (&"Failure".into(), &"NonZeroExitCode".into()));
    assert_eq!(outcome["details"]["causes"][0], serde_json::json!({"reason": "ExitCode", "message": "3"}));

    let mut socket = web_socket(stand, &exec(&["no-such-program"], "stdout=1"), "v5.channel.k8s.io").await;
    let (_, _, outcome) = hear(&mut socket).await;
    assert!(outcome["status"] == "Failure" && outcome["message"].as_str().unwrap().contains("no-such-program"), "{outcome}");
}

pub async fn a_terminal_is_resized(stand: &Stand) {
    let mut socket = web_socket(stand, &exec(&["sh", "-c", "read x; busybox stty size"], "stdin=true&stdout=true&tty=true"), "v5.channel.k8s.io").await;
    say(&mut socket, 4, br#"{"Width":100,"Height":40}"#).await;
    // The size arrives on another stream than the input: give it a moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    say(&mut socket, 0, b"go\r").await;
    let (stdout, _, outcome) = hear(&mut socket).await;
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(stdout.contains("40 100\r\n") && outcome["status"] == "Success", "{stdout} {outcome}");
}

pub async fn much_output_meets_slow_readers(stand: &Stand) {
    const BYTES: usize = 8 << 20;
    let mut socket = web_socket(stand, &exec(&["busybox", "head", "-c", &BYTES.to_string(), "/dev/zero"], "stdout=1"), "v5.channel.k8s.io").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (stdout, _, outcome) = hear(&mut socket).await;
    assert_eq!((stdout.len(), &outcome["status"]), (BYTES, &"Success".into()));

    // Both directions at once, each larger than all buffers between.
    let mut socket = web_socket(stand, &exec(&["cat"], "stdin=1&stdout=1"), "v5.channel.k8s.io").await;
    let (mut sink, mut source) = futures::StreamExt::split(&mut socket);
    let sending = async {
        for _ in 0..256 {
            sink.send(Message::binary(vec![0; 32 * 1024])).await.unwrap();
        }
        sink.send(Message::binary(vec![255, 0])).await.unwrap();
    };
    let hearing = async {
        let mut heard = 0;
        while let Some(message) = futures::StreamExt::next(&mut source).await {
            match message.unwrap() {
                Message::Binary(data) if data[0] == 1 => heard += data.len() - 1,
                Message::Close(_) => break,
                _ => {}
            }
        }
        heard
    };
    let ((), heard) = futures::future::join(sending, hearing).await;
    assert_eq!(heard, 256 * (32 * 1024 - 1));
}

pub async fn spdy_clients_are_tunneled(stand: &Stand) {
    let (mut incoming, mut outgoing) = open(spdy(stand, &exec(&["cat"], "stdin=true&stdout=true"), "v4.channel.k8s.io").await);
    let mut ids = Vec::new();
    for kind in ["error", "stdin", "stdout"] {
        ids.push(outgoing.open_stream(&[("streamtype", kind)], false).await.unwrap());
    }
    outgoing.send_data(ids[1], Bytes::from_static(b"through"), true).await.unwrap();
    let (mut stdout, mut outcome) = (Vec::new(), Vec::new());
    while let Some(event) = incoming.next().await.unwrap() {
        match event {
            Event::Data { stream, data, .. } if stream == ids[0] => outcome.extend_from_slice(&data),
            Event::Data { stream, data, .. } if stream == ids[2] => stdout.extend_from_slice(&data),
            _ => {}
        }
    }
    assert_eq!(stdout, b"through");
    assert_eq!(outcome, br#"{"metadata":{},"status":"Success"}"#);
}

pub async fn attach_joins_the_running_process(stand: &Stand) {
    let mut socket = web_socket(stand, "/attach/default/p/reader?stdin=true&stdout=true&stderr=true", "v4.channel.k8s.io").await;
    say(&mut socket, 0, b"again\n").await;
    assert_eq!(next(&mut socket).await, (1, b"again\n".to_vec()));
}

pub async fn what_can_not_run_is_refused_before_the_upgrade(stand: &Stand) {
    let get = async |path: &str| get(stand, Some(&stand.api_server), path).await;
    assert_eq!(get("/exec/default/none/talker?command=ls&output=1").await, (404, "pod does not exist".into()));
    assert_eq!(get("/exec/default/p/late?command=ls&output=1").await, (500, "container not found (\"late\")".into()));
    assert_eq!(get("/exec/default/p/talker?command=ls").await, (400, "you must specify at least 1 of stdin, stdout, stderr".into()));
    assert_eq!(get("/exec/default/p/other-uid/talker?command=ls&output=1").await, (404, "pod does not exist".into()));
    let (status, message) = get(&exec(&["ls"], "output=1")).await;
    assert!(status == 400 && message.starts_with("unable to upgrade"), "{status} {message}");
}
