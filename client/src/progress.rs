//! How far a store has come: what read-your-writes waits for.
//!
//! Invariant: those who wait wake in the order in which they began to (a watch channel with several receivers wakes them in
//! a random order, and a run with one seed must be one history).

use std::sync::{Arc, Mutex, PoisonError};

use api::Revision;
use tokio::sync::{Notify, watch};

/// How far a store has come, without its objects and their type.
#[derive(Clone, Debug)]
pub struct Progress {
    state: Arc<Waited>,
    asked: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Waited {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    revision: Revision,
    synced: bool,
    /// The newest request to list anew that has been fulfilled.
    answered: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), asked: Arc::new(watch::channel(0).0) }
    }

    /// The newest revision that the store shows.
    pub fn revision(&self) -> Revision {
        self.state().revision
    }

    /// Whether the store has been filled once.
    pub fn is_synced(&self) -> bool {
        self.state().synced
    }

    /// Waits until the store has been filled once.
    pub async fn synced(&self) {
        self.until(|state| state.synced).await;
    }

    /// Waits until the store shows this revision of its resource.
    pub async fn reached(&self, revision: Revision) {
        self.until(|state| state.synced && state.revision >= revision).await;
    }

    /// Lists the resource anew and waits until the store shows the result. For writes whose outcome is unknown.
    pub async fn relisted(&self) {
        let mut number = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        self.until(|state| state.answered >= number).await;
    }

    /// Waits until the store shows something; asks again after every change.
    pub async fn shows(&self, condition: impl Fn() -> bool) {
        self.until(|_| condition()).await;
    }

    async fn until(&self, mut condition: impl FnMut(&State) -> bool) {
        loop {
            let changed = self.state.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed, not even one during the check.
            changed.as_mut().enable();
            if condition(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> State {
        *self.state.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn modify(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.state.changed.notify_waiters();
    }

    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    pub(crate) fn advance(&self, revision: Revision) {
        if revision > self.revision() {
            self.changed(revision);
        }
    }

    pub(crate) fn changed(&self, revision: Revision) {
        self.modify(|state| state.revision = state.revision.max(revision));
    }

    pub(crate) fn filled(&self, revision: Revision, answered: u64) {
        // Not the larger of the two: a store restored from a backup goes back, and a watch must follow it.
        self.modify(|state| *state = State { revision, synced: true, answered });
    }
}
