//! Doing many alike things at once, yet finding out early when they cannot work.
//!
//! Entry point: [`slow_start`]. Batches of 1, 2, 4, … run concurrently; the first batch with a failure is the last,
//! so that a quota that refuses every pod costs one request and not five hundred.

use futures::StreamExt;
use futures::stream;

/// How many requests of one batch may be under way at once.
pub const MOST_IN_FLIGHT: usize = 50;

/// What came of a slow start: the successes, and what ended it.
#[derive(Debug)]
pub struct Started<T, E> {
    /// Results of the calls that succeeded.
    pub done: Vec<T>,
    /// Errors of the batch that failed; empty if everything was done.
    pub failed: Vec<E>,
    /// How many calls were never made because of the failures.
    pub skipped: usize,
}

/// Calls `call(0..count)` in growing batches until all are done or one fails.
pub async fn slow_start<T, E, F>(count: usize, call: impl Fn(usize) -> F) -> Started<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut started = Started { done: Vec::with_capacity(count), failed: Vec::new(), skipped: 0 };
    let (mut next, mut batch) = (0, 1);
    while next < count && started.failed.is_empty() {
        let end = count.min(next + batch);
        let results: Vec<_> = stream::iter(next..end).map(&call).buffered(MOST_IN_FLIGHT).collect().await;
        for result in results {
            match result {
                Ok(value) => started.done.push(value),
                Err(error) => started.failed.push(error),
            }
        }
        (next, batch) = (end, batch * 2);
    }
    started.skipped = count - next;
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn batches_double_and_stop_after_the_first_failure() {
        let table = [(0, usize::MAX, 0, 0, 0), (10, usize::MAX, 10, 0, 0), (500, 0, 0, 1, 499), (500, 5, 6, 1, 493)];
        for (count, bad, done, failed, skipped) in table {
            let started = slow_start(count, |i| async move { if i == bad { Err(i) } else { Ok(i) } }).await;
            assert_eq!(
                (started.done.len(), started.failed.len(), started.skipped),
                (done, failed, skipped),
                "{count} {bad}"
            );
        }
    }
}
