//! Back-off: growing waits between tries, as upstream's: 10 s, doubled up to 5 minutes, forgotten after 10.
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// One thing's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    pub delay: Duration,
    pub updated_at: Timestamp,
}

pub const FIRST: Duration = Duration::from_secs(10);
pub const LONGEST: Duration = Duration::from_secs(300);

impl BackOff {
    /// The wait after one more event (a crash, a failed pull) at `event`.
    pub fn next(before: Option<Self>, event: Timestamp, now: Timestamp) -> Self {
        let delay = match before {
            Some(before) if !before.has_expired(event) => (before.delay * 2).min(LONGEST),
            _ => FIRST,
        };
        Self { delay, updated_at: now }
    }

    /// Until when to wait after an event at `since`; `None` if no wait is due.
    pub fn until(&self, since: Timestamp) -> Option<Timestamp> {
        (!self.has_expired(since)).then(|| later(since, self.delay))
    }

    /// What ran well for long enough starts over.
    fn has_expired(&self, event: Timestamp) -> bool {
        event.duration_since(self.updated_at) > SignedDuration::try_from(LONGEST * 2).unwrap_or(SignedDuration::MAX)
    }
}

/// `at + by`, at most the end of time.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_forgotten_after_ten_minutes() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut back_off = BackOff::next(None, at(0), at(0));
        let mut delays = vec![back_off.delay.as_secs()];
        for crash in 1..7 {
            back_off = BackOff::next(Some(back_off), at(crash * 400), at(crash * 400));
            delays.push(back_off.delay.as_secs());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.until(at(2500)), Some(at(2800)));
        assert_eq!(back_off.until(at(2400 + 601)), None);
        assert_eq!(BackOff::next(Some(back_off), at(2400 + 601), at(2400 + 601)).delay, FIRST);
    }
}
