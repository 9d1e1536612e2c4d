//! Shares: how much of the processors each flow's connections have taken lately. Who has taken more than its share goes behind
//! the others: its connections are worked on by threads that give way to those of everybody else.
use api_fairness::Flow;
use clock::Clock;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

/// Who can't be told apart shares an account; there are so many.
const ACCOUNTS: usize = 1024;
/// What is taken is paid off in so many times as long: everybody may take a quarter of a processor for ever.
const PAID_OFF_IN: u64 = 4;
/// Who owes more than this goes behind, until it owes less than that.
const TOO_MUCH: Duration = Duration::from_millis(80);
const LITTLE: Duration = Duration::from_millis(20);
/// Nobody owes more, so that who has stopped is soon like everybody else.
const MOST: Duration = Duration::from_millis(400);
/// The account of a connection that nobody pays for.
const NOBODY: usize = usize::MAX;

/// When an account will be paid off, in nanoseconds since its server began.
#[derive(Default)]
struct Account(AtomicU64);

impl Account {
    fn charge(&self, now: u64, taken: u64) {
        let add = |until: u64| Some(until.max(now).saturating_add(taken.saturating_mul(PAID_OFF_IN)).min(now + nanos(MOST)));
        // It always adds.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether who was `behind` or not is from now on.
    fn is_behind(&self, now: u64, behind: bool) -> bool {
        let owed = self.0.load(Ordering::Relaxed).saturating_sub(now);
        owed > nanos(if behind { LITTLE } else { TOO_MUCH })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The accounts of all flows.
pub(crate) struct Shares {
    accounts: Box<[Account]>,
    /// Chosen by chance at each start, so that nobody can aim at another's account.
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    began: Instant,
    threads: Option<Threads>,
}

/// Where connections are worked on.
struct Threads {
    prompt: Handle,
    behind: Handle,
}

impl Shares {
    /// `behind`: the threads that give way; without them everybody is served alike.
    pub fn new(behind: Option<Handle>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let threads = behind.map(|behind| Threads { prompt: Handle::current(), behind });
        let accounts = (0..ACCOUNTS).map(|_| Account::default()).collect();
        Arc::new(Self { accounts, hasher: RandomState::new(), began: clock.instant(), clock, threads })
    }

    fn now(&self) -> u64 {
        nanos(self.clock.instant() - self.began)
    }

    fn account(&self, of: impl std::hash::Hash) -> usize {
        usize::try_from(self.hasher.hash_one(of) % ACCOUNTS as u64).unwrap_or_default()
    }
}

/// Whose account a connection's work is put on: its peer's, until it is known who asks.
pub(crate) struct Payer {
    shares: Arc<Shares>,
    account: AtomicUsize,
}

impl Payer {
    pub fn new(shares: Arc<Shares>, peer: IpAddr) -> Arc<Self> {
        let account = AtomicUsize::new(shares.account(peer));
        Arc::new(Self { shares, account })
    }

    /// From now on it is this flow's. Who need not wait for a seat need not give way either.
    pub fn becomes(&self, flow: Option<&Flow>) {
        let limited = flow.filter(|flow| flow.is_limited());
        let account = limited.map_or(NOBODY, |flow| self.shares.account((flow.schema_name(), flow.distinguisher())));
        self.account.store(account, Ordering::Relaxed);
    }

    fn account(&self) -> Option<&Account> {
        self.shares.accounts.get(self.account.load(Ordering::Relaxed))
    }

    /// Does the work to its end, now here and now there, as the account stands.
    pub async fn drive(self: Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let Some(Threads { behind, .. }) = &self.shares.threads else { return work.await };
        let mut work = Box::pin(work);
        while let Some(rest) = self.work_on(work, false).await {
            let payer = self.clone();
            let there = AbortOnDropHandle::new(behind.spawn(async move { payer.work_on(rest, true).await }));
            match there.await {
                Ok(Some(rest)) => work = rest,
                // It is done, or has panicked, which the panic itself has told.
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Works until the work is done or has to go on elsewhere, and gives what is left of it.
    async fn work_on<F: Future<Output = ()>>(&self, mut work: Pin<Box<F>>, behind: bool) -> Option<Pin<Box<F>>> {
        let done = std::future::poll_fn(|context| {
            let began = self.shares.now();
            let moves = |now: u64| self.account().is_some_and(|account| account.is_behind(now, behind)) != behind;
            if moves(began) {
                return Poll::Ready(false);
            }
            let polled = work.as_mut().poll(context);
            let ended = self.shares.now();
            if let Some(account) = self.account() {
                account.charge(ended, ended - began);
            }
            match polled {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending if moves(ended) => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        });
        (!done.await).then_some(work)
    }
}

/// Starts what belongs to a connection: an HTTP/2 stream.
#[derive(Clone)]
pub(crate) struct OnAccount(pub Arc<Payer>);

impl<F> hyper::rt::Executor<F> for OnAccount
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        let work = self.0.clone().drive(async move {
            work.await;
        });
        match &self.0.shares.threads {
            Some(threads) => threads.prompt.spawn(work),
            None => tokio::spawn(work),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;
    use jiff::Timestamp;

    const MS: u64 = 1_000_000;

    #[test]
    fn who_takes_a_quarter_of_a_processor_never_goes_behind() {
        let account = Account::default();
        for now in (0..10_000 * MS).step_by(4_000_000) {
            account.charge(now, MS);
            assert!(!account.is_behind(now, false));
        }
    }

    #[test]
    fn who_takes_more_goes_behind_and_comes_back_when_it_is_paid_off() {
        let account = Account::default();
        let steps = [
            // At, taken, and whether it is behind then.
            (0, 15, false),
            (1, 6, true),
            // 84 - 30 owed: not little yet.
            (30, 0, true),
            (70, 0, false),
            (70, 5, false),
            // However much it is, it is paid off in 400 ms.
            (71, 100_000, true),
            (71 + 375, 0, true),
            (71 + 385, 0, false),
        ];
        let mut behind = false;
        for (at, taken, expected) in steps {
            account.charge(at * MS, taken * MS);
            behind = account.is_behind(at * MS, behind);
            assert_eq!(behind, expected, "at {at} ms");
        }
    }

    /// Work that takes so long by the clock at each poll, and the names of the threads that did it.
    async fn threads_of(polls: usize, each: Duration) -> Vec<String> {
        let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("behind").build().unwrap();
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let shares = Shares::new(Some(other.handle().clone()), Arc::new(clock.clone()));
        let payer = Payer::new(shares, IpAddr::from([10, 0, 0, 1]));
        let (seen, mut told) = tokio::sync::mpsc::unbounded_channel();
        let work = async move {
            for _ in 0..polls {
                clock.advance(each);
                seen.send(std::thread::current().name().unwrap_or_default().to_owned()).unwrap();
                tokio::task::yield_now().await;
            }
        };
        payer.drive(work).await;
        other.shutdown_background();
        let mut names = Vec::new();
        while let Some(name) = told.recv().await {
            names.push(name);
        }
        names
    }

    #[tokio::test]
    async fn work_goes_behind_and_comes_to_its_end() {
        let names = threads_of(10, Duration::from_millis(10)).await;
        assert_eq!(names.len(), 10);
        let first = names.iter().position(|name| name == "behind").unwrap();
        assert!((2..5).contains(&first) && names[first..].iter().all(|name| name == "behind"), "{names:?}");
        let names = threads_of(10, Duration::from_millis(1)).await;
        assert!(names.len() == 10 && names.iter().all(|name| name != "behind"), "{names:?}");
    }
}
