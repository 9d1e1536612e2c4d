//! Pace: how many requests of one virtual cluster are worked on at the same moment, so that the others need not queue behind them.
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The turns of one cluster. A request that waits for the disk, a webhook or its client holds none.
#[derive(Debug, Default)]
pub struct Lane(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    next_ticket: u64,
    waiting: VecDeque<(u64, Waker)>,
}

/// Work that goes on only in turns of its lane: each poll takes one.
pub struct Paced<F> {
    lane: Arc<Lane>,
    limit: usize,
    work: F,
    /// Of who waits for a turn, or was called to it and has not come yet.
    ticket: Option<u64>,
}

/// Given back when dropped, also by a panic.
struct Turn<'a>(&'a Lane);

impl<F> Paced<F> {
    /// At most `limit` polls at a time of all work of the lane.
    pub fn new(lane: Arc<Lane>, limit: usize, work: F) -> Self {
        Self { lane, limit, work, ticket: None }
    }
}

impl Lane {
    fn enter(&self, limit: usize, ticket: &mut Option<u64>, waker: &Waker) -> Option<Turn<'_>> {
        let mut state = self.0.lock();
        let place = ticket.and_then(|ticket| state.waiting.iter().position(|(of, _)| *of == ticket));
        // Who was called goes before those who still wait, and who comes new after them.
        let called = ticket.is_some() && place.is_none();
        if state.running < limit && (called || place == Some(0) || state.waiting.is_empty()) {
            if let Some(place) = place {
                state.waiting.remove(place);
            }
            *ticket = None;
            state.running += 1;
            return Some(Turn(self));
        }
        match place {
            Some(place) => state.waiting[place].1.clone_from(waker),
            None => {
                let number = state.next_ticket;
                state.next_ticket += 1;
                *ticket = Some(number);
                let entry = (number, waker.clone());
                // Who was called and found the turn taken has waited long enough.
                if called { state.waiting.push_front(entry) } else { state.waiting.push_back(entry) }
            }
        }
        None
    }
}

impl State {
    fn call(&mut self) -> Option<Waker> {
        self.waiting.pop_front().map(|(_, waker)| waker)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.0.lock();
            state.running -= 1;
            state.call()
        };
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl<F: Future + Unpin> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { lane, limit, work, ticket } = &mut *self;
        let Some(_turn) = lane.enter(*limit, ticket, context.waker()) else { return Poll::Pending };
        Pin::new(work).poll(context)
    }
}

impl<F> Drop for Paced<F> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let next = {
            let mut state = self.lane.0.lock();
            match state.waiting.iter().position(|(of, _)| *of == ticket) {
                Some(place) => {
                    state.waiting.remove(place);
                    None
                }
                // It was called and never came: the next one gets its turn.
                None => state.call(),
            }
        };
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How many were seen to work at the same time, of so many on two threads.
    fn most_at_once(limit: usize) -> usize {
        let (lane, now, most) = (Arc::new(Lane::default()), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        runtime.block_on(async {
            let work = (0..64).map(|_| {
                let (now, most) = (now.clone(), most.clone());
                let steps = Box::pin(async move {
                    for _ in 0..50 {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::hint::black_box((0..1000).sum::<u64>());
                        now.fetch_sub(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                    }
                });
                tokio::spawn(Paced::new(lane.clone(), limit, steps))
            });
            futures::future::join_all(work.collect::<Vec<_>>()).await
        });
        assert!(lane.0.lock().waiting.is_empty() && lane.0.lock().running == 0);
        most.load(Ordering::SeqCst)
    }

    #[test]
    fn so_many_work_at_a_time_and_all_come_to_their_end() {
        assert_eq!(most_at_once(1), 1);
        assert!(most_at_once(2) <= 2);
    }

    #[test]
    fn who_waits_for_something_else_holds_up_nobody() {
        let lane = Arc::new(Lane::default());
        let mut waits = Paced::new(lane.clone(), 1, futures::future::pending::<()>());
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(Paced::new(lane, 1, futures::future::ready(7)).now_or_never(), Some(7));
    }

    #[test]
    fn who_goes_away_passes_the_turn_on() {
        let lane = Arc::new(Lane::default());
        let (mut nobody, held) = (None, Waker::noop());
        let turn = lane.enter(1, &mut nobody, held);
        let mut first = Paced::new(lane.clone(), 1, futures::future::ready(1));
        let mut second = Paced::new(lane.clone(), 1, futures::future::ready(2));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(turn);
        // The first was called, and goes.
        drop(first);
        assert_eq!(lane.0.lock().waiting.len(), 0, "the second is called");
        assert_eq!(second.now_or_never(), Some(2));
    }
}
