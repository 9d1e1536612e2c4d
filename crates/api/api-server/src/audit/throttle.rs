//! Throttle: so many at once, and then so many a second.
use clock::Clock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Throttle {
    /// Between one turn and the next, once all at once have been taken.
    gap: Duration,
    /// How far ahead of time turns may be taken.
    ahead: Duration,
    clock: Arc<dyn Clock>,
    next: Mutex<Option<Instant>>,
}

impl Throttle {
    /// `rate` turns a second, of which `burst` may come at once.
    pub fn new(rate: f64, burst: u32, clock: Arc<dyn Clock>) -> Self {
        let gap = Duration::from_secs_f64(1.0 / rate);
        Self { gap, ahead: gap * burst.saturating_sub(1), clock, next: Mutex::new(None) }
    }

    /// Waits for a turn.
    pub async fn turn(&self) {
        let wait = self.wait();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a turn; gives how long it is until then.
    fn wait(&self) -> Duration {
        let now = self.clock.instant();
        let mut next = self.next.lock();
        let due = next.map_or(now, |next| next.max(now));
        *next = Some(due + self.gap);
        due.saturating_duration_since(now).saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;

    #[test]
    fn some_come_at_once_and_the_others_one_after_the_other() {
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let throttle = Throttle::new(10.0, 3, Arc::new(clock.clone()));
        let waits: Vec<u128> = (0..5).map(|_| throttle.wait().as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        clock.advance(Duration::from_secs(10));
        assert_eq!(throttle.wait(), Duration::ZERO, "who waited long has all turns again");
    }
}
