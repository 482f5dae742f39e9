//! Read your own writes: a key is not looked at again before the stores show what was written for it.
//!
//! This replaces upstream's expectations. A reconciler notes each write; [`WrittenRevisions::settled`] waits until the
//! stores have caught up. Two cases have no revision to wait for: a delete answered by a plain Status (wait until the
//! store drops the uid) and a write that nobody answered (list anew).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{ObjectKey, Revision};
use kube::core::Status;
use tokio::time::timeout;

use crate::informer::Object;
use crate::{Error, Progress, Store};

/// How long to wait for a store; after that the reconciler works with what it has, as upstream does when expectations
/// expire.
const PATIENCE: Duration = Duration::from_secs(300);

type Answer<K> = either::Either<K, Status>;

/// What was written for each key and is not known to be visible yet; clones share it.
pub struct WrittenRevisions<Key> {
    pending: Arc<Mutex<BTreeMap<Key, Vec<Pending>>>>,
}

enum Pending {
    Revision(Progress, Revision),
    Gone(Progress, Box<dyn Fn() -> bool + Send + Sync>),
    Unknown(Progress),
}

impl<Key> Clone for WrittenRevisions<Key> {
    fn clone(&self) -> Self {
        Self { pending: self.pending.clone() }
    }
}

impl<Key: Ord + Clone> Default for WrittenRevisions<Key> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Key: Ord + Clone> WrittenRevisions<Key> {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self { pending: Arc::default() }
    }

    /// The write was answered with this object.
    pub fn object<K: Object>(&self, key: &Key, store: &Store<K>, object: &K) {
        self.revision(key, store, Revision::of(object.meta()));
    }

    /// The write had this revision.
    pub fn revision<K: Object>(&self, key: &Key, store: &Store<K>, revision: Revision) {
        if store.revision() < revision {
            self.push(key, Pending::Revision(store.progress(), revision));
        }
    }

    /// A delete was answered: by the object as it is now, or by a Status that says it is gone.
    pub fn deletion<K: Object>(&self, key: &Key, store: &Store<K>, object: &ObjectKey, uid: &str, answer: &Answer<K>) {
        match answer {
            Answer::Left(left) => self.object(key, store, left),
            Answer::Right(_) => self.gone(key, store, object, uid),
        }
    }

    /// The object of this uid is gone, or marked for deletion: wait until the store shows that.
    pub fn gone<K: Object>(&self, key: &Key, store: &Store<K>, object: &ObjectKey, uid: &str) {
        let (object, uid) = (object.clone(), uid.to_owned());
        let there = move |found: Option<&K>| {
            found.is_some_and(|o| o.meta().uid.as_deref() == Some(&uid) && o.meta().deletion_timestamp.is_none())
        };
        let shown = store.clone();
        let gone = move || !there(shown.get(&object).as_deref());
        self.push(key, Pending::Gone(store.progress(), Box::new(gone)));
    }

    /// A write failed in a way that leaves open whether it was done: the store is listed anew before the next look.
    /// Answers the error, so it can stand in a `map_err`.
    pub fn failed<K: Object>(&self, key: &Key, store: &Store<K>, error: Error) -> Error {
        if error.is_outcome_unknown() {
            self.push(key, Pending::Unknown(store.progress()));
        }
        error
    }

    /// Waits until the stores show everything that was written for the key.
    pub async fn settled(&self, key: &Key) {
        let pending = self.lock().remove(key).unwrap_or_default();
        for one in pending {
            if timeout(PATIENCE, one.visible()).await.is_err() {
                tracing::warn!("a store did not show a write for {PATIENCE:?}; going on with what it shows");
            }
        }
    }

    fn push(&self, key: &Key, pending: Pending) {
        self.lock().entry(key.clone()).or_default().push(pending);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    async fn visible(self) {
        match self {
            Self::Revision(progress, revision) => progress.reached(revision).await,
            Self::Gone(progress, gone) => progress.shows(gone).await,
            Self::Unknown(progress) => progress.relisted().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::time::Instant;

    fn object(name: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.uid = Some(name.to_owned());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_settled_when_the_store_shows_its_writes() {
        let (store, written) = (Store::new(Vec::new()), WrittenRevisions::new());
        store.replace(vec![object("a", 1)], Revision(1));
        written.object(&"key", &store, &object("a", 3));
        let gone = either::Either::Right(Status::success());
        written.deletion(&"key", &store, &ObjectKey::cluster("a"), "a", &gone);
        let (waiting, started) = (written.clone(), Instant::now());
        let settled = tokio::spawn(async move { waiting.settled(&"key").await });
        for (after, deleted) in [(1, false), (1, true)] {
            tokio::time::sleep(Duration::from_secs(after)).await;
            assert!(!settled.is_finished(), "waits for both");
            match deleted {
                false => store.upsert(object("a", 3)),
                true => store.delete(&ObjectKey::cluster("a"), Revision(4)),
            }
        }
        settled.await.expect("it settles");
        assert_eq!(started.elapsed().as_secs(), 2);
        written.settled(&"key").await;
        written.settled(&"other").await;
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let (store, written) = (Store::<ConfigMap>::new(Vec::new()), WrittenRevisions::new());
        store.replace(Vec::new(), Revision(1));
        let timeout = api::ApiError::timeout("request did not complete", 1).into();
        let lost = written.failed(&"key", &store, timeout);
        assert!(lost.is_outcome_unknown());
        let started = Instant::now();
        written.settled(&"key").await;
        assert_eq!(started.elapsed(), PATIENCE);
    }
}
