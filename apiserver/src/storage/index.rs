//! The multi-version map that serves reads of the stores that live in this process: every version since the last compaction,
//! and the log of changes that feeds watchers. Data only: no time, no disk.
//!
//! Invariants: one change per revision, so the log is contiguous and a revision's place in it is arithmetic; the versions of a
//! key are in revision order; what was compacted is never answered, but refused.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use api::names::Revision;
use bytes::Bytes;

use super::{Change, Expect, Feed, KeyValue, Listed, StorageError};

/// How many log entries one read of the feed looks at: bounds the time the index is locked.
const FEED_BATCH: usize = 1024;

/// The revision of an empty store, as in etcd: the first write gets the next one.
pub(super) const EMPTY: Revision = Revision(1);

#[derive(Clone, Debug)]
struct Version {
    revision: Revision,
    /// None: deleted at this revision.
    value: Option<Bytes>,
}

#[derive(Clone, Debug)]
struct Logged {
    key: Arc<str>,
    value: Option<Bytes>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Index {
    keys: BTreeMap<Arc<str>, Vec<Version>>,
    /// Changes of the revisions `revision - log.len() + 1 ..= revision`.
    log: VecDeque<Logged>,
    revision: Revision,
    /// Reads at older revisions are refused.
    oldest: Revision,
}

impl Index {
    /// An empty store.
    pub(super) fn new() -> Self {
        Self::restored(EMPTY, EMPTY)
    }

    /// An index to be filled by [`Self::restore`] and [`Self::apply`]: compacted at `oldest`, the newest compacted revision `revision`.
    pub(super) fn restored(revision: Revision, oldest: Revision) -> Self {
        Self { keys: BTreeMap::new(), log: VecDeque::new(), revision, oldest }
    }

    /// Adds a value that was written before the log begins.
    pub(super) fn restore(&mut self, item: KeyValue) {
        self.keys
            .entry(item.key.into())
            .or_default()
            .push(Version { revision: item.revision, value: Some(item.value) });
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The newest value of a key.
    pub(super) fn get(&self, key: &str) -> Option<KeyValue> {
        let newest = self.keys.get(key)?.last()?;
        Some(KeyValue { key: key.to_owned(), value: newest.value.clone()?, revision: newest.revision })
    }

    /// The revision of the key's last write, if it exists.
    pub(super) fn holds(&self, key: &str) -> Option<Revision> {
        let newest = self.keys.get(key)?.last()?;
        newest.value.is_some().then_some(newest.revision)
    }

    /// Whether a commit with this expectation may happen.
    pub(super) fn allows(&self, key: &str, expect: Expect) -> bool {
        match expect {
            Expect::Absent => self.holds(key).is_none(),
            Expect::Revision(revision) => self.holds(key) == Some(revision),
        }
    }

    /// Makes the next revision: the key gets the value, or is deleted.
    pub(super) fn apply(&mut self, key: &str, value: Option<Bytes>) -> Revision {
        self.revision = Revision(self.revision.0 + 1);
        let version = Version { revision: self.revision, value: value.clone() };
        let key: Arc<str> = match self.keys.get_key_value(key) {
            Some((known, _)) => Arc::clone(known),
            None => key.into(),
        };
        self.keys.entry(Arc::clone(&key)).or_default().push(version);
        self.log.push_back(Logged { key, value });
        self.revision
    }

    /// See [`super::Storage::list`].
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listed, StorageError> {
        let at = at.unwrap_or(self.revision);
        self.readable(at)?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut listed = Listed { items: Vec::new(), revision: at, remaining: 0 };
        for (key, versions) in self.keys.range::<str, _>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            let Some(Version { revision, value: Some(value) }) =
                versions.iter().rev().find(|version| version.revision <= at)
            else {
                continue;
            };
            if limit > 0 && listed.items.len() == limit {
                listed.remaining += 1;
            } else {
                listed.items.push(KeyValue { key: key.to_string(), value: value.clone(), revision: *revision });
            }
        }
        Ok(listed)
    }

    /// The next part of the change feed after a revision and the revision it reaches; none when there is nothing new.
    pub(super) fn feed(&self, prefix: &str, after: Revision) -> Result<Option<(Feed, Revision)>, StorageError> {
        if after >= self.revision {
            return Ok(None);
        }
        let first = self.revision.0 - self.log.len() as u64 + 1;
        if after.0 + 1 < first {
            return Err(StorageError::Compacted { oldest: self.oldest });
        }
        let skip = (after.0 + 1 - first) as usize;
        let mut changes = Vec::new();
        let mut seen = after;
        for logged in self.log.iter().skip(skip).take(FEED_BATCH) {
            seen = Revision(seen.0 + 1);
            if logged.key.starts_with(prefix) {
                changes.push(change(logged, seen));
            }
        }
        let feed = if changes.is_empty() { Feed::Progress(seen) } else { Feed::Changes(changes) };
        let reached = feed.revision();
        Ok(Some((feed, reached)))
    }

    /// See [`super::Storage::compact`]. Compacting what is compacted already does nothing. Answers which writes are forgotten:
    /// never one at `revision` or later.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<Vec<Revision>, StorageError> {
        let mut forgotten = Vec::new();
        if revision > self.revision {
            return Err(StorageError::Future { newest: self.revision });
        }
        let mut first = self.revision.0 - self.log.len() as u64 + 1;
        while first < revision.0
            && let Some(logged) = self.log.pop_front()
        {
            first += 1;
            self.forget(&logged.key, revision, &mut forgotten);
        }
        self.oldest = self.oldest.max(revision);
        Ok(forgotten)
    }

    /// Drops the versions of a key that nobody can read at `revision` or later.
    fn forget(&mut self, key: &Arc<str>, revision: Revision, forgotten: &mut Vec<Revision>) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let readable = versions.iter().rposition(|version| version.revision <= revision).unwrap_or(0);
        // A deletion at the very revision stays in the log, so it stays here until the next compaction.
        let dead = versions[readable].value.is_none() && versions[readable].revision < revision;
        forgotten.extend(versions.drain(..readable + usize::from(dead)).map(|version| version.revision));
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    fn readable(&self, at: Revision) -> Result<(), StorageError> {
        if at < self.oldest {
            return Err(StorageError::Compacted { oldest: self.oldest });
        }
        if at > self.revision {
            return Err(StorageError::Future { newest: self.revision });
        }
        Ok(())
    }
}

fn change(logged: &Logged, revision: Revision) -> Change {
    match &logged.value {
        Some(value) => Change::Put(KeyValue { key: logged.key.to_string(), value: value.clone(), revision }),
        None => Change::Delete { key: logged.key.to_string(), revision },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(writes: &[(&str, Option<&str>)]) -> Index {
        let mut index = Index::new();
        for (key, value) in writes {
            index.apply(key, value.map(|value| Bytes::copy_from_slice(value.as_bytes())));
        }
        index
    }

    fn keys(listed: &Listed) -> Vec<&str> {
        listed.items.iter().map(|item| item.key.as_str()).collect()
    }

    #[test]
    fn every_kept_revision_can_be_read() {
        let mut index =
            index(&[("/a", Some("1")), ("/b", Some("2")), ("/a", None), ("/c", Some("3")), ("/a", Some("4"))]);
        let at = |index: &Index, revision| {
            index.list("/", None, 0, Some(Revision(revision))).map(|listed| keys(&listed).join(" "))
        };
        assert_eq!(at(&index, 2).unwrap(), "/a");
        assert_eq!(at(&index, 3).unwrap(), "/a /b");
        assert_eq!(at(&index, 4).unwrap(), "/b");
        assert_eq!(at(&index, 6).unwrap(), "/a /b /c");
        index.compact(Revision(5)).unwrap();
        assert!(matches!(at(&index, 4), Err(StorageError::Compacted { oldest: Revision(5) })));
        assert_eq!(at(&index, 5).unwrap(), "/b /c");
        assert_eq!(at(&index, 6).unwrap(), "/a /b /c");
        assert!(matches!(at(&index, 7), Err(StorageError::Future { newest: Revision(6) })));
    }

    #[test]
    fn compaction_drops_what_nobody_can_read() {
        let mut index =
            index(&[("/a", Some("1")), ("/a", Some("2")), ("/b", Some("3")), ("/b", None), ("/c", Some("4"))]);
        index.compact(Revision(6)).unwrap();
        assert_eq!(index.keys.keys().map(|key| &**key).collect::<Vec<_>>(), ["/a", "/c"]);
        assert!(index.keys.values().all(|versions| versions.len() == 1));
        assert_eq!(index.log.len(), 1);
        index.compact(Revision(3)).unwrap();
        assert_eq!(index.oldest(), Revision(6));
    }

    #[test]
    fn a_deletion_at_the_compacted_revision_is_kept_for_the_log() {
        let mut index = index(&[("/a", Some("1")), ("/a", None), ("/b", Some("2"))]);
        assert_eq!(index.compact(Revision(3)).unwrap(), [Revision(2)]);
        assert_eq!(keys(&index.list("/", None, 0, Some(Revision(3))).unwrap()), [""; 0]);
        assert_eq!(index.compact(Revision(4)).unwrap(), [Revision(3)]);
        assert_eq!(index.keys.len(), 1);
    }

    #[test]
    fn the_feed_continues_where_it_stopped() {
        let index = index(&[("/a/1", Some("1")), ("/b/1", Some("2")), ("/a/1", None)]);
        let (feed, reached) = index.feed("/a/", EMPTY).unwrap().unwrap();
        assert!(matches!(feed, Feed::Changes(changes) if changes.len() == 2));
        assert_eq!(reached, Revision(4));
        let (feed, reached) = index.feed("/c/", EMPTY).unwrap().unwrap();
        assert!(matches!(feed, Feed::Progress(Revision(4))));
        assert_eq!(reached, Revision(4));
        assert!(index.feed("/", reached).unwrap().is_none());
    }
}
