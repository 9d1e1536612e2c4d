//! Workers: threads that each serve their own connections, from the client's socket to the backend's, and wake no other.
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// More threads than this have more to share than to gain.
pub const MOST: usize = 16;

thread_local! {
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Which of them this thread is, if it is one.
pub fn own_index() -> Option<usize> {
    INDEX.get()
}

pub struct Workers {
    workers: Vec<Worker>,
    turn: AtomicUsize,
    stop: CancellationToken,
}

struct Worker {
    handle: Handle,
    /// What it serves.
    tasks: Arc<AtomicUsize>,
}

impl Workers {
    /// One for each processor. They are in the network namespace of the calling thread.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let stop = CancellationToken::new();
        let start = |index: usize| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stop) = (runtime.handle().clone(), stop.clone());
            std::thread::Builder::new().name(format!("fiberlb-{index}")).spawn(move || {
                INDEX.set(Some(index));
                runtime.block_on(stop.cancelled());
                runtime.shutdown_background();
            })?;
            Ok(Worker { handle, tasks: Arc::default() })
        };
        let workers: io::Result<Vec<Worker>> = (0..count).map(start).collect();
        match workers {
            Ok(workers) => Ok(Self { workers, turn: AtomicUsize::new(0), stop }),
            Err(error) => {
                stop.cancel();
                Err(error)
            }
        }
    }

    /// Runs a task on the worker that has the fewest; of equals, another each time.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        let (before, from) = self.workers.split_at(turn);
        let Some(worker) = from.iter().chain(before).min_by_key(|worker| worker.tasks.load(Ordering::Relaxed)) else { return };
        let counted = Counted::new(&worker.tasks);
        worker.handle.spawn(async move {
            let _counted = counted;
            task.await;
        });
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Counts something for as long as it is kept.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    #[test]
    fn each_gets_as_many_tasks_as_the_others() {
        let workers = Workers::start().unwrap();
        let (sender, receiver) = mpsc::channel();
        for _ in 0..workers.workers.len() * 5 {
            let sender = sender.clone();
            workers.spawn(async move {
                sender.send(own_index()).unwrap();
                std::future::pending::<()>().await;
            });
        }
        let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        for index in receiver.iter().take(workers.workers.len() * 5) {
            *counts.entry(index).or_default() += 1;
        }
        assert_eq!(counts.len(), workers.workers.len());
        assert!(counts.iter().all(|(index, count)| index.is_some() && *count == 5), "{counts:?}");
        assert_eq!(own_index(), None);
    }
}
