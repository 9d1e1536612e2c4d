//! Health checks: asks each member of a pool in its interval, and notes who lives.
use crate::backend_stream::BackendStream;
use crate::backends::{Backend, Backends, connect};
use crate::metrics::METRICS;
use crate::{HealthCheck, Pool};
use futures::future::join_all;
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Of an answer, only its first line is read.
const FIRST_LINE: usize = 64;

/// Checks a pool's members for as long as it has a check. All are asked at once, in each interval.
pub async fn check(backends: Arc<Backends>) {
    // By member: failures in a row.
    let mut failures: HashMap<SocketAddrV4, u32> = HashMap::new();
    loop {
        let pool = backends.pool();
        let Some(check) = &pool.health_check else { return };
        let all = backends.all();
        let answers = join_all(all.iter().map(|backend| lives(check, backend.at, &pool))).await;
        failures.retain(|at, _| all.iter().any(|backend| backend.at == *at));
        for (backend, lives) in all.iter().zip(answers) {
            let count = failures.entry(backend.at).or_default();
            *count = if lives { 0 } else { count.saturating_add(1) };
            note(backend, lives, *count, check.retries);
        }
        tokio::time::sleep(check.interval).await;
    }
}

fn note(backend: &Backend, lives: bool, failures: u32, retries: u32) {
    let was = backend.healthy.load(Ordering::Relaxed);
    if lives && !was {
        tracing::info!(backend = %backend.at, "a member is well again");
        METRICS.ill.dec();
    } else if !lives && was && failures >= retries {
        tracing::warn!(backend = %backend.at, failures, "a member is ill and gets nothing for now");
        METRICS.ill.inc();
    } else {
        return;
    }
    backend.healthy.store(lives, Ordering::Relaxed);
}

/// Whether one member passes one check.
async fn lives(check: &HealthCheck, at: SocketAddrV4, pool: &Pool) -> bool {
    let asked = async {
        let mut stream = connect(at, pool.mark).await?;
        let Some(path) = &check.path else { return Ok(true) };
        if let Some(protocol) = pool.proxy_protocol {
            stream.write_all(&protocol.header(None)).await?;
        }
        let mut stream = match &pool.tls {
            None => BackendStream::Plain(stream),
            Some(tls) => BackendStream::Tls(Box::new(tls.connect(at, stream).await?)),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nUser-Agent: fiberlb-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut line = Vec::new();
        while line.len() < FIRST_LINE && !line.contains(&b'\n') && stream.read_buf(&mut line).await? > 0 {}
        Ok::<bool, std::io::Error>(is_right(&line))
    };
    matches!(tokio::time::timeout(check.timeout, asked).await, Ok(Ok(true)))
}

/// Whether an answer's first line bears a code of 200 to 399.
fn is_right(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split(' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    version.starts_with("HTTP/1.") && code.get(..3).and_then(|code| code.parse::<u16>().ok()).is_some_and(|code| (200..400).contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_200_to_399_is_right() {
        for (line, right) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 302 Found\r\n", true),
            ("HTTP/1.1 204\r\n", true),
            ("HTTP/1.1 404 Not Found\r\n", false),
            ("HTTP/1.1 503 \r\n", false),
            ("SSH-2.0-x 200 \r\n", false),
            ("", false),
        ] {
            assert_eq!(is_right(line.as_bytes()), right, "{line:?}");
        }
    }
}
