//! Renewal: the one loop that has certificates replaced before they end, whoever issues them.
use crate::Renewable;
use clock::Clock;
use jiff::Timestamp;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Between two renewals, also where the first went well: to a clock that is far ahead of the authority's, every new
/// certificate is due.
const PAUSE: Duration = Duration::from_secs(5);
/// After many that failed in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Between two looks at the clock, which may be set while a timer waits.
const LOOK: Duration = Duration::from_secs(3600);

/// Calls `renew` when `due` has come, and again when the time has come that it answers with, for ever. A connection that
/// is shown one of `shown` when it is due has that done at once.
pub async fn keep_current<E, F>(clock: Arc<dyn Clock>, shown: &[&Arc<Renewable>], mut due: Timestamp, mut renew: impl FnMut() -> F)
where
    E: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = Result<Timestamp, E>>,
{
    let told = Arc::new(Notify::new());
    for shown in shown {
        let tell = told.clone();
        shown.when_due(clock.clone(), move || tell.notify_one());
    }
    let mut pause = PAUSE;
    loop {
        until(&*clock, due, &told).await;
        match renew().await {
            Ok(next) => (due, pause) = (next, PAUSE),
            Err(error) => {
                let error = error.into();
                tracing::error!(error = &*error as &dyn Error, "renewing certificates failed; it is tried again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until it is time, or somebody is told that it is.
async fn until(clock: &dyn Clock, due: Timestamp, told: &Notify) {
    loop {
        let left = Duration::try_from(due.duration_since(clock.now())).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(LOOK)) => {}
            () = told.notified() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CertificateAuthority, LeafRequest, renewal_of};
    use clock::ManualClock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn certificates_are_renewed_when_due_and_tried_again_when_that_fails() {
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let authority = CertificateAuthority::generate("ca", &clock).unwrap();
        let request = LeafRequest {
            common_name: "service".into(),
            organizations: vec![],
            dns_names: vec![],
            ip_addresses: vec![],
            server: true,
            client: false,
            validity: Duration::from_hours(365 * 24),
        };
        let first = authority.issue(&request, &clock).unwrap();
        let shown = Renewable::new(&first).unwrap();
        let tried = Arc::new(AtomicUsize::new(0));
        let keeping = {
            let (clock, shown, tried) = (clock.clone(), shown.clone(), tried.clone());
            let due = renewal_of(&first.certificate_pem).unwrap();
            tokio::spawn(async move {
                keep_current(Arc::new(clock.clone()), &[&shown], due, || {
                    // The first two tries fail.
                    let renewed = if tried.fetch_add(1, Ordering::SeqCst) < 2 { Err("the authority is away") } else { Ok(()) };
                    let issued = authority.issue(&request, &clock).unwrap();
                    let next = renewal_of(&issued.certificate_pem).unwrap();
                    std::future::ready(renewed.map(|()| shown.replace(&issued).unwrap()).map(|()| next))
                })
                .await;
            })
        };
        let passes = async |wait: Duration| tokio::time::sleep(wait).await;
        clock.advance(Duration::from_hours(274 * 24));
        passes(Duration::from_hours(48)).await;
        assert_eq!(tried.load(Ordering::SeqCst), 0, "it is not time, whatever timers say");
        clock.advance(Duration::from_hours(2 * 24));
        passes(LOOK + Duration::from_secs(1)).await;
        assert!(tried.load(Ordering::SeqCst) >= 1, "nobody has to connect for that");
        passes(PAUSE * 4).await;
        assert_eq!(tried.load(Ordering::SeqCst), 3, "two failed, the third went well");
        passes(Duration::from_hours(48)).await;
        assert_eq!(tried.load(Ordering::SeqCst), 3, "the new one is good for long");
        clock.advance(Duration::from_hours(300 * 24));
        rustls::client::ResolvesClientCert::resolve(&*shown, &[], &[]).unwrap();
        passes(Duration::from_secs(1)).await;
        assert_eq!(tried.load(Ordering::SeqCst), 4, "a connection that finds it due has it done at once");
        keeping.abort();
    }
}
