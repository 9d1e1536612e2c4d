//! Work: how many seats a request takes, and how long it keeps them after its answer, by what it will cost (KEP-1040).
//!
//! Source of the numbers: apiserver's `pkg/util/flowcontrol/request`.
use std::time::Duration;

/// A list's objects, in bytes, that take one seat.
const BYTES_OF_SEAT: u64 = 100_000;
/// What a list that is answered from memory needs of it at a time, however long it is.
const MOST_BYTES: u64 = 1_000_000;
/// Watchers, to each of whom a change is sent, that take one seat.
const WATCHERS_OF_SEAT: u64 = 10;
/// How long sending a change to them takes.
const SENDING: Duration = Duration::from_millis(5);
const MOST_LIST_SEATS: u32 = 100;
const MOST_WRITE_SEATS: u32 = 10;
/// The part of a level's own seats that one request may have.
const MOST_OF_LEVEL: f64 = 0.15;

/// What is known of a request before it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Nothing worth an estimate.
    Usual,
    /// A list of objects of so many bytes together.
    List { bytes: u64 },
    /// A change that so many watchers are told of.
    Write { watchers: u64 },
}

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub seats: u32,
    /// For how long the seats are taken after the answer.
    pub afterwards: Duration,
}

impl Work {
    /// What it takes of a level when it is answered after so many seconds.
    pub fn seat_seconds(self, took: f64) -> f64 {
        f64::from(self.seats) * (took + self.afterwards.as_secs_f64())
    }
}

impl Cost {
    /// At a level with so many seats of its own.
    pub(crate) fn work(self, nominal: u32) -> Work {
        let most = ((f64::from(nominal) * MOST_OF_LEVEL).ceil() as u32).max(1);
        let seats = |wanted: u64, limit: u32| u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, most.min(limit));
        match self {
            Self::List { bytes } => Work { seats: seats(bytes.min(MOST_BYTES).div_ceil(BYTES_OF_SEAT), MOST_LIST_SEATS), afterwards: Duration::ZERO },
            Self::Write { watchers } if watchers >= WATCHERS_OF_SEAT => {
                let wanted = watchers.div_ceil(WATCHERS_OF_SEAT);
                // Narrower than it would be, and as much longer: wide requests keep seats empty until all of theirs are free.
                let seats = seats(wanted, MOST_WRITE_SEATS);
                Work { seats, afterwards: SENDING.mul_f64(wanted as f64 / f64::from(seats)) }
            }
            Self::Usual | Self::Write { .. } => Work { seats: 1, afterwards: Duration::ZERO },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_by_bytes_and_watchers_within_bounds() {
        let of = |cost: Cost, nominal: u32| (cost.work(nominal).seats, cost.work(nominal).afterwards.as_millis());
        for (cost, nominal, want) in [
            (Cost::Usual, 600, (1, 0)),
            (Cost::List { bytes: 0 }, 600, (1, 0)),
            (Cost::List { bytes: 100_000 }, 600, (1, 0)),
            (Cost::List { bytes: 100_001 }, 600, (2, 0)),
            (Cost::List { bytes: 1 << 40 }, 600, (10, 0)),
            (Cost::List { bytes: 1 << 40 }, 20, (3, 0)),
            (Cost::List { bytes: 1 << 40 }, 0, (1, 0)),
            (Cost::Write { watchers: 9 }, 600, (1, 0)),
            (Cost::Write { watchers: 10 }, 600, (1, 5)),
            (Cost::Write { watchers: 25 }, 600, (3, 5)),
            (Cost::Write { watchers: 1000 }, 600, (10, 50)),
            (Cost::Write { watchers: 1000 }, 13, (2, 250)),
        ] {
            assert_eq!(of(cost, nominal), want, "{cost:?} of {nominal}");
        }
    }
}
