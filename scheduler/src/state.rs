//! What the scheduler knows and decides next: the cache, the queue, and how changes of the cluster reach them.
//!
//! Pure but for its own memory: no I/O, time and chance are arguments. The informers' handlers and the loop share it
//! behind one lock that is never held across an await.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{ObjectKey, pods};
use client::Change;
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use crate::bind::scheduler_name;
use crate::cache::Cache;
use crate::cycle::{self, Decision, Diagnosis};
use crate::node_info::PodInfo;
use crate::plugins::{self, ClusterChange, Cure, Cycle, PLUGINS};
use crate::preemption::{Preemption, preempt};
use crate::queue::{Attempt, Next, Queue};
use crate::snapshot::Snapshot;

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Bind the pod to the node; it is counted there already.
    Bind(Box<Attempt>, String),
    /// Say why the pod waits.
    Report(Box<PodInfo>, String),
    /// Make room on the node.
    Displace {
        /// For this pod.
        pod: Box<PodInfo>,
        /// What to say meanwhile.
        message: String,
        /// The node.
        node: String,
        /// Who has to go.
        victims: Vec<Arc<PodInfo>>,
    },
    /// Wait until this time, or for a change.
    Wait(Option<Instant>),
}

/// The scheduler's mind.
#[derive(Debug)]
pub struct State {
    cache: Cache,
    queue: Queue,
    /// Pods that name another scheduler are not ours.
    name: String,
    next_start: usize,
}

impl State {
    /// Knows nothing yet.
    pub fn new(name: &str) -> Self {
        Self { cache: Cache::default(), queue: Queue::default(), name: name.to_owned(), next_start: 0 }
    }

    /// Decides about the next pod. `tie` chooses among equally good nodes.
    pub fn step(&mut self, now: Instant, tie: u64) -> Step {
        let attempt = match self.queue.next(now) {
            Next::Pod(attempt) => attempt,
            Next::At(time) => return Step::Wait(Some(time)),
            Next::Nothing => return Step::Wait(None),
        };
        match cycle::schedule(PLUGINS, self.cache.snapshot(), &attempt.pod, self.next_start, tie) {
            Decision::Place { node, looked_at } => {
                let nodes = self.cache.snapshot().nodes().len().max(1);
                self.next_start = (self.next_start + looked_at) % nodes;
                self.cache.assume(attempt.pod.clone(), &node);
                Step::Bind(attempt, node)
            }
            Decision::Unschedulable(diagnosis) => self.reject(*attempt, &diagnosis, now),
        }
    }

    fn reject(&mut self, attempt: Attempt, diagnosis: &Diagnosis, now: Instant) -> Step {
        let pod = Box::new(attempt.pod.clone());
        let preemption = preempt(PLUGINS, self.cache.snapshot(), &pod, diagnosis);
        self.queue.park(attempt, diagnosis.plugins(), now);
        match preemption {
            Preemption::Victims { node, victims } => {
                self.cache.snapshot_mut().nominate(&node, Arc::new((*pod).clone()));
                Step::Displace { pod, message: diagnosis.message(""), node, victims }
            }
            Preemption::Nothing(why) => Step::Report(pod, diagnosis.message(&why)),
        }
    }

    /// The placement was not carried out; `pod` is the pod as the API shows it now.
    pub fn not_bound(&mut self, attempt: Attempt, pod: Option<Arc<Pod>>, now: Instant) {
        let Some(node) = self.cache.forget(&attempt.pod.key, &attempt.pod.uid) else { return };
        if let Some(pod) = pod.filter(|pod| pod.metadata.uid == attempt.pod.pod.metadata.uid && self.is_ours(pod)) {
            self.queue.retry(attempt, pod, now);
        }
        self.wake(ClusterChange::PodLeft, &node, now);
    }

    /// A pod has changed.
    pub fn pod_changed(&mut self, change: &Change<Pod>, now: Instant) {
        let key = ObjectKey::of(&change.object().metadata);
        match change {
            Change::Upsert { old, new } => match pods::node_name(new).filter(|_| !pods::is_terminal(new)) {
                Some(node) => self.pod_is_on(&key, old.as_deref(), new, node, now),
                None if pods::is_terminal(new) => self.pod_left(&key, now),
                None if self.is_ours(new) => self.pod_waits(&key, new),
                None => self.forget_waiting(&key),
            },
            Change::Delete { .. } => self.pod_left(&key, now),
        }
    }

    fn pod_is_on(&mut self, key: &ObjectKey, old: Option<&Pod>, new: &Arc<Pod>, node: &str, now: Instant) {
        self.queue.remove(key);
        // Also when it was only assumed there: others may wait for its company, which is certain only now.
        let assumed = self.cache.is_assumed(key, new.metadata.uid.as_deref().unwrap_or_default());
        let arrived = assumed || self.cache.node_of(key) != Some(node);
        let before = self.cache.snapshot().node(node).map(|n| n.requested.clone());
        self.cache.set_pod(PodInfo::new(new.clone()), node);
        let after = self.cache.snapshot().node(node).map(|n| n.requested.clone());
        if !arrived && before != after {
            self.wake(ClusterChange::PodLeft, node, now);
        }
        let labels = |pod: &Pod| pod.metadata.labels.clone();
        if arrived || old.is_some_and(|old| labels(old) != labels(new)) {
            self.wake(ClusterChange::PodArrived, node, now);
        }
    }

    fn pod_waits(&mut self, key: &ObjectKey, pod: &Arc<Pod>) {
        // Its binding is under way: this is an echo of the time before.
        if self.cache.is_assumed(key, pod.metadata.uid.as_deref().unwrap_or_default()) {
            return;
        }
        let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
        if let Some(node) = nominated.filter(|node| !node.is_empty()) {
            self.cache.snapshot_mut().nominate(node, Arc::new(PodInfo::new(pod.clone())));
        }
        self.queue.put(pod.clone());
    }

    fn pod_left(&mut self, key: &ObjectKey, now: Instant) {
        self.forget_waiting(key);
        if let Some(node) = self.cache.remove_pod(key) {
            self.wake(ClusterChange::PodLeft, &node, now);
        }
    }

    fn forget_waiting(&mut self, key: &ObjectKey) {
        self.queue.remove(key);
        self.cache.snapshot_mut().withdraw(key);
    }

    /// A node has changed.
    pub fn node_changed(&mut self, change: &Change<Node>, now: Instant) {
        match change {
            Change::Upsert { new, .. } => {
                let name = new.metadata.name.clone().unwrap_or_default();
                match self.cache.set_node(new.clone()) {
                    None => self.wake(ClusterChange::NodeAdded, &name, now),
                    Some(delta) if delta.is_empty() => {}
                    Some(delta) => self.wake(ClusterChange::NodeUpdated(delta), &name, now),
                }
            }
            Change::Delete { old } => self.cache.remove_node(old.metadata.name.as_deref().unwrap_or_default()),
        }
    }

    /// How many pods wait: for their turn, in back-off, for a change.
    pub fn waiting(&self) -> (usize, usize, usize) {
        self.queue.counts()
    }

    fn wake(&mut self, change: ClusterChange, node: &str, now: Instant) {
        let snapshot = self.cache.snapshot();
        self.queue.wake(now, |pod, rejected_by| helps(snapshot, &change, node, pod, rejected_by));
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        pods::node_name(pod).is_none() && pods::is_active(pod) && scheduler_name(pod) == self.name
    }
}

/// Whether a change on a node can let the pod go somewhere.
fn helps(
    snapshot: &Snapshot,
    change: &ClusterChange,
    node: &str,
    pod: &PodInfo,
    rejected_by: &BTreeSet<&'static str>,
) -> bool {
    let cures = rejected_by.iter().filter_map(|name| plugins::named(name)).map(|plugin| plugin.cured_by(change));
    match cures.max() {
        // Rejected by nobody: there was no node at all.
        None => *change == ClusterChange::NodeAdded,
        Some(Cure::Nowhere) => false,
        Some(Cure::Anywhere) => true,
        Some(Cure::ThatNode) => {
            snapshot.node(node).is_some_and(|info| match cycle::check(PLUGINS, &Cycle::new(pod, snapshot), info) {
                Ok(()) => true,
                Err(rejection) => {
                    rejection.preemption_may_help && info.pods.values().any(|other| other.priority < pod.priority)
                }
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{node, pod};
    use serde_json::json;
    use std::time::Duration;

    fn state() -> (State, Instant) {
        (State::new("default-scheduler"), Instant::now())
    }

    fn put<K>(new: Arc<K>) -> Change<K> {
        Change::Upsert { old: None, new }
    }

    fn describe(step: Step) -> String {
        match step {
            Step::Bind(attempt, node) => format!("{} to {node}", attempt.pod.key.name),
            Step::Report(pod, why) => format!("{}: {why}", pod.key.name),
            Step::Displace { pod, node, victims, .. } => {
                let victims: Vec<_> = victims.iter().map(|v| v.key.name.clone()).collect();
                format!("{} displaces {} on {node}", pod.key.name, victims.join(","))
            }
            Step::Wait(at) => if at.is_some() { "later" } else { "idle" }.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_waits_for_the_change_that_helps_and_no_other() {
        let (mut state, now) = state();
        state.pod_changed(&put(pod("p").cpu("2").build()), now);
        assert_eq!(describe(state.step(now, 0)), "p: no nodes available to schedule pods");
        state.node_changed(&put(node("small").allocatable("cpu", "1").build()), now);
        assert_eq!(describe(state.step(now, 0)), "later");
        let mut now = now + Duration::from_secs(1);
        let why = "p: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        assert_eq!(describe(state.step(now, 0)), why);
        now += Duration::from_secs(60);
        state.node_changed(&put(node("tainted").taint("k", "v", "NoSchedule").build()), now);
        state.node_changed(&put(node("small").allocatable("cpu", "1").label("x", "y").build()), now);
        assert_eq!(describe(state.step(now, 0)), "idle");
        state.node_changed(&put(node("small").allocatable("cpu", "3").build()), now);
        assert_eq!(describe(state.step(now, 0)), "p to small");
        assert_eq!(describe(state.step(now, 0)), "idle");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_leaves_makes_room() {
        let (mut state, now) = state();
        state.node_changed(&put(node("n").build()), now);
        let first = pod("a").cpu("3").spec("nodeName", json!("n")).build();
        state.pod_changed(&put(first.clone()), now);
        state.pod_changed(&put(pod("b").cpu("3").build()), now);
        assert!(describe(state.step(now, 0)).starts_with("b: 0/1 nodes are available: 1 Insufficient cpu."));
        let now = now + Duration::from_secs(10);
        state.pod_changed(&Change::Delete { old: first }, now);
        assert_eq!(describe(state.step(now, 0)), "b to n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_that_fails_gives_the_room_back() {
        let (mut state, now) = state();
        state.node_changed(&put(node("n").build()), now);
        let waiting = pod("a").cpu("3").build();
        state.pod_changed(&put(waiting.clone()), now);
        let Step::Bind(attempt, _) = state.step(now, 0) else { panic!("fits") };
        state.pod_changed(&put(waiting.clone()), now);
        assert_eq!(describe(state.step(now, 0)), "idle", "an echo is no second attempt");
        state.not_bound(*attempt, Some(waiting), now);
        assert_eq!(describe(state.step(now, 0)), "later");
        assert_eq!(describe(state.step(now + Duration::from_secs(1), 0)), "a to n");
    }

    #[tokio::test(start_paused = true)]
    async fn company_that_arrives_wakes_who_waits_for_it() {
        let (mut state, now) = state();
        state.node_changed(&put(node("n").build()), now);
        let near = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]}});
        state.pod_changed(&put(pod("follower").spec("affinity", near).build()), now);
        assert!(describe(state.step(now, 0)).contains("didn't match pod affinity rules"));
        state.pod_changed(&put(pod("leader").label("app", "x").build()), now);
        assert_eq!(describe(state.step(now, 0)), "leader to n");
        let now = now + Duration::from_secs(5);
        assert_eq!(describe(state.step(now, 0)), "idle");
        let bound = pod("leader").label("app", "x").spec("nodeName", json!("n")).build();
        state.pod_changed(&put(bound), now);
        assert_eq!(describe(state.step(now, 0)), "follower to n");
    }

    #[tokio::test(start_paused = true)]
    async fn others_pods_and_gated_pods_are_left_alone() {
        let (mut state, now) = state();
        state.node_changed(&put(node("n").build()), now);
        state.pod_changed(&put(pod("other").spec("schedulerName", json!("mine")).build()), now);
        state.pod_changed(&put(pod("gated").spec("schedulingGates", json!([{"name": "g"}])).build()), now);
        assert_eq!(describe(state.step(now, 0)), "idle");
    }

    #[tokio::test(start_paused = true)]
    async fn the_important_displace_the_unimportant_and_keep_their_room() {
        let (mut state, now) = state();
        state.node_changed(&put(node("n").build()), now);
        let low = pod("low").cpu("3").spec("nodeName", json!("n")).build();
        state.pod_changed(&put(low.clone()), now);
        state.pod_changed(&put(pod("high").cpu("3").priority(10).build()), now);
        assert_eq!(describe(state.step(now, 0)), "high displaces low on n");
        state.pod_changed(&Change::Delete { old: low }, now);
        state.pod_changed(&put(pod("middle").cpu("3").priority(5).build()), now);
        assert!(describe(state.step(now, 0)).starts_with("middle: 0/1 nodes are available: 1 Insufficient cpu."));
        assert_eq!(describe(state.step(now + Duration::from_secs(1), 0)), "high to n");
    }
}
