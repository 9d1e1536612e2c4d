//! RateLimits: how many requests each client still may make: a bucket that holds one second's worth and fills by time.
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::{Duration, Instant};

/// Requests a second of each client's address, over all routes of the same scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub scope: Arc<str>,
    pub per_second: u32,
}

/// So many clients are remembered; then those that have been quiet are forgotten.
const CLIENTS: usize = 65_536;

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

#[derive(Debug, Default)]
pub struct RateLimits {
    buckets: Mutex<HashMap<(Arc<str>, IpAddr), Bucket>>,
}

impl RateLimits {
    /// Takes one request out of a client's bucket; says whether there was one.
    pub fn allow(&self, limit: &RateLimit, client: IpAddr, now: Instant) -> bool {
        let size = f64::from(limit.per_second);
        let mut buckets = self.buckets.lock();
        if buckets.len() >= CLIENTS {
            // A bucket is full again after a second.
            buckets.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_secs(1));
            if buckets.len() >= CLIENTS {
                return false;
            }
        }
        let bucket = buckets.entry((limit.scope.clone(), client)).or_insert(Bucket { left: size, at: now });
        bucket.left = (bucket.left + now.duration_since(bucket.at).as_secs_f64() * size).min(size);
        bucket.at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_seconds_worth_and_what_time_brings() {
        let (limits, limit, start) = (RateLimits::default(), RateLimit { scope: "a".into(), per_second: 5 }, Instant::now());
        let asks = |client: u8, after: u64, times: usize| {
            let now = start + Duration::from_millis(after);
            (0..times).filter(|_| limits.allow(&limit, IpAddr::from([192, 0, 2, client]), now)).count()
        };
        assert_eq!(asks(1, 0, 20), 5);
        assert_eq!(asks(2, 0, 20), 5, "each client has its own");
        assert_eq!(asks(1, 200, 20), 1);
        assert_eq!(asks(1, 60_000, 20), 5);
    }
}
