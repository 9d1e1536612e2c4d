//! RateLimits: how many questions each client may ask, so that one can't keep the others waiting.
use clock::Clock;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Clients whose questions are counted apart; who comes after them is counted with others.
const MOST_CLIENTS: usize = 16_384;

/// A bucket for each client: it holds as many questions as may be asked a second, and is filled as quickly.
pub struct RateLimits {
    per_second: f64,
    buckets: Mutex<HashMap<Option<IpAddr>, Bucket>>,
    clock: Arc<dyn Clock>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl RateLimits {
    /// `per_second` of 0 limits nobody.
    pub fn new(per_second: u32, clock: Arc<dyn Clock>) -> Self {
        Self { per_second: per_second.into(), buckets: Mutex::default(), clock }
    }

    pub fn now(&self) -> Instant {
        self.clock.instant()
    }

    /// Whether `client` may ask one question more.
    pub fn allows(&self, client: IpAddr) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let now = self.clock.instant();
        let mut buckets = self.buckets.lock();
        let mut key = Some(client);
        if buckets.len() >= MOST_CLIENTS && !buckets.contains_key(&key) {
            // Those that are full again need not be remembered.
            let per_second = self.per_second;
            buckets.retain(|_, bucket| bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * per_second < per_second);
            key = key.filter(|_| buckets.len() < MOST_CLIENTS);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: self.per_second, at: now });
        bucket.left = (bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second).min(self.per_second);
        bucket.at = now;
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn who_asks_too_much_waits_alone() {
        let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let limits = RateLimits::new(10, Arc::new(clock.clone()));
        let (loud, quiet) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert_eq!((0..100).filter(|_| limits.allows(loud)).count(), 10);
        assert!(limits.allows(quiet));
        clock.advance(Duration::from_millis(500));
        assert_eq!((0..100).filter(|_| limits.allows(loud)).count(), 5);
        assert!((0..100).all(|_| RateLimits::new(0, Arc::new(clock.clone())).allows(loud)), "no limit");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let limits = RateLimits::new(2, Arc::new(clock.clone()));
        let client = |number: u32| IpAddr::V4(Ipv4Addr::from(number));
        let most = u32::try_from(MOST_CLIENTS).unwrap();
        assert!((0..most).all(|number| limits.allows(client(number))));
        assert_eq!((most..most + 10).filter(|number| limits.allows(client(*number))).count(), 2, "they share what one has");
        clock.advance(Duration::from_secs(2));
        assert!(limits.allows(client(most + 1)));
        assert!(limits.buckets.lock().len() < 10);
    }
}
