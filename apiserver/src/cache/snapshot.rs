//! A resource as it was at one revision: immutable, shared, in key order. Lists are read from it without any lock.

use std::sync::Arc;

use api::names::Revision;
use imbl::{OrdMap, OrdSet};

use super::entry::Entry;
use super::ring::Ring;
use super::selection::{Group, INDEXED, Selection};

/// See the module's documentation. A clone costs nothing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The revision that it shows.
    pub revision: Revision,
    prefix: Arc<str>,
    objects: OrdMap<Arc<str>, Arc<Entry>>,
    /// (value of the indexed field, key); none where it does not fit the objects.
    index: Option<OrdSet<(Arc<str>, Arc<str>)>>,
}

impl Snapshot {
    /// Nothing at this revision.
    pub(super) fn empty(prefix: &str, revision: Revision) -> Self {
        Self { revision, prefix: prefix.into(), objects: OrdMap::new(), index: Some(OrdSet::new()) }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// One object by its full key.
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.objects.get(key)
    }

    /// The selected objects in key order, behind a key if one is given.
    pub fn select<'a>(
        &'a self,
        selection: &'a Selection,
        after: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + Send + 'a> {
        let behind = move |entry: &&'a Arc<Entry>| after.is_none_or(|after| &*entry.key > after);
        let matching = move |entry: &&'a Arc<Entry>| selection.matches(entry);
        match (selection.group(), &self.index) {
            (Group::Named(name), _) if let Some(entry) = self.named(selection.namespace(), &name) => {
                Box::new(std::iter::once(entry).filter(behind).filter(matching))
            }
            (Group::Indexed(value), Some(index)) if !value.is_empty() => {
                let (value, none): (Arc<str>, Arc<str>) = (value.into(), "".into());
                let keys = index.range((Arc::clone(&value), none)..).take_while(move |(found, _)| *found == value);
                Box::new(keys.filter_map(|(_, key)| self.objects.get(key)).filter(behind).filter(matching))
            }
            // These begin behind the key or at it, and are all in the namespace: nothing is left to be asked of most of them.
            _ => {
                let within = selection
                    .namespace()
                    .map_or_else(|| self.prefix.to_string(), |namespace| format!("{}{namespace}/", self.prefix));
                let all = !selection.has_selectors();
                Box::new(
                    self.within(&within, after)
                        .skip_while(move |entry| after == Some(&*entry.key))
                        .filter(move |entry| all || selection.matches(entry)),
                )
            }
        }
    }

    /// The only object that can have this name: in its namespace, or of a cluster-scoped kind.
    fn named(&self, namespace: Option<&str>, name: &str) -> Option<&Arc<Entry>> {
        let key = match namespace {
            Some(namespace) => format!("{}{namespace}/{name}", self.prefix),
            None => format!("{}{name}", self.prefix),
        };
        self.objects.get(key.as_str())
    }

    /// The objects in a folder of keys, from this key on; the keys themselves are not looked at.
    fn within<'a>(
        &'a self,
        folder: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> + Send + use<'a> {
        let start: Arc<str> = after.filter(|after| *after > folder).unwrap_or(folder).into();
        // "0" is the character behind "/".
        let end: Arc<str> = format!("{}0", folder.trim_end_matches('/')).into();
        let range = (*start < *end).then(|| self.objects.range(start..end));
        range.into_iter().flatten().map(|(_, entry)| entry)
    }

    /// Puts an object in its place; answers what was there.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let previous = self.objects.insert(Arc::clone(&entry.key), Arc::clone(&entry));
        self.reindex(previous.as_deref(), Some(&entry));
        previous
    }

    /// Takes an object out.
    pub(super) fn remove(&mut self, key: &str) -> Option<Arc<Entry>> {
        let previous = self.objects.remove(key);
        self.reindex(previous.as_deref(), None);
        previous
    }

    /// The resource at an earlier revision, which the ring must reach back to.
    pub(super) fn rolled_back(&self, ring: &Ring, revision: Revision) -> Self {
        let mut earlier = Self { revision, index: None, ..self.clone() };
        for change in ring.after(revision).rev() {
            match (&change.previous, change.key()) {
                (Some(previous), _) => drop(earlier.objects.insert(Arc::clone(&previous.key), Arc::clone(previous))),
                (None, Some(key)) => drop(earlier.objects.remove(key)),
                (None, None) => {}
            }
        }
        earlier
    }

    fn reindex(&mut self, previous: Option<&Entry>, current: Option<&Entry>) {
        let Some(index) = &mut self.index else { return };
        let value = |entry: Option<&Entry>| {
            entry.and_then(|entry| entry.field(INDEXED)).filter(|value| !value.is_empty()).map(Arc::<str>::from)
        };
        let (old, new) = (value(previous), value(current));
        if old == new {
            return;
        }
        if let (Some(old), Some(entry)) = (old, previous) {
            index.remove(&(old, Arc::clone(&entry.key)));
        }
        if let (Some(new), Some(entry)) = (new, current) {
            index.insert((new, Arc::clone(&entry.key)));
        }
    }
}
