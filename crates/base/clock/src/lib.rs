//! Clock and Random: the only source of time and chance.
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time of day and a monotonic time, real in production and set by hand in tests.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    fn instant(&self) -> Instant;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may ask the machine")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may ask the machine")]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<std::sync::Mutex<(Timestamp, Instant)>>);

impl ManualClock {
    #[allow(clippy::disallowed_methods, reason = "an Instant can only be made from the machine's")]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(std::sync::Mutex::new((now, Instant::now()))))
    }
    pub fn advance(&self, by: Duration) {
        let mut guard = self.0.lock().expect("no holder of this lock panics");
        guard.0 = guard.0.saturating_add(jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX)).unwrap_or(guard.0);
        guard.1 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().expect("no holder of this lock panics").0
    }
    fn instant(&self) -> Instant {
        self.0.lock().expect("no holder of this lock panics").1
    }
}

/// The wall clock time, to the second, as `metav1.Time` is written.
pub fn rfc3339_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// To the microsecond, as `metav1.MicroTime` is written.
pub fn rfc3339_micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// Upstream's random suffix alphabet: no vowels, nothing that can be misread.
pub fn random_suffix(length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut out = String::with_capacity(length);
    while out.len() < length {
        for byte in random_bytes::<16>() {
            // 243 = 9 * 27: above it the modulus would favour some letters.
            if byte < 243 && out.len() < length {
                out.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            }
        }
    }
    out
}
