//! SlowRetries: what a driver called impossible is asked again now and then, and not at every change of the claim.
use controller_kit::ObjectKey;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// As long as upstream's resizer waits.
const SLOW: Duration = Duration::from_secs(5 * 60);

#[derive(Default)]
pub struct SlowRetries(Mutex<HashMap<ObjectKey, Instant>>);

impl SlowRetries {
    pub fn add(&self, key: &ObjectKey, now: Instant) {
        let mut all = self.0.lock();
        all.retain(|_, until| *until > now);
        all.insert(key.clone(), now + SLOW);
    }

    pub fn remove(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }

    /// How long to wait still; none where it may be asked now.
    pub fn remaining(&self, key: &ObjectKey, now: Instant) -> Option<Duration> {
        self.0.lock().get(key).and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }
}
