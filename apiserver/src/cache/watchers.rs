//! Who watches a resource. Each watcher has a bounded queue of its own: one that does not read is ended, no other waits for it.
//!
//! Watchers stand in groups by what they can match at all, so that a change of a pod wakes the kubelet of its node and not the
//! others. Invariant: events are offered under the resource's lock, so every watcher sees the one order.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::{Arc, Weak};

use api::names::Revision;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::event::{Event, Recorded};
use super::resource::ResourceCache;
use super::selection::{Group, INDEXED, Selection};

/// How many events may wait for one watcher.
const QUEUE: usize = 1024;

/// The registered watchers of one resource.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    groups: BTreeMap<Group, BTreeMap<u64, Registered>>,
    next_id: u64,
}

#[derive(Debug)]
struct Registered {
    selection: Arc<Selection>,
    /// Only later changes are for this watcher.
    after: Revision,
    queue: mpsc::Sender<Event>,
}

impl Watchers {
    /// Registers a watcher of changes after a revision.
    pub(super) fn register(
        &mut self,
        cache: Weak<ResourceCache>,
        selection: Arc<Selection>,
        after: Revision,
    ) -> Watcher {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (group, id) = (selection.group(), self.next_id);
        self.next_id += 1;
        self.groups.entry(group.clone()).or_default().insert(id, Registered { selection, after, queue: sender });
        Watcher { cache, group, id, initial: boxed(std::iter::empty()), queue }
    }

    /// Removes a watcher.
    pub(super) fn remove(&mut self, group: &Group, id: u64) {
        if let Some(members) = self.groups.get_mut(group) {
            members.remove(&id);
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.groups.values().map(BTreeMap::len).sum()
    }

    /// Ends them all.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }

    /// Offers a change to everyone whom it may concern.
    pub(super) fn offer(&mut self, change: &Recorded) {
        if self.groups.is_empty() {
            return;
        }
        for group in concerned(change) {
            let Some(members) = self.groups.get_mut(&group) else { continue };
            members.retain(|_, watcher| watcher.offer(change));
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }
}

impl Registered {
    /// False when the watcher is gone or must be ended.
    fn offer(&self, change: &Recorded) -> bool {
        if change.revision <= self.after {
            return true;
        }
        let Some(event) = change.seen_through(&self.selection) else { return true };
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                tracing::info!(revision = %change.revision, "a watcher that does not keep up is ended");
                false
            }
        }
    }
}

/// The groups that a change can matter to, each once.
fn concerned(change: &Recorded) -> Vec<Group> {
    let mut groups = vec![Group::All];
    for entry in [&change.current, &change.previous].into_iter().flatten() {
        groups.push(Group::Namespace(entry.namespace().into()));
        groups.push(Group::Named(entry.name().into()));
        groups.push(Group::Indexed(entry.field(INDEXED).unwrap_or_default().into()));
    }
    groups.sort();
    groups.dedup();
    groups
}

type Initial = Peekable<Box<dyn Iterator<Item = Event> + Send>>;

fn boxed(initial: impl Iterator<Item = Event> + Send + 'static) -> Initial {
    (Box::new(initial) as Box<dyn Iterator<Item = Event> + Send>).peekable()
}

/// A stream of the changes that a selection sees.
pub struct Watcher {
    cache: Weak<ResourceCache>,
    group: Group,
    id: u64,
    initial: Initial,
    queue: mpsc::Receiver<Event>,
}

impl Watcher {
    /// Sets what it yields before anything else.
    pub(super) fn begin_with(mut self, initial: impl Iterator<Item = Event> + Send + 'static) -> Self {
        self.initial = boxed(initial);
        self
    }

    /// The next event; none when the watch has ended: it did not keep up, or the cache had to start over. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        match self.initial.next() {
            Some(event) => Some(event),
            None => self.queue.recv().await,
        }
    }

    /// The next event if it is there already.
    pub fn waiting(&mut self) -> Option<Event> {
        self.initial.next().or_else(|| self.queue.try_recv().ok())
    }

    /// A bookmark of how far this watch has come; none while events wait.
    pub fn bookmark(&mut self) -> Option<Event> {
        if self.initial.peek().is_some() {
            return None;
        }
        self.cache.upgrade()?.bookmark(|| self.queue.is_empty())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.upgrade() {
            cache.forget(&self.group, self.id);
        }
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("group", &self.group).field("id", &self.id).finish_non_exhaustive()
    }
}
