//! What the scheduler believes about the cluster: what the API shows, and the placements that it has decided but that
//! the API does not show yet.
//!
//! Invariant: a pod counts on exactly one node from the moment its placement is decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ObjectKey;
use k8s_openapi::api::core::v1::Node;

use crate::node_info::{NodeInfo, PodInfo};
use crate::plugins::NodeDelta;
use crate::snapshot::Snapshot;

/// Where a pod is.
#[derive(Clone, Debug)]
struct Placed {
    node: String,
    uid: String,
    /// Decided here; the API does not show it yet.
    assumed: bool,
}

/// The cluster as known here.
#[derive(Debug, Default)]
pub struct Cache {
    snapshot: Snapshot,
    /// Nodes that pods are bound to but that have not been seen, or are gone.
    unseen: BTreeMap<String, NodeInfo>,
    placed: BTreeMap<ObjectKey, Placed>,
}

impl Cache {
    /// For decisions.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// To note which pods wait for which nodes.
    pub fn snapshot_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    /// The node is as the API shows it; answers what has changed since it was last seen, nothing for a new node.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<NodeDelta> {
        let name = node.metadata.name.clone().unwrap_or_default();
        if let Some(old) = self.snapshot.node(&name) {
            let old = old.clone();
            self.snapshot.change(&name, |info| info.set_node(node));
            return self.snapshot.node(&name).map(|new| NodeDelta::between(&old, new));
        }
        let mut info = self.unseen.remove(&name).unwrap_or_else(|| NodeInfo::unseen(&name));
        info.set_node(node);
        self.snapshot.put(Arc::new(info));
        None
    }

    /// The node is gone; its pods are remembered in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(info) = self.snapshot.take(name) else { return };
        let mut info = Arc::unwrap_or_clone(info);
        info.node = None;
        if !info.pods.is_empty() {
            self.unseen.insert(name.to_owned(), info);
        }
    }

    /// The API shows the pod on this node.
    pub fn set_pod(&mut self, pod: PodInfo, node: &str) {
        self.place(pod, node, false);
    }

    /// The pod has been placed on this node; the API will show it.
    pub fn assume(&mut self, pod: PodInfo, node: &str) {
        self.place(pod, node, true);
    }

    fn place(&mut self, pod: PodInfo, node: &str, assumed: bool) {
        let (key, uid) = (pod.key.clone(), pod.uid.clone());
        if self.placed.get(&key).is_some_and(|old| old.node != node) {
            self.remove_pod(&key);
        }
        self.snapshot.withdraw(&key);
        let pod = Arc::new(pod);
        if !self.snapshot.change(node, |info| info.add(pod.clone())) {
            self.unseen.entry(node.to_owned()).or_insert_with(|| NodeInfo::unseen(node)).add(pod);
        }
        self.placed.insert(key, Placed { node: node.to_owned(), uid, assumed });
    }

    /// The pod is gone or over; answers the node it was on.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> Option<String> {
        self.snapshot.withdraw(key);
        let placed = self.placed.remove(key)?;
        let there = self.snapshot.change(&placed.node, |info| {
            info.remove(key);
        });
        if !there && let Some(info) = self.unseen.get_mut(&placed.node) {
            info.remove(key);
            if info.pods.is_empty() {
                self.unseen.remove(&placed.node);
            }
        }
        Some(placed.node)
    }

    /// The placement was not carried out; answers the node if it was only assumed.
    pub fn forget(&mut self, key: &ObjectKey, uid: &str) -> Option<String> {
        if self.is_assumed(key, uid) { self.remove_pod(key) } else { None }
    }

    /// Whether a placement of this pod is under way.
    pub fn is_assumed(&self, key: &ObjectKey, uid: &str) -> bool {
        self.placed.get(key).is_some_and(|placed| placed.assumed && placed.uid == uid)
    }

    /// The node that the pod is on.
    pub fn node_of(&self, key: &ObjectKey) -> Option<&str> {
        self.placed.get(key).map(|placed| placed.node.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{node, pod};

    fn info(name: &str) -> PodInfo {
        PodInfo::new(pod(name).cpu("1").build())
    }

    fn requested(cache: &Cache, node: &str) -> i64 {
        cache.snapshot().node(node).map_or(-1, |n| n.requested.cpu)
    }

    #[test]
    fn an_assumed_pod_counts_until_it_is_confirmed_or_forgotten() {
        let mut cache = Cache::default();
        assert_eq!(cache.set_node(node("n1").build()), None);
        cache.set_node(node("n2").build());
        let a = info("a");
        let (key, uid) = (a.key.clone(), a.uid.clone());
        cache.assume(a.clone(), "n1");
        assert!(cache.is_assumed(&key, &uid));
        assert_eq!(requested(&cache, "n1"), 1000);
        cache.set_pod(a.clone(), "n1");
        assert!(!cache.is_assumed(&key, &uid));
        assert_eq!(cache.forget(&key, &uid), None);
        assert_eq!(requested(&cache, "n1"), 1000);
        cache.set_pod(a, "n2");
        assert_eq!((requested(&cache, "n1"), requested(&cache, "n2")), (0, 1000));
        assert_eq!(cache.remove_pod(&key).as_deref(), Some("n2"));
        assert_eq!(requested(&cache, "n2"), 0);
    }

    #[test]
    fn pods_may_be_seen_before_their_node() {
        let mut cache = Cache::default();
        cache.set_pod(info("a"), "n1");
        assert!(cache.snapshot().nodes().is_empty());
        cache.set_node(node("n1").build());
        assert_eq!(requested(&cache, "n1"), 1000);
        cache.remove_node("n1");
        cache.set_node(node("n1").build());
        assert_eq!(requested(&cache, "n1"), 1000);
    }
}
