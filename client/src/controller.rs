//! Runs a reconciler for the keys of a queue.
//!
//! Invariants: one worker per key at a time; a key is not reconciled before the stores show what the last reconcile
//! wrote for it; a failure is tried again with growing waits and never ends the worker.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{Error, WorkQueue, WrittenRevisions};

/// Brings the world closer to what one key asks for.
pub trait Reconcile: Send + Sync + 'static {
    /// What is reconciled: usually the key of an object.
    type Key: Ord + Clone + Debug + Display + Send + Sync + 'static;

    /// The name in logs.
    fn name(&self) -> &'static str;

    /// Observes the whole state of the key, plans, applies. An object that is not there is a normal case.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Outcome, Error>> + Send;
}

/// When to look at a key again although nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not before something changes.
    Done,
    /// After this time at the latest.
    After(Duration),
}

/// A reconciler with its queue.
pub struct Controller<R: Reconcile> {
    reconciler: Arc<R>,
    queue: WorkQueue<R::Key>,
    written: WrittenRevisions<R::Key>,
    workers: usize,
}

impl<R: Reconcile> Controller<R> {
    /// With one worker, and nothing written yet.
    pub fn new(reconciler: R, queue: WorkQueue<R::Key>) -> Self {
        Self { reconciler: Arc::new(reconciler), queue, written: WrittenRevisions::new(), workers: 1 }
    }

    /// How many keys are reconciled at once.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Where the reconciler notes its writes; the controller waits for them.
    pub fn written(mut self, written: WrittenRevisions<R::Key>) -> Self {
        self.written = written;
        self
    }

    /// Works until the token is cancelled; a reconcile that has begun is finished.
    pub async fn run(self, token: CancellationToken) {
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            let (reconciler, queue, written) = (self.reconciler.clone(), self.queue.clone(), self.written.clone());
            workers.spawn(work(reconciler, queue, written, token.clone()));
        }
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                Some(ended) = workers.join_next() => report(self.reconciler.name(), &ended),
            }
        }
        self.queue.close();
        while let Some(ended) = workers.join_next().await {
            report(self.reconciler.name(), &ended);
        }
    }
}

fn report(controller: &'static str, ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(controller, %error, "a worker broke");
    }
}

async fn work<R: Reconcile>(
    reconciler: Arc<R>,
    queue: WorkQueue<R::Key>,
    written: WrittenRevisions<R::Key>,
    token: CancellationToken,
) {
    while let Some(key) = queue.get().await {
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = written.settled(&key) => {}
        }
        let span = tracing::debug_span!("reconcile", controller = reconciler.name(), %key);
        let outcome = reconciler.reconcile(&key).instrument(span).await;
        settle(reconciler.name(), &queue, &key, outcome);
        queue.done(&key);
    }
}

/// Above this many failures in a row an error is worth a line that everybody sees.
const LOUD_AFTER: u32 = 3;

fn settle<Key: Ord + Clone + Display>(
    name: &'static str,
    queue: &WorkQueue<Key>,
    key: &Key,
    outcome: Result<Outcome, Error>,
) {
    match outcome {
        Ok(Outcome::Done) => queue.forget(key),
        Ok(Outcome::After(delay)) => {
            queue.forget(key);
            queue.add_after(key.clone(), delay);
        }
        Err(error) => {
            let failures = queue.failures(key);
            if failures >= LOUD_AFTER && !error.is_conflict() {
                tracing::warn!(controller = name, %key, failures, %error, "reconciling failed again");
            } else {
                tracing::debug!(controller = name, %key, failures, %error, "reconciling failed");
            }
            queue.add_rate_limited(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::time::Instant;

    struct FailsTwice {
        calls: Arc<Mutex<Vec<u128>>>,
        started: Instant,
    }

    impl Reconcile for FailsTwice {
        type Key = String;

        fn name(&self) -> &'static str {
            "fails-twice"
        }

        async fn reconcile(&self, _key: &String) -> Result<Outcome, Error> {
            let mut calls = self.calls.lock().expect("not poisoned");
            calls.push(self.started.elapsed().as_millis());
            match calls.len() {
                1 | 2 => Err(Error::Undecided("not yet".to_owned())),
                3 => Ok(Outcome::After(Duration::from_secs(60))),
                _ => Ok(Outcome::Done),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_and_outcomes_obeyed() {
        let (calls, queue, token) = (Arc::default(), WorkQueue::new(), CancellationToken::new());
        let reconciler = FailsTwice { calls: Arc::clone(&calls), started: Instant::now() };
        queue.add("key".to_owned());
        let running = tokio::spawn(Controller::new(reconciler, queue).workers(2).run(token.clone()));
        tokio::time::sleep(Duration::from_secs(100)).await;
        token.cancel();
        running.await.expect("the controller ends in good order");
        assert_eq!(*calls.lock().expect("not poisoned"), [0, 5, 15, 60015]);
    }
}
