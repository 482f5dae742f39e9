//! The cache of one resource: a snapshot that the next change replaces, the ring of recent changes, and the watchers.
//!
//! Only the cache's task changes it; a lock is held for one change or one look, never while an object is read or encoded.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use api::names::Revision;
use bytes::Bytes;

use super::entry::Entry;
use super::event::{Event, EventKind, Recorded};
use super::extract::Paths;
use super::ring::Ring;
use super::selection::{Group, Selection};
use super::snapshot::Snapshot;
use super::watchers::{Watcher, Watchers};
use crate::storage::{Change, KeyValue, Storage, StorageError};

/// A selectable field besides `metadata.name` and `metadata.namespace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As in `spec.nodeName`.
    pub name: String,
    /// JSON pointers of which the first that is there counts; one that does not begin with `/` is the value itself.
    pub pointers: Vec<String>,
}

impl From<(&str, &[&str])> for SelectableField {
    fn from((name, pointers): (&str, &[&str])) -> Self {
        Self { name: name.to_owned(), pointers: pointers.iter().map(|&pointer| pointer.to_owned()).collect() }
    }
}

/// What the cache must know of a resource.
#[derive(Clone, Debug)]
pub struct ResourceSpec {
    /// Where its objects are stored, for example `/registry/pods/`.
    pub prefix: String,
    /// As bookmarks show it.
    pub api_version: String,
    /// As bookmarks show it.
    pub kind: String,
    /// What field selectors may ask for.
    pub fields: Vec<SelectableField>,
    /// How objects are shown that were stored under other rules than today's.
    pub shown: Option<Shown>,
}

/// How stored bytes are shown, if not as they are: objects of kinds that were defined at run time follow the definition as it is now.
#[derive(Clone)]
pub struct Shown(pub Arc<dyn Fn(&[u8]) -> Option<Bytes> + Send + Sync>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

/// A spec and what follows from it.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) spec: ResourceSpec,
    pub(super) paths: Paths,
}

impl Resource {
    /// Prepares a spec.
    pub(super) fn new(spec: ResourceSpec) -> Self {
        Self { paths: Paths::new(&spec.fields), spec }
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// Changes after a revision, which may be one that does not exist yet.
    After(Revision),
    /// An ADDED event for each object there is, then changes; with a marked bookmark in between if asked for.
    State {
        /// `sendInitialEvents=true`.
        end_bookmark: bool,
    },
}

/// The changes after the revision asked for are not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Expired {
    /// What was asked for.
    pub asked: Revision,
    /// The oldest revision that a watch can begin after.
    pub oldest: Revision,
}

/// See the module's documentation.
pub struct ResourceCache {
    resource: Arc<Resource>,
    storage: Arc<dyn Storage>,
    state: RwLock<State>,
    this: Weak<ResourceCache>,
}

struct State {
    now: Snapshot,
    ring: Ring,
    watchers: Watchers,
    /// The revision that was loaded from the store.
    loaded: Revision,
    /// When an object was changed last.
    changed: Revision,
    /// Changes that came before the objects were loaded.
    early: Option<Vec<Change>>,
}

impl ResourceCache {
    /// An empty cache that waits for its objects.
    pub(super) fn new(spec: ResourceSpec, storage: Arc<dyn Storage>) -> Arc<Self> {
        let state = State {
            now: Snapshot::empty(&spec.prefix, Revision(0)),
            ring: Ring::new(Revision(0)),
            watchers: Watchers::default(),
            loaded: Revision(0),
            changed: Revision(0),
            early: Some(Vec::new()),
        };
        Arc::new_cyclic(|this| Self {
            resource: Arc::new(Resource::new(spec)),
            storage,
            state: RwLock::new(state),
            this: Weak::clone(this),
        })
    }

    /// What is cached here.
    pub fn spec(&self) -> &ResourceSpec {
        &self.resource.spec
    }

    /// The revision that this resource has reached.
    pub fn revision(&self) -> Revision {
        self.read().now.revision
    }

    /// The revision of the last change of any of these objects; as long as it stays, so do they.
    pub fn changed(&self) -> Revision {
        self.read().changed
    }

    /// One object by its full key.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.read().now.get(key).map(Arc::clone)
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.read().now.clone()
    }

    /// Everything as it was at a revision: from the recent changes, or else from the store's history.
    pub async fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, StorageError> {
        if let Some(earlier) = self.recent(revision)? {
            return Ok(earlier);
        }
        let listed = self.storage.list(&self.spec().prefix, None, 0, Some(revision)).await?;
        Ok(self.build(listed.items, revision))
    }

    /// Begins a watch.
    pub fn watch(&self, from: WatchFrom, selection: Selection) -> Result<Watcher, Expired> {
        let selection = Arc::new(selection);
        let mut state = self.write();
        match from {
            WatchFrom::After(asked) => {
                if asked < state.ring.oldest() {
                    return Err(Expired { asked, oldest: state.ring.oldest() });
                }
                let missed = state.missed(asked, &selection);
                Ok(state.watchers.register(Weak::clone(&self.this), selection, asked).begin_with(missed.into_iter()))
            }
            WatchFrom::State { end_bookmark } => {
                let now = state.now.clone();
                let watcher = state.watchers.register(Weak::clone(&self.this), Arc::clone(&selection), now.revision);
                drop(state);
                let selected: Vec<Arc<Entry>> = now.select(&selection, None).map(Arc::clone).collect();
                let end = end_bookmark.then(|| self.mark(now.revision, true));
                Ok(watcher.begin_with(selected.into_iter().map(|entry| Event::new(EventKind::Added, entry)).chain(end)))
            }
        }
    }

    /// Whether its objects are there.
    pub(super) fn is_loaded(&self) -> bool {
        self.read().early.is_none()
    }

    /// Sets the objects of a resource that was added while the cache runs, and applies what came in the meantime.
    pub(super) fn load(&self, items: Vec<KeyValue>, revision: Revision) {
        let loaded = self.build(items, revision);
        let mut state = self.write();
        let Some(early) = state.early.take() else { return };
        state.reset(loaded);
        for (change, current) in self.read_all(early) {
            state.apply(&change, current);
        }
    }

    /// Sets all objects anew: watches of what was there before end.
    pub(super) fn reload(&self, items: Vec<KeyValue>, revision: Revision) {
        let loaded = self.build(items, revision);
        let mut state = self.write();
        state.early = None;
        state.reset(loaded);
    }

    /// Takes in changes of the store, in order and all at once; afterwards everything up to `reached` is there.
    pub(super) fn absorb(&self, changes: Vec<Change>, reached: Revision) {
        let read = self.read_all(changes);
        let mut state = self.write();
        for (change, current) in read {
            match &mut state.early {
                Some(early) => early.push(change),
                None => state.apply(&change, current),
            }
        }
        if state.early.is_none() {
            state.now.revision = state.now.revision.max(reached);
        }
    }

    /// Ends all watches.
    pub(super) fn end_watches(&self) {
        self.write().watchers.clear();
    }

    /// Removes a watcher that is dropped.
    pub(super) fn forget(&self, group: &Group, id: u64) {
        self.write().watchers.remove(group, id);
    }

    /// A bookmark of now, if `up_to_date` while nothing can be offered.
    pub(super) fn bookmark(&self, up_to_date: impl FnOnce() -> bool) -> Option<Event> {
        let state = self.read();
        up_to_date().then(|| self.mark(state.now.revision, false))
    }

    /// How many watch.
    #[cfg(test)]
    pub(super) fn watching(&self) -> usize {
        self.read().watchers.len()
    }

    fn mark(&self, revision: Revision, initial_end: bool) -> Event {
        Event::bookmark(&self.spec().api_version, &self.spec().kind, revision, initial_end)
    }

    fn recent(&self, revision: Revision) -> Result<Option<Snapshot>, StorageError> {
        let state = self.read();
        if revision > state.now.revision {
            return Err(StorageError::Future { newest: state.now.revision });
        }
        Ok((revision >= state.ring.oldest()).then(|| state.now.rolled_back(&state.ring, revision)))
    }

    fn build(&self, items: Vec<KeyValue>, revision: Revision) -> Snapshot {
        let mut built = Snapshot::empty(&self.spec().prefix, revision);
        for entry in items.into_iter().filter_map(|item| self.entry(item)) {
            built.insert(entry);
        }
        built
    }

    /// Reads a stored object. What cannot be read cannot be served: it counts as absent, loudly.
    fn entry(&self, mut item: KeyValue) -> Option<Arc<Entry>> {
        let (key, revision) = (item.key.clone(), item.revision);
        if let Some(Shown(show)) = &self.resource.spec.shown
            && let Some(shown) = show(&item.value)
        {
            item.value = shown;
        }
        match Entry::read(&self.resource, item) {
            Ok(entry) => Some(Arc::new(entry)),
            Err(error) => {
                tracing::error!(key, %revision, %error, "stored object cannot be read");
                None
            }
        }
    }

    fn read_all(&self, changes: Vec<Change>) -> Vec<(Change, Option<Arc<Entry>>)> {
        let read = |change: Change| {
            let current = match &change {
                Change::Put(item) => self.entry(item.clone()),
                Change::Delete { .. } => None,
            };
            (change, current)
        };
        changes.into_iter().map(read).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reset(&mut self, loaded: Snapshot) {
        self.loaded = loaded.revision;
        self.changed = loaded.revision;
        self.ring = Ring::new(loaded.revision);
        self.now = loaded;
        self.watchers.clear();
    }

    /// Several changes may share a revision, but what was loaded holds all of its own.
    fn apply(&mut self, change: &Change, current: Option<Arc<Entry>>) {
        let revision = change.revision();
        if revision <= self.loaded {
            return;
        }
        let previous = match &current {
            Some(entry) => self.now.insert(Arc::clone(entry)),
            None => self.now.remove(change.key()),
        };
        self.now.revision = revision;
        self.changed = revision;
        if previous.is_none() && current.is_none() {
            return;
        }
        let recorded = Arc::new(Recorded::new(revision, previous, current));
        self.watchers.offer(&recorded);
        self.ring.push(recorded);
    }

    /// The events that a watcher from `after` has missed.
    fn missed(&self, after: Revision, selection: &Selection) -> Vec<Event> {
        self.ring.after(after).filter_map(|change| change.seen_through(selection)).collect()
    }
}
