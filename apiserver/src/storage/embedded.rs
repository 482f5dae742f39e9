//! The durable store in this process: one file, one writer thread, an index in memory that serves all reads.
//!
//! A commit is handed to the writer, which makes one durable transaction of all that wait (group commit), then applies them to
//! the index and answers. Invariants: nothing is visible before it is on disk; what was acknowledged is on disk; the index holds
//! exactly what is on disk since the last compaction. One process at a time: the file is locked while it is open.

mod disk;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use api::names::Revision;
use async_trait::async_trait;
use futures::stream::BoxStream;
use process::Clock;
use tokio::sync::{mpsc, oneshot};

use self::disk::Disk;
use self::writer::{Request, Writer};
use super::shared::Shared;
use super::{Expect, Feed, KeyValue, Listed, Outcome, Storage, StorageError, Write};

/// How many commits may wait for the writer; more wait in their callers.
const WAITING: usize = 1024;

/// See the module's documentation.
pub struct Embedded {
    shared: Arc<Shared>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in a directory, or makes one in an empty or missing directory. Reads everything into memory.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, StorageError> {
        let (disk, loaded) = Disk::open(dir)?;
        let shared = Shared::new(loaded.index);
        let (sender, requests) = mpsc::channel(WAITING);
        let writer = Writer::new(disk, Arc::clone(&shared), loaded.deadlines, loaded.garbage, clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let failed =
            |error: std::io::Error| StorageError::Failed(format!("can't start the writer of the store: {error}"));
        let runtime = runtime.map_err(failed)?;
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || runtime.block_on(writer.run(requests)));
        Ok(Self { shared, requests: Some(sender), writer: Some(thread.map_err(failed)?) })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StorageError>>) -> Request,
    ) -> Result<T, StorageError> {
        let gone = || StorageError::Failed("the writer of the store has ended".into());
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Storage for Embedded {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StorageError> {
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
        self.shared.read().list(prefix, after, limit, at)
    }

    async fn commit(&self, key: &str, expect: Expect, write: Write) -> Result<Outcome, StorageError> {
        self.ask(|answer| Request::Commit { key: key.to_owned(), expect, write, answer }).await
    }

    async fn revision(&self) -> Result<Revision, StorageError> {
        Ok(self.shared.read().revision())
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Feed, StorageError>>, StorageError> {
        self.shared.read().feed(prefix, after)?;
        Ok(self.shared.feed(prefix, after))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        self.ask(|answer| Request::Compact { revision, answer }).await
    }
}

impl Drop for Embedded {
    /// Lets the writer finish what it was given, and unlocks the file.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the store panicked");
        }
    }
}
