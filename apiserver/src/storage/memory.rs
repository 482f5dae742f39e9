//! The store for tests and simulation: nothing on disk, no thread, no task; time is tokio's, so it may be paused.
//!
//! Invariant: a commit is visible to every reader of the change feed before its caller continues. Keys with a time to live
//! expire when somebody looks: an operation, or a feed that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use api::names::Revision;
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::deadlines::Deadlines;
use super::index::Index;
use super::shared::Shared;
use super::{Expect, Feed, KeyValue, Listed, Outcome, Storage, StorageError, Write};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
    deadlines: Arc<Mutex<Deadlines<Instant>>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self { shared: Shared::new(Index::new()), deadlines: Arc::new(Mutex::new(Deadlines::new())) }
    }

    /// Deletes what has lived long enough.
    fn expire(&self) {
        let due = self.due(Instant::now());
        if due.is_empty() {
            return;
        }
        {
            let mut index = self.shared.write();
            for key in due.iter().filter(|key| index.holds(key).is_some()).collect::<Vec<_>>() {
                index.apply(key, None);
            }
        }
        self.shared.announce();
    }

    fn due(&self, now: Instant) -> VecDeque<Arc<str>> {
        let mut deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| deadlines.pop_due(now)).collect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn set_deadline(&self, key: &str, deadline: Option<Instant>) {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner).set(key, deadline);
    }

    fn commit_now(&self, key: &str, expect: Expect, write: Write) -> Outcome {
        let revision = {
            let mut index = self.shared.write();
            if !index.allows(key, expect) {
                return Outcome::Conflict(index.get(key));
            }
            match write {
                Write::Put { value, ttl } => {
                    self.set_deadline(key, ttl.map(|ttl| Instant::now() + ttl));
                    index.apply(key, Some(value))
                }
                Write::Delete if index.holds(key).is_none() => return Outcome::Committed(index.revision()),
                Write::Delete => {
                    self.set_deadline(key, None);
                    index.apply(key, None)
                }
            }
        };
        self.shared.announce();
        Outcome::Committed(revision)
    }
}

#[async_trait]
impl Storage for Memory {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StorageError> {
        self.expire();
        let index = self.shared.read();
        Ok((index.get(key), index.revision()))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listed, StorageError> {
        self.expire();
        self.shared.read().list(prefix, after, limit, at)
    }

    async fn commit(&self, key: &str, expect: Expect, write: Write) -> Result<Outcome, StorageError> {
        self.expire();
        Ok(self.commit_now(key, expect, write))
    }

    async fn revision(&self) -> Result<Revision, StorageError> {
        self.expire();
        Ok(self.shared.read().revision())
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Feed, StorageError>>, StorageError> {
        self.expire();
        self.shared.read().feed(prefix, after)?;
        let state = (self.clone(), self.shared.feed(prefix, after));
        Ok(stream::unfold(state, |(memory, mut feed)| async move {
            loop {
                let deadline = memory.next_deadline();
                let expired = async {
                    match deadline {
                        Some(deadline) => sleep_until(deadline).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    item = feed.next() => return item.map(|item| (item, (memory, feed))),
                    () = expired => memory.expire(),
                }
            }
        })
        .boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        self.shared.write().compact(revision).map(drop)
    }
}
