//! Roster: controllers by their names, none begun yet.
use crate::{Controller, Runner};
use futures::future::{BoxFuture, FutureExt, join_all};
use tokio_util::sync::CancellationToken;

/// What runs, and what says what runs, is one list.
pub struct Roster {
    all: Vec<(&'static str, BoxFuture<'static, ()>)>,
    shutdown: CancellationToken,
}

impl Roster {
    /// All of them stop with `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { all: Vec::new(), shutdown }
    }

    pub fn add<C: Controller>(&mut self, runner: Runner<C>) {
        self.all.push((runner.controller().name(), runner.run(self.shutdown.clone()).boxed()));
    }

    /// One that has more to do than its runner's work.
    pub fn add_special(&mut self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        self.all.push((name, run.boxed()));
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.all.iter().map(|(name, _)| *name).collect()
    }

    /// Begins all of them, and waits for their end.
    pub async fn run(self) {
        join_all(self.all.into_iter().map(|(_, run)| tokio::spawn(run))).await;
    }
}
