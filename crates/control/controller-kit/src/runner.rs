//! Runner: feeds a controller's queue from caches and works it off.
use crate::{Controller, Error, Kind, ObjectKey, Objects, Queue};
use api_cache::{Change, Listening};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static ACTING: &'static str;
}

/// The controller that the calling task works for: who watches over writes may ask whose they are.
pub fn acting() -> Option<&'static str> {
    ACTING.try_with(|name| *name).ok()
}

/// All clusters together have so many times the workers of one: many are busy at once before anybody waits for others.
const CLUSTERS_AT_ONCE: usize = 4;

/// Runs one controller for all clusters. Idle it holds one parked task and no timer.
pub struct Runner<C> {
    controller: Arc<C>,
    queue: Arc<Queue>,
    workers: usize,
    synced: Vec<BoxFuture<'static, ()>>,
    listening: Vec<Listening>,
}

impl<C: Controller> Runner<C> {
    /// With upstream's usual five workers for each cluster.
    pub fn new(controller: C) -> Self {
        let queue = Arc::new(Queue::named(controller.name()));
        Self { controller: Arc::new(controller), queue, workers: 5, synced: Vec::new(), listening: Vec::new() }
    }

    /// So many workers for each cluster. One is one for all: what it decides may depend on what it did last.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub fn controller(&self) -> &Arc<C> {
        &self.controller
    }

    /// Queues the keys `keys_of` gives for every object there is and every change of one.
    #[must_use]
    pub fn watch<K: Kind>(mut self, objects: &Objects<K>, keys_of: impl Fn(&Change<K>) -> Vec<ObjectKey> + Send + Sync + 'static) -> Self {
        let queue = self.queue.clone();
        self.listening.push(objects.listen(move |change| keys_of(change).into_iter().for_each(|key| queue.add(key))));
        self.needs(objects)
    }

    /// Queues every object of the kind itself.
    #[must_use]
    pub fn watch_own<K: Kind>(self, objects: &Objects<K>) -> Self {
        self.watch(objects, |change| vec![change.key.clone()])
    }

    /// Waits for this cache too before the first look, without being woken by it.
    #[must_use]
    pub fn needs<K: Kind>(mut self, objects: &Objects<K>) -> Self {
        let cache = Arc::clone(objects);
        self.synced.push(Box::pin(async move { cache.synced().await }));
        self
    }

    /// Runs until `shutdown`; work under way is finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { controller, queue, workers, synced, listening } = self;
        if shutdown.run_until_cancelled(join_all(synced)).await.is_none() {
            return;
        }
        queue.share(workers);
        let at_once = if workers > 1 { workers * CLUSTERS_AT_ONCE } else { 1 };
        let mut working = JoinSet::new();
        loop {
            while working.len() >= at_once {
                working.join_next().await;
            }
            let key = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                key = queue.next() => key,
            };
            // Finished tasks are taken away here, so that the set holds live ones only.
            while working.try_join_next().is_some() {}
            let (controller, queue) = (controller.clone(), queue.clone());
            working.spawn(ACTING.scope(controller.name(), async move {
                let outcome = AssertUnwindSafe(work(&*controller, &queue, &key)).catch_unwind().await;
                if outcome.is_err() {
                    tracing::error!(controller = controller.name(), %key, "a controller panicked; the key is tried again");
                    queue.retry(key.clone());
                }
                queue.done(&key);
            }));
        }
        drop(listening);
        while working.join_next().await.is_some() {}
    }
}

async fn work<C: Controller>(controller: &C, queue: &Queue, key: &ObjectKey) {
    let began = Instant::now();
    let Some(world) = controller.observe(key) else {
        queue.forget(key);
        return;
    };
    let plan = C::reconcile(&world);
    queue.decided(key, began.elapsed());
    for action in plan.actions {
        tracing::debug!(controller = controller.name(), %key, ?action, "acting");
        if let Err(error) = controller.act(key, action).await {
            if let Error::Later { after, why } = &error {
                tracing::debug!(controller = controller.name(), %key, ?after, why, "will look again");
                queue.forget(key);
                queue.add_after(key.clone(), *after);
                return;
            }
            controller.failed(key, &world, &error).await;
            report(controller.name(), key, &error);
            if error.is_namespace_terminating() || matches!(error, Error::Invalid(_)) {
                // Only a change of the object can help, and that brings the key back.
                queue.forget(key);
            } else {
                queue.retry(key.clone());
            }
            return;
        }
    }
    queue.forget(key);
    if let Some(delay) = plan.again_after {
        queue.add_after(key.clone(), delay);
    }
}

fn report(controller: &str, key: &ObjectKey, error: &Error) {
    if error.is_conflict() || error.is_not_found() || error.is_namespace_terminating() || matches!(error, Error::NotYet(_)) {
        tracing::debug!(controller, %key, %error, "will be tried again");
    } else {
        tracing::warn!(controller, %key, %error, "will be tried again");
    }
}
