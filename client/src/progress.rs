//! How far a store has come: what read-your-writes waits for.

use std::sync::Arc;

use api::Revision;
use tokio::sync::watch;

/// How far a store has come, without its objects and their type.
#[derive(Clone, Debug)]
pub struct Progress {
    state: Arc<watch::Sender<State>>,
    asked: Arc<watch::Sender<u64>>,
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
        Self { state: Arc::new(watch::channel(State::default()).0), asked: Arc::new(watch::channel(0).0) }
    }

    /// The newest revision that the store shows.
    pub fn revision(&self) -> Revision {
        self.state.borrow().revision
    }

    /// Whether the store has been filled once.
    pub fn is_synced(&self) -> bool {
        self.state.borrow().synced
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

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(condition).await.map(|_| ());
    }

    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    pub(crate) fn advance(&self, revision: Revision) {
        self.state.send_if_modified(|state| {
            let newer = revision > state.revision;
            state.revision = state.revision.max(revision);
            newer
        });
    }

    pub(crate) fn changed(&self, revision: Revision) {
        self.state.send_modify(|state| state.revision = state.revision.max(revision));
    }

    pub(crate) fn filled(&self, revision: Revision, answered: u64) {
        // Not the larger of the two: a store restored from a backup goes back, and a watch must follow it.
        self.state.send_modify(|state| *state = State { revision, synced: true, answered });
    }
}
