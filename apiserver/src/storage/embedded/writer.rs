//! The one writer: takes all commits that wait, decides each as if the others before it were done, makes one durable
//! transaction, applies it to the index, answers.
//!
//! Invariant: answers, also conflicts, are sent after the transaction, because they may show what it wrote.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use bytes::Bytes;
use process::Clock;
use tokio::sync::{mpsc, oneshot};

use super::super::deadlines::Deadlines;
use super::super::index::Index;
use super::super::shared::Shared;
use super::super::{Expect, KeyValue, Outcome, StorageError, Write};
use super::disk::{Disk, Record};

/// At most this many commits in one transaction.
const BATCH: usize = 256;
/// At most this many dead records are removed by one transaction, so that no commit waits long for a compaction.
const REMOVED: usize = 512;

/// What the writer is asked for.
pub(super) enum Request {
    /// See [`super::Storage::commit`].
    Commit { key: String, expect: Expect, write: Write, answer: oneshot::Sender<Result<Outcome, StorageError>> },
    /// See [`super::Storage::compact`].
    Compact { revision: Revision, answer: oneshot::Sender<Result<(), StorageError>> },
}

/// See the module's documentation.
pub(super) struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    deadlines: Deadlines<i64>,
    garbage: VecDeque<Revision>,
    clock: Clock,
    /// Why the file can't be written any more. After a failed write nothing is certain until it is opened anew.
    broken: Option<String>,
}

impl Writer {
    /// A writer of a file that was just read.
    pub(super) fn new(
        disk: Disk,
        shared: Arc<Shared>,
        deadlines: Deadlines<i64>,
        garbage: Vec<Revision>,
        clock: Clock,
    ) -> Self {
        Self { disk, shared, deadlines, garbage: garbage.into(), clock, broken: None }
    }

    /// Runs until nobody can ask any more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::new();
        loop {
            let idle = self.idle_time();
            let received = async { requests.recv_many(&mut waiting, BATCH).await };
            match tokio::time::timeout(idle, received).await {
                Ok(0) => return,
                Ok(_) | Err(_) => self.transact(std::mem::take(&mut waiting)),
            }
        }
    }

    /// How long the writer may wait for requests before it has something to do by itself.
    fn idle_time(&self) -> Duration {
        if self.broken.is_some() {
            return Duration::MAX;
        }
        if !self.garbage.is_empty() {
            return Duration::ZERO;
        }
        match self.deadlines.next() {
            Some(deadline) => Duration::from_millis(u64::try_from(deadline - self.now()).unwrap_or(0)),
            None => Duration::MAX,
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    fn transact(&mut self, requests: Vec<Request>) {
        let shared = Arc::clone(&self.shared);
        let decided = {
            let index = shared.read();
            let mut batch = Batch::new(&index, self.now());
            while let Some(key) = self.deadlines.pop_due(batch.now) {
                batch.expire(&key);
            }
            for request in requests {
                batch.decide(request);
            }
            batch.decided
        };
        let removed: Vec<Revision> = self.garbage.drain(..self.garbage.len().min(REMOVED)).collect();
        match self.write(&decided, &removed) {
            Ok(()) => self.apply(decided),
            Err(error) => decided.refuse(&error),
        }
    }

    fn write(&mut self, decided: &Decided, removed: &[Revision]) -> Result<(), StorageError> {
        if let Some(broken) = &self.broken {
            return Err(StorageError::Failed(broken.clone()));
        }
        if decided.records.is_empty() && removed.is_empty() && decided.oldest.is_none() {
            return Ok(());
        }
        self.disk.commit(&decided.records, removed, decided.oldest).map_err(|error| {
            let broken = format!("the store can't be written any more ({error}); restart after the cause is gone");
            tracing::error!("{broken}");
            self.broken = Some(broken.clone());
            StorageError::Failed(broken)
        })
    }

    /// Makes visible what is on disk, then answers.
    fn apply(&mut self, decided: Decided) {
        let changed = !decided.records.is_empty();
        {
            let mut index = self.shared.write();
            for record in decided.records {
                self.deadlines.set(&record.key, record.deadline);
                index.apply(&record.key, record.value);
            }
            if let Some(oldest) = decided.oldest {
                match index.compact(oldest) {
                    Ok(forgotten) => self.garbage.extend(forgotten),
                    Err(error) => tracing::error!(%error, "compaction of a revision that was checked"),
                }
            }
        }
        if changed {
            self.shared.announce();
        }
        // Who has gone away in the meantime does not want an answer.
        for (answer, outcome) in decided.commits {
            let _ = answer.send(outcome);
        }
        for (answer, outcome) in decided.compactions {
            let _ = answer.send(outcome);
        }
    }
}

type Answer<T> = (oneshot::Sender<Result<T, StorageError>>, Result<T, StorageError>);

/// What one transaction will do and what it will answer.
#[derive(Default)]
struct Decided {
    records: Vec<Record>,
    oldest: Option<Revision>,
    commits: Vec<Answer<Outcome>>,
    compactions: Vec<Answer<()>>,
}

impl Decided {
    fn refuse(self, error: &StorageError) {
        for (answer, _) in self.commits {
            let _ = answer.send(Err(error.clone()));
        }
        for (answer, _) in self.compactions {
            let _ = answer.send(Err(error.clone()));
        }
    }
}

/// Decides requests on top of the index and of what was decided before.
struct Batch<'a> {
    index: &'a Index,
    now: i64,
    newest: Revision,
    staged: BTreeMap<String, (Revision, Option<Bytes>)>,
    decided: Decided,
}

impl<'a> Batch<'a> {
    fn new(index: &'a Index, now: i64) -> Self {
        Self { index, now, newest: index.revision(), staged: BTreeMap::new(), decided: Decided::default() }
    }

    fn expire(&mut self, key: &str) {
        if self.current(key).is_some() {
            self.stage(key.to_owned(), None, None);
        }
    }

    fn decide(&mut self, request: Request) {
        match request {
            Request::Commit { key, expect, write, answer } => {
                let outcome = self.commit(key, expect, write);
                self.decided.commits.push((answer, Ok(outcome)));
            }
            Request::Compact { revision, answer } => {
                let outcome =
                    if revision > self.newest { Err(StorageError::Future { newest: self.newest }) } else { Ok(()) };
                if outcome.is_ok() && revision > self.index.oldest() {
                    self.decided.oldest = self.decided.oldest.max(Some(revision));
                }
                self.decided.compactions.push((answer, outcome));
            }
        }
    }

    fn commit(&mut self, key: String, expect: Expect, write: Write) -> Outcome {
        let current = self.current(&key);
        let allowed = match expect {
            Expect::Absent => current.is_none(),
            Expect::Revision(revision) => current.as_ref().is_some_and(|item| item.revision == revision),
        };
        match write {
            _ if !allowed => Outcome::Conflict(current),
            Write::Delete if current.is_none() => Outcome::Committed(self.newest),
            Write::Delete => Outcome::Committed(self.stage(key, None, None)),
            Write::Put { value, ttl } => {
                let deadline =
                    ttl.map(|ttl| self.now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
                Outcome::Committed(self.stage(key, Some(value), deadline))
            }
        }
    }

    fn current(&self, key: &str) -> Option<KeyValue> {
        match self.staged.get(key) {
            Some((revision, value)) => {
                Some(KeyValue { key: key.to_owned(), value: value.clone()?, revision: *revision })
            }
            None => self.index.get(key),
        }
    }

    fn stage(&mut self, key: String, value: Option<Bytes>, deadline: Option<i64>) -> Revision {
        self.newest = Revision(self.newest.0 + 1);
        self.staged.insert(key.clone(), (self.newest, value.clone()));
        self.decided.records.push(Record { revision: self.newest, key, value, deadline });
        self.newest
    }
}
