//! The recent changes of one resource, oldest first, within a bound of number and of bytes.
//!
//! Invariant: every change after `oldest` is here.

use std::collections::VecDeque;
use std::sync::Arc;

use api::names::Revision;

use super::event::Recorded;

/// At most this many changes are kept …
const MOST_CHANGES: usize = 4096;
/// … and about this many bytes, but always …
const MOST_BYTES: usize = 4 << 20;
/// … this many changes, however large.
const FEWEST_CHANGES: usize = 16;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ring {
    changes: VecDeque<Arc<Recorded>>,
    bytes: usize,
    oldest: Revision,
}

impl Ring {
    /// An empty ring: changes after `oldest` will be pushed.
    pub(super) fn new(oldest: Revision) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, oldest }
    }

    /// Changes after this revision are known.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// Adds the newest change; may forget the oldest.
    pub(super) fn push(&mut self, change: Arc<Recorded>) {
        self.bytes += change.size();
        self.changes.push_back(change);
        while self.changes.len() > MOST_CHANGES || (self.bytes > MOST_BYTES && self.changes.len() > FEWEST_CHANGES) {
            let Some(forgotten) = self.changes.pop_front() else { break };
            self.bytes -= forgotten.size();
            self.oldest = forgotten.revision;
        }
    }

    /// The changes after a revision, oldest first; empty as well when some of them are forgotten (compare [`Self::oldest`]).
    pub(super) fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = &Arc<Recorded>> {
        let start = self.changes.partition_point(|change| change.revision <= revision);
        self.changes.range(start..)
    }
}
