//! Queue: what waits for the writer thread.
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Duration;
use store::{Committed, Revision, StoreError, Txn};
use tokio::sync::oneshot;

pub struct Request {
    pub txn: Txn,
    pub reply: oneshot::Sender<Result<Committed, StoreError>>,
}

pub struct CompactRequest {
    pub revision: Revision,
    pub reply: oneshot::Sender<Result<(), StoreError>>,
}

/// Asks for everything on disk to be sealed with the newest key.
pub struct ResealRequest {
    pub reply: oneshot::Sender<Result<u64, StoreError>>,
}

#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

struct Waiting {
    requests: VecDeque<Request>,
    compactions: Vec<CompactRequest>,
    reseals: Vec<ResealRequest>,
    closed: bool,
    /// How many requests are worth waking the writer for.
    wake_at: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { requests: VecDeque::new(), compactions: Vec::new(), reseals: Vec::new(), closed: false, wake_at: usize::MAX }
    }
}

/// What the writer took from the queue.
pub struct Taken {
    pub requests: Vec<Request>,
    pub compactions: Vec<CompactRequest>,
    pub reseals: Vec<ResealRequest>,
    /// Nothing is left and nothing will come.
    pub finished: bool,
}

/// How long the writer waits for more.
pub struct Patience {
    /// Most requests to take.
    pub most: usize,
    /// How many requests to expect: with fewer the writer lingers a moment before it commits.
    pub expected: usize,
    pub linger: Duration,
    /// Whether to wait if there is nothing at all.
    pub block: bool,
}

impl Queue {
    /// Hands the request back if the queue is closed.
    pub fn push(&self, request: Request) -> Result<(), Request> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(request);
        }
        waiting.requests.push_back(request);
        if waiting.requests.len() >= waiting.wake_at {
            self.filled.notify_one();
        }
        Ok(())
    }
    pub fn push_compaction(&self, request: CompactRequest) -> Result<(), CompactRequest> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(request);
        }
        waiting.compactions.push(request);
        self.filled.notify_one();
        Ok(())
    }
    pub fn push_reseal(&self, request: ResealRequest) -> Result<(), ResealRequest> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(request);
        }
        waiting.reseals.push(request);
        self.filled.notify_one();
        Ok(())
    }
    /// Nothing more comes in; what waits is still served.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.filled.notify_one();
    }
    /// Drops what waits; its senders learn that the store is closed.
    pub fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.requests.clear();
        waiting.compactions.clear();
        waiting.reseals.clear();
    }
    /// Takes what waits, by the given patience.
    ///
    /// Writers that wait for their answer before they write again all come back after a commit, but not at once.
    /// Without lingering the first one back would be committed alone while the others wait for a second commit.
    pub fn take(&self, patience: &Patience) -> Taken {
        let mut waiting = self.waiting.lock();
        waiting.wake_at = 1;
        while patience.block && !waiting.closed && waiting.requests.is_empty() && waiting.compactions.is_empty() && waiting.reseals.is_empty() {
            self.filled.wait(&mut waiting);
        }
        waiting.wake_at = patience.expected;
        if !waiting.requests.is_empty() {
            self.filled.wait_while_for(&mut waiting, |waiting| !waiting.closed && waiting.requests.len() < patience.expected, patience.linger);
        }
        waiting.wake_at = usize::MAX;
        let count = waiting.requests.len().min(patience.most);
        let requests: Vec<_> = waiting.requests.drain(..count).collect();
        let compactions = std::mem::take(&mut waiting.compactions);
        let reseals = std::mem::take(&mut waiting.reseals);
        let finished = waiting.closed && requests.is_empty() && compactions.is_empty() && reseals.is_empty();
        Taken { requests, compactions, reseals, finished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(expected: usize, linger: Duration) -> Patience {
        Patience { most: 10, expected, linger, block: true }
    }
    fn request() -> (Request, oneshot::Receiver<Result<Committed, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Request { txn: Txn::default(), reply }, answer)
    }

    #[test]
    fn the_writer_lingers_until_the_expected_requests_are_there() {
        let queue = std::sync::Arc::new(Queue::default());
        let pusher = queue.clone();
        let thread = std::thread::spawn(move || (0..5).all(|_| pusher.push(request().0).is_ok()));
        assert_eq!(queue.take(&patience(5, Duration::from_secs(60))).requests.len(), 5);
        assert!(thread.join().unwrap());
    }

    #[test]
    fn closing_serves_what_waits_and_refuses_the_rest() {
        let queue = Queue::default();
        assert!(queue.push(request().0).is_ok());
        queue.close();
        assert!(queue.push(request().0).is_err());
        assert_eq!(queue.take(&patience(5, Duration::from_secs(60))).requests.len(), 1);
        assert!(queue.take(&patience(1, Duration::ZERO)).finished);
    }
}
