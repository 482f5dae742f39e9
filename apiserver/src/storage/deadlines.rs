//! When keys expire. Pure bookkeeping: the caller says what time it is, so it serves virtual and wall-clock time alike.
//!
//! Invariant: a key has at most one deadline, and both maps always hold the same pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Deadlines of keys, ordered by time, then key.
#[derive(Debug)]
pub(super) struct Deadlines<T> {
    by_time: BTreeSet<(T, Arc<str>)>,
    by_key: BTreeMap<Arc<str>, T>,
}

impl<T: Ord + Copy> Deadlines<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Replaces the key's deadline; none means that it does not expire any more.
    pub(super) fn set(&mut self, key: &str, deadline: Option<T>) {
        let Some((key, old)) = self
            .by_key
            .remove_entry(key)
            .map(|(key, old)| (key, Some(old)))
            .or_else(|| deadline.map(|_| (key.into(), None)))
        else {
            return;
        };
        if let Some(old) = old {
            self.by_time.remove(&(old, Arc::clone(&key)));
        }
        if let Some(deadline) = deadline {
            self.by_time.insert((deadline, Arc::clone(&key)));
            self.by_key.insert(key, deadline);
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<T> {
        self.by_time.first().map(|(time, _)| *time)
    }

    /// Takes out the earliest key whose deadline has come.
    pub(super) fn pop_due(&mut self, now: T) -> Option<Arc<str>> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::Deadlines;

    #[test]
    fn a_key_has_one_deadline() {
        let mut deadlines = Deadlines::new();
        deadlines.set("a", Some(5));
        deadlines.set("b", Some(3));
        deadlines.set("a", Some(1));
        deadlines.set("c", Some(2));
        deadlines.set("c", None);
        deadlines.set("d", None);
        assert_eq!(deadlines.next(), Some(1));
        assert_eq!(deadlines.pop_due(4).as_deref(), Some("a"));
        assert_eq!(deadlines.pop_due(2), None);
        assert_eq!(deadlines.pop_due(4).as_deref(), Some("b"));
        assert_eq!(deadlines.next(), None);
    }
}
