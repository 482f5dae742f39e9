//! An [`Index`] that many tasks read and one writer fills, and the change feed on top of it.
//!
//! A reader of the feed is a cursor, not a queue: a slow one costs no memory and no other reader waits for it; when its place
//! is compacted it is told so. Readers are woken in the order in which they began to wait.

use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use api::names::Revision;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Notify;

use super::index::Index;
use super::{Feed, StorageError};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Shared {
    index: RwLock<Index>,
    changed: Notify,
}

impl Shared {
    /// Shares an index.
    pub(super) fn new(index: Index) -> Arc<Self> {
        Arc::new(Self { index: RwLock::new(index), changed: Notify::new() })
    }

    /// The index, to read.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, to change; call [`Self::announce`] after the guard is dropped.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the readers of the feed.
    pub(super) fn announce(&self) {
        self.changed.notify_waiters();
    }

    /// See [`super::Storage::watch`].
    pub(super) fn feed(
        self: &Arc<Self>,
        prefix: &str,
        after: Revision,
    ) -> BoxStream<'static, Result<Feed, StorageError>> {
        let cursor = Cursor { shared: Arc::clone(self), prefix: prefix.to_owned(), after };
        stream::unfold(Some(cursor), |cursor| async move {
            let mut cursor = cursor?;
            match cursor.next().await {
                Ok(feed) => Some((Ok(feed), Some(cursor))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

struct Cursor {
    shared: Arc<Shared>,
    prefix: String,
    after: Revision,
}

impl Cursor {
    async fn next(&mut self) -> Result<Feed, StorageError> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let next = self.shared.read().feed(&self.prefix, self.after)?;
            if let Some((feed, reached)) = next {
                self.after = reached;
                return Ok(feed);
            }
            changed.await;
        }
    }
}
