//! The cluster as one decision sees it: the nodes in the order of their names, each with its pods.
//!
//! The cache changes it in place between decisions (a node is shared only while a decision tries out changes), so
//! a decision costs nothing per pod of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ObjectKey;

use crate::node_info::{NodeInfo, PodInfo};

/// All nodes that have been seen, and the pods that wait for room on one.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    /// Pods that displaced others and wait for them to go, by the node they wait for.
    nominated: BTreeMap<String, BTreeMap<ObjectKey, Arc<PodInfo>>>,
    /// How many pods on all nodes refuse others; almost always none, which saves looking for them.
    refusing: usize,
}

impl Snapshot {
    /// The nodes in the order of their names.
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.position(name).ok().map(|at| &self.nodes[at])
    }

    /// Whether any pod refuses others near it.
    pub fn has_refusing_pods(&self) -> bool {
        self.refusing > 0
    }

    /// Pods that wait for this node and have at least this priority, but for the pod itself.
    pub fn nominated<'a>(&'a self, node: &str, pod: &'a PodInfo) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        let waiting = self.nominated.get(node).into_iter().flat_map(BTreeMap::values);
        waiting.filter(move |other| other.key != pod.key && other.priority >= pod.priority)
    }

    /// The pod waits for this node.
    pub fn nominate(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.withdraw(&pod.key);
        self.nominated.entry(node.to_owned()).or_default().insert(pod.key.clone(), pod);
    }

    /// The pod no longer waits for a node.
    pub fn withdraw(&mut self, pod: &ObjectKey) {
        self.nominated.retain(|_, waiting| {
            waiting.remove(pod);
            !waiting.is_empty()
        });
    }

    /// Adds or replaces a node.
    pub fn put(&mut self, node: Arc<NodeInfo>) {
        self.refusing += node.pods_with_anti_affinity;
        match self.position(&node.name) {
            Ok(at) => {
                self.refusing -= self.nodes[at].pods_with_anti_affinity;
                self.nodes[at] = node;
            }
            Err(at) => self.nodes.insert(at, node),
        }
    }

    /// Takes a node away.
    pub fn take(&mut self, name: &str) -> Option<Arc<NodeInfo>> {
        let at = self.position(name).ok()?;
        let node = self.nodes.remove(at);
        self.refusing -= node.pods_with_anti_affinity;
        Some(node)
    }

    /// Changes a node in place; answers whether it is there.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut NodeInfo)) -> bool {
        let Ok(at) = self.position(name) else { return false };
        let node = Arc::make_mut(&mut self.nodes[at]);
        self.refusing -= node.pods_with_anti_affinity;
        change(node);
        self.refusing += node.pods_with_anti_affinity;
        true
    }

    /// The same cluster with one node as it might be.
    pub fn with(&self, node: NodeInfo) -> Self {
        let mut other = self.clone();
        other.put(Arc::new(node));
        other
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.name.as_str().cmp(name))
    }
}
