//! Patience: one timer for all that a connection waits for, set anew at nearly no cost.
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The timer may go off early: only then is it known how much longer there is to wait.
#[derive(Debug)]
pub struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    until: Instant,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        Self { timer: None, until: Instant::now() + limit }
    }

    /// From now on, so long.
    pub fn set(&mut self, limit: Duration) {
        self.until = Instant::now() + limit;
    }

    /// Ready once it is at its end.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_lasts_as_long_as_was_said_last() {
        let mut patience = Patience::new(Duration::from_millis(40));
        for (limit, until) in [(40, 40), (20, 20), (60, 60)] {
            let started = Instant::now();
            patience.set(Duration::from_millis(limit));
            std::future::poll_fn(|context| patience.poll(context)).await;
            assert!(started.elapsed() >= Duration::from_millis(until) && started.elapsed() < Duration::from_secs(5));
        }
    }
}
