//! The local copy of one resource, kept by an informer: by key, by index, always in the order of keys.
//!
//! Invariants: a handler sees every change exactly once and in order, after the store shows it; the revision moves only
//! after the handlers have run, so whoever waited with [`Store::reached`] sees all its consequences.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{ObjectKey, Revision};

use crate::Progress;
use crate::informer::Object;

/// A second order of the objects of a store.
pub struct Index<K> {
    /// Its name, as given to [`Store::by_index`].
    pub name: &'static str,
    /// The values under which an object is found.
    pub values: fn(&K) -> Vec<String>,
}

impl<K> Index<K> {
    /// An index of this name.
    pub fn new(name: &'static str, values: fn(&K) -> Vec<String>) -> Self {
        Self { name, values }
    }
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Index<K> {}

/// What happened to one object.
#[derive(Debug)]
pub enum Change<K> {
    /// It was added (no old one) or modified.
    Upsert {
        /// As it was.
        old: Option<Arc<K>>,
        /// As it is.
        new: Arc<K>,
    },
    /// It is gone, or no longer selected.
    Delete {
        /// As it was last seen.
        old: Arc<K>,
    },
}

impl<K> Change<K> {
    /// The newest known state of the object.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Upsert { new, .. } => new,
            Self::Delete { old } => old,
        }
    }
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Upsert { old, new } => Self::Upsert { old: old.clone(), new: new.clone() },
            Self::Delete { old } => Self::Delete { old: old.clone() },
        }
    }
}

type Handler<K> = Box<dyn FnMut(Change<K>) + Send>;

struct Shared<K> {
    objects: Mutex<Objects<K>>,
    /// Also taken for the whole of a change, which is what keeps changes and registrations in one order.
    handlers: Mutex<Vec<Handler<K>>>,
    indexes: Vec<Index<K>>,
    progress: Progress,
}

type ByKey<K> = BTreeMap<ObjectKey, Arc<K>>;

struct Objects<K> {
    by_key: ByKey<K>,
    by_index: BTreeMap<&'static str, BTreeMap<String, ByKey<K>>>,
}

/// The local copy of one resource; clones share it.
pub struct Store<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K> fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("revision", &self.shared.progress.revision()).finish()
    }
}

impl<K: Object> Store<K> {
    /// An empty store; an informer fills it, tests may fill it with [`Store::replace`] and [`Store::upsert`].
    pub fn new(indexes: Vec<Index<K>>) -> Self {
        let by_index = indexes.iter().map(|index| (index.name, BTreeMap::new())).collect();
        let objects = Objects { by_key: BTreeMap::new(), by_index };
        let shared = Shared {
            objects: Mutex::new(objects),
            handlers: Mutex::new(Vec::new()),
            indexes,
            progress: Progress::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The object of this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects().by_key.get(key).cloned()
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects().by_key.values().cloned().collect()
    }

    /// The objects of one namespace, in the order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = ObjectKey::new(namespace, "");
        let objects = self.objects();
        let range = objects.by_key.range(from.clone()..);
        range.take_while(|(key, _)| key.namespace == from.namespace).map(|(_, object)| object.clone()).collect()
    }

    /// The objects under this value of an index, in the order of their keys. An unknown index holds nothing.
    pub fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        debug_assert!(self.shared.indexes.iter().any(|i| i.name == index), "no index {index}");
        let objects = self.objects();
        let found = objects.by_index.get(index).and_then(|values| values.get(value));
        found.map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects().by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest revision that the store shows.
    pub fn revision(&self) -> Revision {
        self.shared.progress.revision()
    }

    /// Waits until the store shows this revision of its resource.
    pub async fn reached(&self, revision: Revision) {
        self.shared.progress.reached(revision).await;
    }

    /// Whether the store has been filled once.
    pub fn is_synced(&self) -> bool {
        self.shared.progress.is_synced()
    }

    /// Waits until the store has been filled once.
    pub async fn synced(&self) {
        self.shared.progress.synced().await;
    }

    /// How far the store has come, for those who do not need its objects.
    pub fn progress(&self) -> Progress {
        self.shared.progress.clone()
    }

    /// Calls the handler for every object there is and then for every change, in order. It runs in the informer's task:
    /// it must not block, and must not register handlers of the same store.
    pub fn on_change(&self, mut handler: impl FnMut(Change<K>) + Send + 'static) {
        let mut handlers = self.handlers();
        for new in self.list() {
            handler(Change::Upsert { old: None, new });
        }
        handlers.push(Box::new(handler));
    }

    /// Shows the object as it is now.
    pub fn upsert(&self, object: K) {
        let revision = Revision::of(object.meta());
        self.change(&mut self.handlers(), object);
        self.shared.progress.changed(revision);
    }

    /// No longer shows the object.
    pub fn delete(&self, key: &ObjectKey, revision: Revision) {
        self.remove(&mut self.handlers(), key);
        self.shared.progress.changed(revision);
    }

    /// Nothing else has happened up to this revision.
    pub fn advance(&self, revision: Revision) {
        self.shared.progress.advance(revision);
    }

    /// Shows exactly these objects; differences are reported, a missed deletion too.
    pub fn replace(&self, objects: Vec<K>, revision: Revision) {
        self.fill(objects, revision, 0);
    }

    pub(crate) fn fill(&self, objects: Vec<K>, revision: Revision, answered: u64) {
        let mut handlers = self.handlers();
        let kept: std::collections::BTreeSet<_> = objects.iter().map(|o| ObjectKey::of(o.meta())).collect();
        let gone: Vec<_> = self.objects().by_key.keys().filter(|key| !kept.contains(key)).cloned().collect();
        for key in gone {
            self.remove(&mut handlers, &key);
        }
        for object in objects {
            self.change(&mut handlers, object);
        }
        drop(handlers);
        self.shared.progress.filled(revision, answered);
    }

    fn change(&self, handlers: &mut [Handler<K>], mut object: K) {
        // Who manages which field is of no use here and is half of the memory; the API keeps it on updates without it.
        object.meta_mut().managed_fields = None;
        let key = ObjectKey::of(object.meta());
        let new = Arc::new(object);
        let old = {
            let mut objects = self.objects();
            let same = |old: &Arc<K>| {
                let (old, new) = (old.meta(), new.meta());
                old.uid == new.uid && old.resource_version.is_some() && old.resource_version == new.resource_version
            };
            if objects.by_key.get(&key).is_some_and(same) {
                return;
            }
            let old = objects.by_key.insert(key.clone(), new.clone());
            objects.reindex(&self.shared.indexes, &key, old.as_ref(), Some(&new));
            old
        };
        // The old one was deleted and this is another object of the same name: two changes, not one.
        match old {
            Some(old) if old.meta().uid != new.meta().uid => {
                notify(handlers, Change::Delete { old });
                notify(handlers, Change::Upsert { old: None, new });
            }
            old => notify(handlers, Change::Upsert { old, new }),
        }
    }

    fn remove(&self, handlers: &mut [Handler<K>], key: &ObjectKey) {
        let old = {
            let mut objects = self.objects();
            let Some(old) = objects.by_key.remove(key) else { return };
            objects.reindex(&self.shared.indexes, key, Some(&old), None);
            old
        };
        notify(handlers, Change::Delete { old });
    }

    fn objects(&self) -> MutexGuard<'_, Objects<K>> {
        self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<Handler<K>>> {
        self.shared.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Objects<K> {
    fn reindex(&mut self, indexes: &[Index<K>], key: &ObjectKey, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        for index in indexes {
            let Some(values) = self.by_index.get_mut(index.name) else { continue };
            for value in old.map(|object| (index.values)(object)).unwrap_or_default() {
                if let Some(entries) = values.get_mut(&value) {
                    entries.remove(key);
                    if entries.is_empty() {
                        values.remove(&value);
                    }
                }
            }
            if let Some(object) = new {
                for value in (index.values)(object) {
                    values.entry(value).or_default().insert(key.clone(), object.clone());
                }
            }
        }
    }
}

fn notify<K>(handlers: &mut [Handler<K>], change: Change<K>) {
    for handler in handlers {
        handler(change.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, uid: &str, revision: u64, node: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": revision.to_string()},
            "spec": {"nodeName": node, "containers": []},
        }))
        .expect("a pod")
    }

    fn store() -> (Store<Pod>, Arc<Mutex<Vec<String>>>) {
        let by_node =
            Index::new("node", |pod: &Pod| api::pods::node_name(pod).map(str::to_owned).into_iter().collect());
        let store = Store::new(vec![by_node]);
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        store.on_change(move |change: Change<Pod>| {
            let what = match &change {
                Change::Upsert { old: None, .. } => "add",
                Change::Upsert { old: Some(_), .. } => "modify",
                Change::Delete { .. } => "delete",
            };
            let name = change.object().metadata.name.clone().unwrap_or_default();
            seen.lock().expect("not poisoned").push(format!("{what} {name}"));
        });
        (store, log)
    }

    #[tokio::test]
    async fn a_relist_reports_only_differences() {
        let (store, log) = store();
        assert!(!store.is_synced());
        store.replace(vec![pod("b", "1", 2, "n1"), pod("a", "2", 3, "n2")], Revision(3));
        store.upsert(pod("a", "2", 4, "n1"));
        store.replace(vec![pod("a", "2", 4, "n1"), pod("c", "3", 5, "n1")], Revision(6));
        store.upsert(pod("c", "4", 7, "n2"));
        let seen = log.lock().expect("not poisoned").clone();
        assert_eq!(seen, ["add b", "add a", "modify a", "delete b", "add c", "delete c", "add c"]);
        store.reached(Revision(7)).await;
        assert_eq!(store.revision(), Revision(7));
    }

    #[test]
    fn indexes_follow_changes() {
        let (store, _) = store();
        let names = |value: &str| {
            let found = store.by_index("node", value);
            found.iter().filter_map(|p| p.metadata.name.clone()).collect::<Vec<_>>()
        };
        store.upsert(pod("b", "1", 1, "n1"));
        store.upsert(pod("a", "2", 2, "n1"));
        assert_eq!(names("n1"), ["a", "b"]);
        store.upsert(pod("b", "1", 3, "n2"));
        assert_eq!((names("n1"), names("n2")), (vec!["a".to_owned()], vec!["b".to_owned()]));
        store.delete(&ObjectKey::new("ns", "a"), Revision(4));
        assert!(names("n1").is_empty());
        assert_eq!(store.in_namespace("ns").len(), 1);
        assert!(store.in_namespace("other").is_empty());
    }

    #[test]
    fn a_late_handler_sees_what_there_is() {
        let (store, _) = store();
        store.upsert(pod("a", "1", 1, "n1"));
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        store.on_change(move |_| *counted.lock().expect("not poisoned") += 1);
        store.upsert(pod("b", "2", 2, "n1"));
        assert_eq!(*count.lock().expect("not poisoned"), 2);
    }
}
