//! Objects that were just written anew, as they were written: the next write of one need not read it from its text.
//!
//! A pod that was bound has its status written twice within moments. Invariant: what is kept under a key and a
//! revision equals what is read from the text stored there ([`crate::resources::wire::Encoded::exact`]); how much is kept is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::names::Revision;

use crate::object::Object;

/// As many objects are kept …
const MOST: usize = 128;
/// … whose text is no longer than this.
const LONGEST: usize = 32 * 1024;

/// The last objects that were written anew.
#[derive(Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, (Revision, Arc<dyn Object>)>,
    /// The keys, oldest first.
    order: VecDeque<String>,
}

impl Recent {
    /// Remembers an object, with its resourceVersion, whose text has so many bytes.
    pub fn note(&self, key: &str, revision: Revision, object: &Arc<dyn Object>, length: usize) {
        let mut kept = self.lock();
        if length > LONGEST {
            kept.objects.remove(key);
            return;
        }
        let entry = (revision, object.clone());
        match kept.objects.get_mut(key) {
            // A write that was answered earlier may be noted later.
            Some(newer) if newer.0 > revision => {}
            Some(older) => *older = entry,
            None => {
                kept.objects.insert(key.to_owned(), entry);
                kept.order.push_back(key.to_owned());
                kept.shrink();
            }
        }
    }

    /// The object as of a revision, if it is known.
    pub fn get(&self, key: &str, revision: Revision) -> Option<Arc<dyn Object>> {
        let kept = self.lock();
        kept.objects.get(key).filter(|(at, _)| *at == revision).map(|(_, object)| object.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn shrink(&mut self) {
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.objects.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn the_last_state_of_the_last_objects_is_kept() {
        let recent = Recent::default();
        let object: Arc<dyn Object> = Arc::new(ConfigMap::default());
        let note = |key: &str, revision, length| recent.note(key, Revision(revision), &object, length);
        let knows = |key: &str, revision| recent.get(key, Revision(revision)).is_some();
        note("a", 2, 10);
        note("a", 1, 10);
        assert!(knows("a", 2) && !knows("a", 1) && !knows("b", 2));
        note("a", 3, 10);
        assert!(knows("a", 3) && !knows("a", 2));
        note("a", 4, LONGEST + 1);
        assert!(!knows("a", 3) && !knows("a", 4));
        for index in 0..=MOST as u64 {
            note(&format!("other-{index}"), 10 + index, 10);
        }
        assert!(!knows("other-0", 10) && knows(&format!("other-{MOST}"), 10 + MOST as u64));
    }
}
