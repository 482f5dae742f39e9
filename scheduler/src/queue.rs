//! Pods that wait: for their turn, for their back-off to end, or for a change that helps.
//!
//! Pure but for its own memory: time is an argument. Invariant: a pod waits in exactly one place; the order is priority,
//! then age in the queue, so the same changes give the same order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::node_info::PodInfo;

/// The wait after a first failure; it doubles with every further one up to the last.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

/// A pod that is being scheduled, with its history.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The pod.
    pub pod: PodInfo,
    /// How often scheduling it has begun.
    pub attempts: u32,
    sequence: u64,
}

/// What the queue has to offer.
#[derive(Debug)]
pub enum Next {
    /// Schedule this pod.
    Pod(Box<Attempt>),
    /// Nothing before this time.
    At(Instant),
    /// Nothing before something changes.
    Nothing,
}

#[derive(Debug)]
enum Place {
    Active,
    Backoff(Instant),
    /// Rejected by these plugins; may be tried again at the time.
    Parked {
        plugins: BTreeSet<&'static str>,
        not_before: Instant,
    },
    /// Not to be scheduled before its scheduling gates are removed.
    Gated,
}

#[derive(Debug)]
struct Entry {
    attempt: Attempt,
    place: Place,
}

type ActiveSlot = (Reverse<i32>, u64, ObjectKey);
type BackoffSlot = (Instant, u64, ObjectKey);

/// All waiting pods.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<ObjectKey, Entry>,
    active: BTreeSet<ActiveSlot>,
    backoff: BTreeSet<BackoffSlot>,
    parked: BTreeSet<ObjectKey>,
    sequence: u64,
}

impl Queue {
    /// A pod without a node has come or changed.
    pub fn put(&mut self, pod: Arc<Pod>) {
        let pod = PodInfo::new(pod);
        let key = pod.key.clone();
        let Some(old) = self.take(&key) else {
            self.sequence += 1;
            let place = if is_gated(&pod.pod) { Place::Gated } else { Place::Active };
            let attempt = Attempt { pod, attempts: 0, sequence: self.sequence };
            return self.insert(attempt, place);
        };
        let matters = !same_for_scheduling(&old.attempt.pod.pod, &pod.pod);
        let place = match old.place {
            _ if is_gated(&pod.pod) => Place::Gated,
            Place::Gated | Place::Active => Place::Active,
            Place::Backoff(until) => Place::Backoff(until),
            Place::Parked { not_before, .. } if matters => Place::Backoff(not_before),
            Place::Parked { plugins, not_before } => Place::Parked { plugins, not_before },
        };
        self.insert(Attempt { pod, ..old.attempt }, place);
    }

    /// A pod no longer waits.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.take(key);
    }

    /// The next pod, or when there may be one.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some((until, sequence, key)) = self.backoff.first().cloned() {
            if until > now {
                break;
            }
            self.backoff.remove(&(until, sequence, key.clone()));
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.place = Place::Active;
                self.active.insert(active_slot(&entry.attempt));
            }
        }
        if let Some((_, _, key)) = self.active.pop_first()
            && let Some(mut entry) = self.entries.remove(&key)
        {
            entry.attempt.attempts += 1;
            return Next::Pod(Box::new(entry.attempt));
        }
        self.backoff.first().map_or(Next::Nothing, |(until, _, _)| Next::At(*until))
    }

    /// The pod fits nowhere: it waits until a change helps, and for its back-off at least.
    pub fn park(&mut self, attempt: Attempt, plugins: BTreeSet<&'static str>, now: Instant) {
        let not_before = now + backoff(attempt.attempts);
        self.insert(attempt, Place::Parked { plugins, not_before });
    }

    /// Carrying out the placement failed: the pod, as it is now, is tried again after its back-off.
    pub fn retry(&mut self, attempt: Attempt, pod: Arc<Pod>, now: Instant) {
        let until = now + backoff(attempt.attempts);
        self.insert(Attempt { pod: PodInfo::new(pod), ..attempt }, Place::Backoff(until));
    }

    /// Something has changed: wakes the parked pods that it helps. Answers how many.
    pub fn wake(&mut self, now: Instant, helps: impl Fn(&PodInfo, &BTreeSet<&'static str>) -> bool) -> usize {
        let mut helped = Vec::new();
        for key in &self.parked {
            if let Some(Entry { attempt, place: Place::Parked { plugins, not_before } }) = self.entries.get(key)
                && helps(&attempt.pod, plugins)
            {
                helped.push((key.clone(), *not_before));
            }
        }
        for (key, not_before) in &helped {
            if let Some(entry) = self.take(key) {
                let place = if *not_before <= now { Place::Active } else { Place::Backoff(*not_before) };
                self.insert(entry.attempt, place);
            }
        }
        helped.len()
    }

    /// How many pods wait: for their turn, in back-off, for a change or a gate.
    pub fn counts(&self) -> (usize, usize, usize) {
        let (active, backoff) = (self.active.len(), self.backoff.len());
        (active, backoff, self.entries.len() - active - backoff)
    }

    fn insert(&mut self, attempt: Attempt, place: Place) {
        let key = attempt.pod.key.clone();
        self.take(&key);
        match &place {
            Place::Active => {
                self.active.insert(active_slot(&attempt));
            }
            Place::Backoff(until) => {
                self.backoff.insert((*until, attempt.sequence, key.clone()));
            }
            Place::Parked { .. } => {
                self.parked.insert(key.clone());
            }
            Place::Gated => {}
        }
        self.entries.insert(key, Entry { attempt, place });
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        match &entry.place {
            Place::Active => {
                self.active.remove(&active_slot(&entry.attempt));
            }
            Place::Backoff(until) => {
                self.backoff.remove(&(*until, entry.attempt.sequence, key.clone()));
            }
            Place::Parked { .. } => {
                self.parked.remove(key);
            }
            Place::Gated => {}
        }
        Some(entry)
    }
}

fn active_slot(attempt: &Attempt) -> ActiveSlot {
    (Reverse(attempt.pod.priority), attempt.sequence, attempt.pod.key.clone())
}

fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(8)).min(LAST_BACKOFF)
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Status and bookkeeping do not matter: they change because of failed attempts.
fn same_for_scheduling(old: &Pod, new: &Pod) -> bool {
    old.spec == new.spec && old.metadata.labels == new.metadata.labels && old.metadata.uid == new.metadata.uid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;
    use serde_json::json;

    fn name(next: Next) -> String {
        match next {
            Next::Pod(attempt) => attempt.pod.key.name,
            Next::At(_) => "later".to_owned(),
            Next::Nothing => "nothing".to_owned(),
        }
    }

    fn attempt(queue: &mut Queue, now: Instant) -> Attempt {
        match queue.next(now) {
            Next::Pod(attempt) => *attempt,
            other => panic!("a pod is ready, not {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_important_go_first_then_the_old() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("b").build());
        queue.put(pod("a").build());
        queue.put(pod("high").priority(10).build());
        queue.put(pod("gated").spec("schedulingGates", json!([{"name": "g"}])).build());
        let order: Vec<_> = (0..4).map(|_| name(queue.next(now))).collect();
        assert_eq!(order, ["high", "b", "a", "nothing"]);
        queue.put(pod("gated").build());
        assert_eq!(name(queue.next(now)), "gated");
    }

    #[tokio::test(start_paused = true)]
    async fn parked_pods_wake_for_what_helps_and_after_their_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("a").build());
        let first = attempt(&mut queue, now);
        queue.park(first, BTreeSet::from(["Fit"]), now);
        assert_eq!(queue.wake(now, |_, plugins| plugins.contains("Other")), 0);
        queue.put(pod("a").build());
        assert_eq!(name(queue.next(now)), "nothing", "a change of status wakes nobody");
        assert_eq!(queue.wake(now, |_, plugins| plugins.contains("Fit")), 1);
        let Next::At(at) = queue.next(now) else { panic!("still in back-off") };
        assert_eq!(at - now, Duration::from_secs(1));
        let second = attempt(&mut queue, at);
        assert_eq!(second.attempts, 2);
        queue.park(second, BTreeSet::from(["Fit"]), at);
        let later = at + Duration::from_secs(60);
        queue.wake(later, |_, _| true);
        assert_eq!(name(queue.next(later)), "a");
    }

    #[test]
    fn backoff_doubles_to_ten_seconds() {
        let seconds: Vec<_> = (1..=6).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
    }
}
