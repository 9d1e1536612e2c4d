//! TenantLimits: how much of the server one virtual cluster may take at a time, so that the others get theirs.
use super::pace::{Lane, Paced};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests of one cluster served at the same time.
const REQUESTS: usize = 100;
/// Its watches and streams at the same time.
const LONG: usize = 1000;

#[derive(Debug, Default)]
pub struct TenantLimits {
    requests: AtomicUsize,
    long: AtomicUsize,
    lane: Arc<Lane>,
}

/// A place that a request holds, given back when dropped.
pub struct TenantPermit {
    limits: Arc<TenantLimits>,
    long: bool,
}

impl TenantLimits {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn side(&self, long: bool) -> (&AtomicUsize, usize) {
        if long { (&self.long, LONG) } else { (&self.requests, REQUESTS) }
    }

    /// A request's work, which goes on only when it is the cluster's turn: at most half of the processors work for one at a time.
    pub fn paced<F>(&self, work: F) -> Paced<F> {
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        Paced::new(self.lane.clone(), (workers / 2).max(1), work)
    }

    /// A place for a request; `None` when the cluster has as many as it may.
    pub fn enter(self: &Arc<Self>, long: bool) -> Option<TenantPermit> {
        let permit = TenantPermit { limits: self.clone(), long };
        let (now, limit) = self.side(long);
        (now.fetch_add(1, Ordering::AcqRel) < limit).then_some(permit)
    }
}

impl Drop for TenantPermit {
    fn drop(&mut self) {
        self.limits.side(self.long).0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_gets_so_many_places_and_them_again() {
        let limits = TenantLimits::new();
        let held: Vec<_> = (0..REQUESTS).map(|_| limits.enter(false).unwrap()).collect();
        assert!(limits.enter(false).is_none());
        assert!(limits.enter(true).is_some(), "watches are counted apart");
        drop(held);
        assert!(limits.enter(false).is_some());
    }
}
