//! slow_start: many like effects in batches of 1, 2, 4, .., so that a cause that fails them all is met once.
use crate::Error;
use futures::future::join_all;
use std::future::Future;

/// Runs `effect` for every item, in doubling batches; a batch with a failure is the last.
/// Gives how many succeeded, and the first failure.
pub async fn slow_start<T, F: Future<Output = Result<(), Error>>>(items: Vec<T>, effect: impl Fn(T) -> F) -> (usize, Result<(), Error>) {
    let mut items = items.into_iter();
    let (mut succeeded, mut size) = (0, 1);
    loop {
        let batch: Vec<F> = items.by_ref().take(size).map(&effect).collect();
        if batch.is_empty() {
            return (succeeded, Ok(()));
        }
        let mut failure = None;
        for result in join_all(batch).await {
            match result {
                Ok(()) => succeeded += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if let Some(error) = failure {
            return (succeeded, Err(error));
        }
        size *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_batch_with_a_failure_is_the_last() {
        let tried = AtomicUsize::new(0);
        let effect = |n: usize| {
            tried.fetch_add(1, Ordering::Relaxed);
            async move { if n == 2 { Err(Error::NotYet("no".into())) } else { Ok(()) } }
        };
        let (succeeded, result) = slow_start((0..100).collect(), effect).await;
        assert_eq!((succeeded, tried.load(Ordering::Relaxed), result.is_err()), (2, 3, true));
        assert_eq!(slow_start(vec![5; 10], |_| async { Ok(()) }).await.0, 10);
    }
}
