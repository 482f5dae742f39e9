//! The watch cache: every object of every kind as ready-made bytes, the recent changes, and everybody who watches.
//!
//! One task, [`Cache::run`], follows the store's change feed and is the only writer; reads take a snapshot and never wait for
//! it. The store, not the handler of a write, feeds the cache. Invariant: once [`Cache::revision`] shows a revision, every
//! resource holds all changes up to it, and they have been offered to every watcher.

mod entry;
mod event;
mod extract;
mod labels;
mod resource;
mod ring;
mod selection;
mod snapshot;
#[cfg(test)]
mod tests;
mod watchers;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::names::Revision;
use futures::StreamExt;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use self::entry::Entry;
pub use self::event::{Event, EventKind};
pub use self::labels::Labels;
pub use self::resource::{Expired, ResourceCache, ResourceSpec, SelectableField, Shown, WatchFrom};
pub use self::selection::Selection;
pub use self::snapshot::Snapshot;
pub use self::watchers::Watcher;
use crate::storage::{Change, Feed, KeyValue, Listed, Storage, StorageError};

/// What the cache holds: everything below this key.
pub const ROOT: &str = "/registry/";
/// How far back the cache reaches when it starts, in revisions: watches survive a restart of the server that long.
const HISTORY: u64 = 4096;
/// How long a fresh read waits for the cache before it gives up.
const FRESH_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after the first failure of the change feed; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The cache has not reached the revision in the time given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Too large resource version: {asked}, current: {current}")]
pub struct Behind {
    /// The revision waited for.
    pub asked: Revision,
    /// What the cache has.
    pub current: Revision,
}

/// The resources by the prefix of their keys.
type ByPrefix = BTreeMap<String, Arc<ResourceCache>>;

/// See the module's documentation.
pub struct Cache {
    storage: Arc<dyn Storage>,
    /// Copied when a resource comes or goes, so that each batch of changes takes it as it is.
    resources: RwLock<Arc<ByPrefix>>,
    /// 0 until the first load.
    absorbed: AtomicU64,
    reached: Notify,
    newest: SharedRevision,
}

impl Cache {
    /// An empty cache of these resources; [`Self::run`] fills it.
    pub fn new(storage: Arc<dyn Storage>, resources: Vec<ResourceSpec>) -> Arc<Self> {
        let resource = |spec: ResourceSpec| (spec.prefix.clone(), ResourceCache::new(spec, Arc::clone(&storage)));
        Arc::new(Self {
            resources: RwLock::new(Arc::new(resources.into_iter().map(resource).collect())),
            storage,
            absorbed: AtomicU64::new(0),
            reached: Notify::new(),
            newest: SharedRevision::default(),
        })
    }

    /// Follows the store until cancelled. A lost feed is taken up where it stopped; only when the store has compacted that
    /// place is everything loaded again, which ends all watches.
    pub async fn run(&self, token: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let before = self.revision();
            let followed = tokio::select! {
                biased;
                () = token.cancelled() => return,
                followed = self.follow() => followed,
            };
            match followed {
                Err(StorageError::Compacted { oldest }) => {
                    tracing::warn!(absorbed = %before, %oldest, "watch cache fell behind compaction and starts over");
                    self.absorbed.store(0, Ordering::Release);
                }
                Err(error) => tracing::warn!(%error, "change feed of the store lost"),
                Ok(()) => tracing::warn!("change feed of the store ended"),
            }
            pause = if self.revision() > before { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// The revision that the cache has reached; 0 before it is loaded.
    pub fn revision(&self) -> Revision {
        Revision(self.absorbed.load(Ordering::Acquire))
    }

    /// For a linearizable read: waits until the cache holds everything that was acknowledged before this call.
    pub async fn fresh(&self) -> Result<Revision, StorageError> {
        let newest = self.newest.read(&*self.storage).await?;
        match self.wait_for(newest, FRESH_PATIENCE).await {
            Ok(()) => Ok(self.revision()),
            Err(Behind { asked, current }) => Err(StorageError::Unavailable(format!(
                "the watch cache is at revision {current} and has not reached {asked} in {FRESH_PATIENCE:?}"
            ))),
        }
    }

    /// Waits until the cache has reached a revision.
    pub async fn wait_for(&self, revision: Revision, patience: Duration) -> Result<(), Behind> {
        // Revision 0 means loaded.
        let wanted = revision.max(Revision(1));
        if self.revision() >= wanted {
            return Ok(());
        }
        timeout(patience, self.reaches(wanted)).await.map_err(|_| Behind { asked: revision, current: self.revision() })
    }

    /// The cache of the resource stored below this prefix; none while one that was added is being loaded.
    pub fn resource(&self, prefix: &str) -> Option<Arc<ResourceCache>> {
        self.known(prefix).filter(|resource| resource.is_loaded() || self.revision() == Revision(0))
    }

    /// Begins to cache another resource; returns once its objects are there. One that is cached already stays as it is.
    pub async fn add_resource(&self, spec: ResourceSpec) -> Result<Arc<ResourceCache>, StorageError> {
        if let Some(loaded) = self.known(&spec.prefix).filter(|resource| resource.is_loaded()) {
            return Ok(loaded);
        }
        let prefix = spec.prefix.clone();
        let added = {
            let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
            let added = Arc::make_mut(&mut resources)
                .entry(prefix.clone())
                .or_insert_with(|| ResourceCache::new(spec, Arc::clone(&self.storage)));
            Arc::clone(added)
        };
        // From here on the feed reaches the resource, which keeps what comes before its list.
        let listed = self.storage.list(&prefix, None, 0, None).await?;
        added.load(listed.items, listed.revision);
        Ok(added)
    }

    /// Forgets a resource and ends its watches.
    pub fn remove_resource(&self, prefix: &str) {
        let removed = Arc::make_mut(&mut self.resources.write().unwrap_or_else(PoisonError::into_inner)).remove(prefix);
        if let Some(removed) = removed {
            removed.end_watches();
        }
    }

    /// One life of the change feed.
    async fn follow(&self) -> Result<(), StorageError> {
        if self.revision() == Revision(0) {
            self.load().await?;
        }
        let mut feed = self.storage.watch(ROOT, self.revision()).await?;
        while let Some(next) = feed.next().await {
            self.absorb(next?);
        }
        Ok(())
    }

    /// Loads everything as it was a little while ago; the feed then replays what happened since, which fills the rings.
    async fn load(&self) -> Result<(), StorageError> {
        let newest = self.storage.revision().await?;
        let start = Revision(newest.0.saturating_sub(HISTORY).max(1));
        let Listed { items, revision, .. } = match self.storage.list(ROOT, None, 0, Some(start)).await {
            Err(StorageError::Compacted { oldest }) => self.storage.list(ROOT, None, 0, Some(oldest)).await?,
            listed => listed?,
        };
        let resources = self.all();
        let mut parts: BTreeMap<&str, Vec<KeyValue>> =
            resources.keys().map(|prefix| (prefix.as_str(), Vec::new())).collect();
        for item in items {
            match owner(&resources, &item.key) {
                Some((prefix, _)) => parts.entry(prefix).or_default().push(item),
                None => tracing::debug!(key = item.key, "not the key of a known resource"),
            }
        }
        for (prefix, items) in parts {
            resources[prefix].reload(items, revision);
        }
        self.advance(revision);
        Ok(())
    }

    fn absorb(&self, feed: Feed) {
        let reached = feed.revision();
        let resources = self.all();
        let mut parts: BTreeMap<&str, Vec<Change>> = BTreeMap::new();
        if let Feed::Changes(changes) = feed {
            for change in changes {
                if let Some((prefix, _)) = owner(&resources, change.key()) {
                    parts.entry(prefix).or_default().push(change);
                }
            }
        }
        for (prefix, resource) in resources.iter() {
            resource.absorb(parts.remove(prefix.as_str()).unwrap_or_default(), reached);
        }
        self.advance(reached);
    }

    fn advance(&self, reached: Revision) {
        self.absorbed.store(reached.0, Ordering::Release);
        self.reached.notify_waiters();
    }

    async fn reaches(&self, revision: Revision) {
        loop {
            let mut reached = pin!(self.reached.notified());
            reached.as_mut().enable();
            if self.revision() >= revision {
                return;
            }
            reached.await;
        }
    }

    fn known(&self, prefix: &str) -> Option<Arc<ResourceCache>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).get(prefix).map(Arc::clone)
    }

    fn all(&self) -> Arc<ByPrefix> {
        Arc::clone(&self.resources.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The resource that a key belongs to.
fn owner<'a>(
    resources: &'a BTreeMap<String, Arc<ResourceCache>>,
    key: &str,
) -> Option<(&'a String, &'a Arc<ResourceCache>)> {
    resources
        .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
        .next_back()
        .filter(|(prefix, _)| key.starts_with(prefix.as_str()))
}

/// One check of the store's newest revision answers everybody who asked before it began.
#[derive(Default)]
struct SharedRevision {
    asked: AtomicU64,
    /// The last check: it began after this many had asked. Held while a check runs, so that the others wait for its answer.
    checked: tokio::sync::Mutex<(u64, Revision)>,
}

impl SharedRevision {
    async fn read(&self, storage: &dyn Storage) -> Result<Revision, StorageError> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut checked = self.checked.lock().await;
        if checked.0 < mine {
            let asked = self.asked.load(Ordering::SeqCst);
            *checked = (asked, storage.revision().await?);
        }
        Ok(checked.1)
    }
}
