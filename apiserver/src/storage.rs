//! The store behind the API server: a revisioned key-value map with compare-and-swap, paging at a revision and one
//! ordered change feed. `etcd` is the model; `embedded` and `memory` keep the same contract (one suite tests all three).
//!
//! Invariants: an acknowledged commit is durable; revisions grow by one with each effective commit; a reader of the change
//! feed sees every change after its start revision exactly once, in revision order, or is told that they are compacted.

pub mod embedded;
pub mod etcd;
pub mod memory;

mod deadlines;
mod index;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

/// One stored value with the revision of its last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Full key, `/registry/…`.
    pub key: String,
    /// The stored bytes: JSON of the object, without `metadata.resourceVersion`.
    pub value: Bytes,
    /// Revision of the last write to this key.
    pub revision: Revision,
}

/// What must be true of the key for a commit to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists and was last written at this revision.
    Revision(Revision),
}

/// What a commit does to the key.
#[derive(Clone, Debug)]
pub enum Write {
    /// Sets the value; `ttl` makes the store delete it by itself after that time (used by Events).
    Put { value: Bytes, ttl: Option<Duration> },
    /// Removes the key.
    Delete,
}

/// How a commit ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Done and durable, at this revision.
    Committed(Revision),
    /// The expectation did not hold; this is what is there instead.
    Conflict(Option<KeyValue>),
}

/// A page of keys in key order.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The entries.
    pub items: Vec<KeyValue>,
    /// The revision that was read: the one asked for, or the newest.
    pub revision: Revision,
    /// How many further keys the prefix has after the last item.
    pub remaining: u64,
}

/// One change in the feed.
#[derive(Clone, Debug)]
pub enum Change {
    /// The key was created or overwritten.
    Put(KeyValue),
    /// The key was deleted at this revision.
    Delete { key: String, revision: Revision },
}

/// What the change feed yields.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Changes in revision order (never empty). All changes of one revision are in one batch.
    Changes(Vec<Change>),
    /// Everything up to this revision has been delivered.
    Progress(Revision),
}

impl Feed {
    /// The revision up to which everything has been delivered once this has.
    pub fn revision(&self) -> Revision {
        match self {
            Feed::Changes(changes) => changes.last().map(Change::revision).unwrap_or_default(),
            Feed::Progress(revision) => *revision,
        }
    }
}

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Change::Put(item) => &item.key,
            Change::Delete { key, .. } => key,
        }
    }

    /// The revision that made this change.
    pub fn revision(&self) -> Revision {
        match self {
            Change::Put(item) => item.revision,
            Change::Delete { revision, .. } => *revision,
        }
    }
}

/// What can go wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The revision asked for is gone.
    #[error("mvcc: required revision has been compacted")]
    Compacted { oldest: Revision },
    /// The revision asked for does not exist yet.
    #[error("mvcc: required revision is a future revision")]
    Future { newest: Revision },
    /// The store can't be reached or refused; whether a write happened is unknown.
    #[error("storage unavailable: {0}")]
    Unavailable(String),
    /// The store's files are damaged or can't be written.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// Keeps the history bounded: what is older than one to two intervals is forgotten. Ends when cancelled.
pub async fn compact_every(storage: Arc<dyn Storage>, interval: Duration, token: CancellationToken) {
    let mut before = None;
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let compacted = match before {
            Some(revision) => storage.compact(revision).await,
            None => Ok(()),
        };
        if let Err(error) = compacted {
            tracing::warn!(%error, "history is not compacted");
        }
        before = storage.revision().await.ok().or(before);
    }
}

/// The contract.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The newest value of a key (linearizable), with the store's revision.
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StorageError>;

    /// Keys that begin with `prefix` and are greater than `after`, at `at` or the newest revision; `limit` 0 is all.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listed, StorageError>;

    /// Whether a read is a call to another process: then writers begin with what the cache holds.
    fn is_remote(&self) -> bool {
        false
    }

    /// Compare-and-swap of one key.
    async fn commit(&self, key: &str, expect: Expect, write: Write) -> Result<Outcome, StorageError>;

    /// The store's newest revision (linearizable).
    async fn revision(&self) -> Result<Revision, StorageError>;

    /// All changes with a revision greater than `after` to keys that begin with `prefix`. The stream ends with an error when the
    /// store is lost or the start is compacted; it never skips.
    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Feed, StorageError>>, StorageError>;

    /// Forgets history before `revision`.
    async fn compact(&self, revision: Revision) -> Result<(), StorageError>;
}
