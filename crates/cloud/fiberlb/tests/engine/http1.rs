//! HTTP/1 byte for byte: what backends say and clients get, and the other way.
use crate::loopback::{codes, free, pool, started, talk};
use fiberlb::{Engine, Pool};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n";

/// A backend that takes connections one after another, and does with each what the script says.
struct Scripted {
    at: SocketAddrV4,
    connections: Arc<AtomicUsize>,
}

async fn scripted<F: Future<Output = ()> + Send>(script: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Scripted {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let SocketAddr::V4(at) = listener.local_addr().unwrap() else { unreachable!() };
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            script(stream, counter.fetch_add(1, Ordering::SeqCst)).await;
        }
    });
    Scripted { at, connections }
}

/// Reads up to and with the next head.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A backend that answers every head on a connection with these bytes.
async fn answering(answer: &'static str) -> (Scripted, Engine, SocketAddrV4) {
    let backend = scripted(move |mut stream, _| async move {
        while head(&mut stream).await.is_some() && stream.write_all(answer.as_bytes()).await.is_ok() {
            // An answer without a length ends with its connection.
            if !answer.contains("ength") && !answer.contains("chunked") && answer.contains(" 200 ") {
                return;
            }
        }
    })
    .await;
    let (engine, at) = started(pool(&[backend.at])).await;
    (backend, engine, at)
}

fn without_date(answer: &str) -> String {
    answer.split("\r\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\r\n")
}

#[tokio::test]
async fn an_answer_ends_for_its_client_where_its_backend_ended_it() {
    let get = GET.to_owned();
    let (first, head, old) = (format!("{GET}{GET}"), GET.replace("GET", "HEAD"), GET.replace("1.1", "1.0"));
    let old_stays = old.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
    for (answer, asked, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            &first,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n02;x\r\nhi\r\n0\r\nT: u\r\n\r\n",
            &get,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhi", &get, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n\r\nhi", &old, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", &old, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", &old_stays, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", &head, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
            &first,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\nHTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", &first, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", &get, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ] {
        let (_backend, _engine, at) = answering(answer).await;
        assert_eq!(without_date(&talk(at, asked).await), expected, "{answer:?} to {asked:?}");
    }
}

#[tokio::test]
async fn what_a_backend_says_in_two_ways_reaches_no_client() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 2\r\n\r\nhi",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-chunked\r\n\r\n",
    ] {
        let (_backend, _engine, at) = answering(answer).await;
        assert_eq!(codes(&talk(at, GET).await), ["502"], "{answer:?}");
    }
    // Where its body turns out to be wrong, the client has no whole answer.
    let (_backend, _engine, at) = answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nx\r\n").await;
    let broken = talk(at, GET).await;
    assert!(!broken.ends_with("0\r\n\r\n"), "{broken}");
}

#[tokio::test]
async fn what_follows_an_answer_is_nobodys_answer() {
    let (backend, _engine, at) = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen").await;
    let answers = talk(at, &GET.repeat(3)).await;
    assert!(codes(&answers).len() == 3 && !answers.contains("stolen"), "{answers}");
    assert_eq!(backend.connections.load(Ordering::SeqCst), 3, "no such connection is used twice");
    let (backend, _engine, at) = answering("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n").await;
    assert_eq!(codes(&talk(at, &GET.repeat(3)).await), ["204"; 3]);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn many_requests_in_a_row_go_over_one_connection_in_their_order() {
    let backend = scripted(|mut stream, _| async move {
        while let Some(head) = head(&mut stream).await {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let asked: String = (0..2000).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a.example.com\r\n\r\n")).collect();
    let answers = talk(at, &asked).await;
    let bodies: Vec<&str> = answers.split("\r\n\r\n/").skip(1).map(|rest| rest.split("HTTP").next().unwrap_or_default()).collect();
    assert_eq!(bodies, (0..2000).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_ended_while_it_waited_costs_no_request() {
    let backend = scripted(|mut stream, number| async move {
        // The first hangs up once the second request is there, without a word.
        if head(&mut stream).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        }
        if number == 0 {
            head(&mut stream).await;
        }
    })
    .await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    assert_eq!(codes(&talk(at, &GET.repeat(2)).await), ["200", "200"]);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 2);
    // What may have been done is not done again.
    let backend = scripted(|mut stream, _| async move {
        head(&mut stream).await;
    })
    .await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let post = "POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(codes(&talk(at, post).await), ["502"]);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let backend = scripted(|mut stream, _| async move {
        let asked = head(&mut stream).await.unwrap();
        assert!(!asked.to_lowercase().contains("expect"), "{asked}");
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
    })
    .await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let expecting = |host: &str| format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(expecting("a.example.com").as_bytes()).await.unwrap();
    assert_eq!(head(&mut client).await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    assert!(head(&mut client).await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    let mut body = [0; 5];
    client.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"hello");
    assert_eq!(codes(&talk(at, &expecting("b.example.com")).await), ["404"], "without leave");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_and_wait_for_who_is_slow() {
    const SIZE: usize = 40 << 20;
    let backend = scripted(|mut stream, _| async move {
        head(&mut stream).await.unwrap();
        let (mut sum, mut left, mut piece) = (0u64, SIZE, vec![0; 1 << 16]);
        while left > 0 {
            let count = stream.read(&mut piece).await.unwrap();
            assert!(count > 0 && count <= left);
            left -= count;
            sum += piece[..count].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
        let start = format!("HTTP/1.1 200 OK\r\nX-Sum: {sum}\r\nContent-Length: {SIZE}\r\n\r\n");
        stream.write_all(start.as_bytes()).await.unwrap();
        // A client that goes is the test's own.
        let _ = stream.write_all(&vec![b'x'; SIZE]).await;
    })
    .await;
    let (_engine, at) = started(Pool { timeout: Duration::from_secs(20), ..pool(&[backend.at]) }).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(format!("PUT / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    client.write_all(&body).await.unwrap();
    let head = head(&mut client).await.unwrap();
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    assert!(head.contains(&format!("X-Sum: {sum}\r\n")), "{head}");
    // Nobody reads: what is on its way is what sockets hold, and the backend waits.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut got = vec![0; SIZE];
    timeout(Duration::from_secs(20), client.read_exact(&mut got)).await.unwrap().unwrap();
    assert!(got.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let backend = scripted(|mut stream, _| async move {
        head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await.unwrap();
    })
    .await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 1000000\r\n\r\npart").await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(5), client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close\r\n") && answer.ends_with("no"), "{answer}");
}

#[tokio::test]
async fn a_backend_learns_that_its_client_has_gone() {
    let (told, mut gone) = tokio::sync::mpsc::channel(1);
    let backend = scripted(move |mut stream, _| {
        let told = told.clone();
        async move {
            head(&mut stream).await.unwrap();
            told.send(stream.read(&mut [0]).await.is_ok_and(|count| count == 0)).await.unwrap();
        }
    })
    .await;
    let (_engine, at) = started(Pool { timeout: Duration::from_secs(60), ..pool(&[backend.at]) }).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    assert!(timeout(Duration::from_secs(5), gone.recv()).await.unwrap().unwrap());
}

#[tokio::test]
async fn lines_that_do_not_end_as_they_should_are_refused_at_once() {
    let dead = free().await;
    let (_engine, at) = started(pool(&[dead])).await;
    for (bytes, code) in [
        ("GET / HTTP/1.1\nHost: a.example.com\n\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a.example.com\nX: y\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a.example.com\rX: y\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a.example.com\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("\x16\x03\x01\x02\x00", "400"),
        ("GET / HTTP/3.0\r\nHost: a.example.com\r\n\r\n", "505"),
        ("POST / HTTP/1.1\r\nHost: a.example.com\r\nExpect: x\r\n\r\n", "417"),
    ] {
        let answer = talk(at, &format!("{bytes}{GET}")).await;
        assert_eq!(codes(&answer), [code], "{bytes:?}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    let many = format!("GET / HTTP/1.1\r\nHost: a.example.com\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(codes(&talk(at, &many).await), ["431"]);
}

#[tokio::test]
async fn a_body_that_breaks_its_frame_ends_its_connection_and_its_backends() {
    let backend = scripted(|mut stream, _| async move {
        let mut all = Vec::new();
        // However it ends: what matters is what came.
        let _ = stream.read_to_end(&mut all).await;
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(!text.contains("hidden") && !text.ends_with("0\r\n\r\n"), "{text}");
    })
    .await;
    let (_engine, at) = started(pool(&[backend.at])).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
    for body in ["2\r\nhi!\r\n0\r\n\r\n", "2\nhi\r\n0\r\n\r\n", "0x2\r\nhi\r\n0\r\n\r\n", "2\r\nhi\r\n0\r\nno colon\r\n\r\n", "ffffffffffffffffff\r\n"] {
        let answers = talk(at, &format!("POST / HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n\r\n{body}{hidden}")).await;
        assert_eq!(codes(&answers), ["400"], "{body:?}: {answers}");
    }
}
