//! The work queue of a controller: which keys to look at, each by one worker at a time.
//!
//! A key added while it is worked on is handed out again afterwards. First in, first out; delayed keys come out in the
//! order of their time, so the same run hands out the same keys in the same order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The first wait after a failure; each further failure of the key doubles it.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// The longest wait.
const LAST_RETRY: Duration = Duration::from_secs(1000);

/// A queue of keys; clones share it.
pub struct WorkQueue<Key> {
    shared: Arc<Shared<Key>>,
}

struct Shared<Key> {
    state: Mutex<State<Key>>,
    changed: Notify,
}

struct State<Key> {
    ready: VecDeque<Key>,
    /// Waiting to be handed out, in `ready` or because a worker still has them.
    dirty: BTreeSet<Key>,
    working: BTreeSet<Key>,
    delayed: BTreeMap<(Instant, u64), Key>,
    delayed_until: BTreeMap<Key, (Instant, u64)>,
    failures: BTreeMap<Key, u32>,
    sequence: u64,
    closed: bool,
}

impl<Key> Clone for WorkQueue<Key> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<Key: Ord + Clone> Default for WorkQueue<Key> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Key: Ord + Clone> WorkQueue<Key> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            working: BTreeSet::new(),
            delayed: BTreeMap::new(),
            delayed_until: BTreeMap::new(),
            failures: BTreeMap::new(),
            sequence: 0,
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// The key needs a look, now.
    pub fn add(&self, key: Key) {
        self.state().add(key);
        self.shared.changed.notify_one();
    }

    /// The key needs a look after a while; an earlier time that is already set stays.
    pub fn add_after(&self, key: Key, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.state();
        let at = Instant::now() + delay;
        match state.delayed_until.get(&key).copied() {
            Some((earlier, _)) if earlier <= at => return,
            Some(later) => {
                state.delayed.remove(&later);
            }
            None => {}
        }
        state.sequence += 1;
        let slot = (at, state.sequence);
        state.delayed_until.insert(key.clone(), slot);
        state.delayed.insert(slot, key);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The key needs another look because the last one failed: 5 ms, 10 ms, … 1000 s.
    pub fn add_rate_limited(&self, key: Key) {
        let delay = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(18)).min(LAST_RETRY);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(key, delay);
    }

    /// The key is fine: its next failure starts at the shortest wait again.
    pub fn forget(&self, key: &Key) {
        self.state().failures.remove(key);
    }

    /// How often the key has failed since it was last fine.
    pub fn failures(&self, key: &Key) -> u32 {
        self.state().failures.get(key).copied().unwrap_or_default()
    }

    /// The next key; none once the queue is closed. The caller says [`WorkQueue::done`] when it has looked.
    pub async fn get(&self) -> Option<Key> {
        loop {
            let next_delayed = {
                let mut state = self.state();
                if state.closed {
                    // One stored permit wakes one worker: pass it on.
                    self.shared.changed.notify_one();
                    return None;
                }
                state.release(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    let more = !state.ready.is_empty();
                    drop(state);
                    if more {
                        self.shared.changed.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.keys().next().map(|(at, _)| *at)
            };
            let changed = self.shared.changed.notified();
            match next_delayed {
                Some(at) => tokio::select! { biased; () = changed => {}, () = sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }

    /// The worker has looked at the key.
    pub fn done(&self, key: &Key) {
        let mut state = self.state();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// Hands out nothing more.
    pub fn close(&self) {
        self.state().closed = true;
        self.shared.changed.notify_one();
    }

    /// How many keys could be handed out now.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    /// Whether no key could be handed out now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State<Key>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Key: Ord + Clone> State<Key> {
    fn add(&mut self, key: Key) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn release(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.delayed_until.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_come_once_and_in_order() {
        let queue = WorkQueue::new();
        for key in ["b", "a", "b"] {
            queue.add(key);
        }
        assert_eq!(queue.get().await, Some("b"));
        queue.add("b");
        assert_eq!(queue.get().await, Some("a"));
        assert!(queue.is_empty(), "b is still being worked on");
        queue.done(&"b");
        assert_eq!(queue.get().await, Some("b"));
        queue.close();
        assert_eq!(queue.get().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_until_forgotten() {
        let queue = WorkQueue::new();
        let started = Instant::now();
        let mut waited = Vec::new();
        for round in 0..4 {
            if round == 3 {
                queue.forget(&"a");
            }
            let before = started.elapsed();
            queue.add_rate_limited("a");
            queue.get().await;
            queue.done(&"a");
            waited.push((started.elapsed() - before).as_millis());
        }
        assert_eq!(waited, [5, 10, 20, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_time_wins() {
        let queue = WorkQueue::new();
        let started = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("b", Duration::from_secs(4));
        assert_eq!((queue.get().await, started.elapsed().as_secs()), (Some("a"), 3));
        assert_eq!((queue.get().await, started.elapsed().as_secs()), (Some("b"), 4));
    }
}
