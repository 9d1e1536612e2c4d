//! Inflight: how many requests are served at the same time, and the limits on that.
use crate::body::{self, Answer};
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reads and changes have limits of their own.
pub struct Inflight {
    reads: Side,
    changes: Side,
}

struct Side {
    limit: usize,
    now: AtomicUsize,
}

/// A place among the requests being served, given back when dropped.
pub struct Permit {
    inflight: Arc<Inflight>,
    changes: bool,
}

impl Inflight {
    /// 0: no limit.
    pub fn new(max_reads: usize, max_changes: usize) -> Arc<Self> {
        let side = |limit| Side { limit, now: AtomicUsize::new(0) };
        Arc::new(Self { reads: side(max_reads), changes: side(max_changes) })
    }

    fn side(&self, changes: bool) -> &Side {
        if changes { &self.changes } else { &self.reads }
    }

    /// A place; `None` when all are taken and the requester gets none beyond them.
    pub fn enter(self: &Arc<Self>, changes: bool, privileged: bool) -> Option<Permit> {
        let side = self.side(changes);
        let permit = Permit { inflight: self.clone(), changes };
        let before = side.now.fetch_add(1, Ordering::AcqRel);
        (privileged || side.limit == 0 || before < side.limit).then_some(permit)
    }

    /// A place in the count alone, whatever the limits.
    pub fn count(self: &Arc<Self>, changes: bool) -> Permit {
        self.side(changes).now.fetch_add(1, Ordering::AcqRel);
        Permit { inflight: self.clone(), changes }
    }

    pub fn now(&self, changes: bool) -> usize {
        self.side(changes).now.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inflight.side(self.changes).now.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Upstream's answer to one too many.
pub fn too_many() -> Answer {
    let mut answer = body::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_given_back_and_not_for_the_privileged() {
        let inflight = Inflight::new(2, 0);
        let first = inflight.enter(false, false);
        let second = inflight.enter(false, false);
        assert!(first.is_some() && second.is_some() && inflight.enter(false, false).is_none());
        assert_eq!(inflight.now(false), 2);
        assert!(inflight.enter(false, true).is_some());
        drop(first);
        assert!(inflight.enter(false, false).is_some());
        let changes: Vec<_> = (0..1000).map(|_| inflight.enter(true, false).unwrap()).collect();
        assert_eq!((inflight.now(true), changes.len()), (1000, 1000));
    }
}
