//! RateLimit: token buckets by name, of a bounded number of names.
use clock::Clock;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Buckets kept. Full ones are forgotten first.
const KEPT: usize = 8192;

pub struct RateLimit {
    /// In a bucket at most, and refilled over `period`.
    burst: f64,
    period: Duration,
    clock: Arc<dyn Clock>,
    buckets: Mutex<HashMap<String, (f64, Instant)>>,
}

impl RateLimit {
    pub fn new(burst: u32, period: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { burst: f64::from(burst.max(1)), period, clock, buckets: Mutex::default() }
    }

    /// Takes one from the bucket of `name`; whether there was one.
    pub fn allows(&self, name: &str) -> bool {
        let now = self.clock.instant();
        let mut buckets = self.buckets.lock();
        let refilled = |left: f64, since: Instant| (left + self.burst * (now - since).as_secs_f64() / self.period.as_secs_f64()).min(self.burst);
        if let Some((left, since)) = buckets.get_mut(name) {
            *left = refilled(*left, *since);
            *since = now;
            if *left < 1.0 {
                return false;
            }
            *left -= 1.0;
            return true;
        }
        if buckets.len() >= KEPT {
            buckets.retain(|_, (left, since)| refilled(*left, *since) < self.burst);
            if buckets.len() >= KEPT {
                // So many at once are one guesser with many names.
                return false;
            }
        }
        buckets.insert(name.to_owned(), (self.burst - 1.0, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;

    #[test]
    fn buckets_empty_and_fill_again() {
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let limit = RateLimit::new(3, Duration::from_secs(60), Arc::new(clock.clone()));
        assert_eq!((0..5).filter(|_| limit.allows("a")).count(), 3);
        assert!(limit.allows("b"), "others have their own");
        clock.advance(Duration::from_secs(20));
        assert_eq!((0..5).filter(|_| limit.allows("a")).count(), 1);
    }
}
