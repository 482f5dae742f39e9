//! A node and a pod as the scheduler sees them: everything a decision needs, computed once.
//!
//! Invariant: what a node has given away is the sum over its pods; `add` and `remove` are exact opposites.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ObjectKey;
use api::pods::{self, HostPort, Resources};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

/// What upstream assumes in scores for a container that asks for nothing.
const ASSUMED_CPU: i64 = 100;
const ASSUMED_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts as plain numbers: cpu in thousandths, everything else whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages.
    pub others: BTreeMap<String, i64>,
}

impl Amounts {
    /// From exact quantities, rounded up.
    pub fn of(resources: &Resources) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in &resources.0 {
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => {}
                other => {
                    amounts.others.insert(other.to_owned(), quantity.value());
                }
            }
        }
        amounts
    }

    fn change(&mut self, by: &Amounts, sign: i64) {
        self.cpu += sign * by.cpu;
        self.memory += sign * by.memory;
        self.ephemeral_storage += sign * by.ephemeral_storage;
        for (name, amount) in &by.others {
            *self.others.entry(name.clone()).or_default() += sign * amount;
        }
    }
}

/// A pod with what it asks for.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its key.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
    /// Larger goes first, and may displace smaller.
    pub priority: i32,
    /// What it asks for.
    pub requests: Amounts,
    /// Cpu and memory as scores count them: never nothing.
    pub scored: (i64, i64),
    /// Ports of the node that it needs.
    pub ports: Vec<HostPort>,
    /// The uid of its controller: pods of one controller are spread.
    pub owner: Option<String>,
    /// Whether it has rules about the pods around it.
    pub has_pod_anti_affinity: bool,
}

impl PodInfo {
    /// Computes what decisions need.
    pub fn new(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref();
        let anti = spec.and_then(|s| s.affinity.as_ref()).and_then(|a| a.pod_anti_affinity.as_ref());
        Self {
            key: ObjectKey::of(&pod.metadata),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: spec.and_then(|s| s.priority).unwrap_or_default(),
            requests: Amounts::of(&pods::requests(&pod)),
            scored: scored(&pod),
            ports: pods::host_ports(&pod),
            owner: api::owners::controller_of(&pod.metadata).map(|owner| owner.uid.clone()),
            has_pod_anti_affinity: anti
                .is_some_and(|a| a.required_during_scheduling_ignored_during_execution.is_some()),
            pod,
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.key.namespace()
    }
}

fn scored(pod: &Pod) -> (i64, i64) {
    let Some(spec) = &pod.spec else { return (0, 0) };
    let one = |container: &k8s_openapi::api::core::v1::Container| {
        let named = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let amounts = Resources::from_wire(named);
        let or = |name: &str, value: i64, assumed| if amounts.0.contains_key(name) { value } else { assumed };
        (
            or("cpu", amounts.get("cpu").milli_value(), ASSUMED_CPU),
            or("memory", amounts.get("memory").value(), ASSUMED_MEMORY),
        )
    };
    let sum = |(a, b): (i64, i64), (c, d): (i64, i64)| (a + c, b + d);
    let (sidecars, init): (Vec<_>, Vec<_>) =
        spec.init_containers.iter().flatten().partition(|container| pods::is_sidecar(container));
    let running = spec.containers.iter().chain(sidecars).map(one).fold((0, 0), sum);
    init.into_iter().map(one).fold(running, |(a, b), (c, d)| (a.max(c), b.max(d)))
}

/// A node with its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// The name.
    pub name: String,
    /// The node; none if pods are bound to it but it has not been seen.
    pub node: Option<Arc<Node>>,
    /// What it can give away.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub allowed_pods: i64,
    /// What its pods ask for.
    pub requested: Amounts,
    /// The same for cpu and memory, as scores count it.
    pub scored: (i64, i64),
    /// Its pods.
    pub pods: BTreeMap<ObjectKey, Arc<PodInfo>>,
    /// How many pods of each controller it has.
    pub owners: BTreeMap<String, usize>,
    /// How many of its pods refuse others.
    pub pods_with_anti_affinity: usize,
    /// Taken ports, each with how many pods have it.
    pub ports: BTreeMap<HostPort, usize>,
}

impl NodeInfo {
    /// A node of this name that has not been seen.
    pub fn unseen(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes over the node's own facts; its pods stay.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        let resources = Resources::from_wire(allocatable);
        self.allocatable = Amounts::of(&resources);
        self.allowed_pods = resources.get("pods").value();
        self.node = Some(node);
    }

    /// A pod has come.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.change(&pod.requests, 1);
        self.scored = (self.scored.0 + pod.scored.0, self.scored.1 + pod.scored.1);
        self.pods_with_anti_affinity += usize::from(pod.has_pod_anti_affinity);
        for port in &pod.ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        if let Some(owner) = &pod.owner {
            *self.owners.entry(owner.clone()).or_default() += 1;
        }
        if let Some(replaced) = self.pods.insert(pod.key.clone(), pod) {
            self.take_back(&replaced);
        }
    }

    /// A pod has gone.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.take_back(&pod);
        Some(pod)
    }

    fn take_back(&mut self, pod: &PodInfo) {
        self.requested.change(&pod.requests, -1);
        self.scored = (self.scored.0 - pod.scored.0, self.scored.1 - pod.scored.1);
        self.pods_with_anti_affinity -= usize::from(pod.has_pod_anti_affinity);
        for port in &pod.ports {
            decrement(&mut self.ports, port);
        }
        if let Some(owner) = &pod.owner {
            decrement(&mut self.owners, owner);
        }
    }

    /// The value of a label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().and_then(|labels| labels.get(key)).map(String::as_str)
    }

    /// The labels of the node.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.node.as_ref()?.metadata.labels.as_ref()
    }

    /// The taints of the node.
    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// Whether the node is cordoned.
    pub fn is_unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or_default()
    }
}

fn decrement<K: Ord + Clone>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    #[test]
    fn removing_undoes_adding() {
        let mut node = NodeInfo::unseen("n");
        let first = Arc::new(PodInfo::new(pod("a").cpu("100m").port(80).build()));
        let second = Arc::new(PodInfo::new(pod("b").cpu("1").owner("rc").build()));
        node.add(first.clone());
        node.add(second.clone());
        node.add(second.clone());
        assert_eq!((node.requested.cpu, node.ports.len(), node.owners["rc"]), (1100, 1, 1));
        node.remove(&second.key);
        node.remove(&first.key);
        assert_eq!(node.requested.cpu, 0);
        assert_eq!(node.scored, (0, 0));
        assert!(node.ports.is_empty() && node.owners.is_empty() && node.pods.is_empty());
    }

    #[test]
    fn scores_assume_something_for_containers_that_ask_for_nothing() {
        let info = PodInfo::new(pod("a").build());
        assert_eq!(info.scored, (ASSUMED_CPU, ASSUMED_MEMORY));
        assert_eq!(info.requests, Amounts::default());
    }
}
