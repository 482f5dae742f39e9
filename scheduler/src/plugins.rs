//! The rules of placement: one file each, one ordered table.
//!
//! A plugin rejects nodes ([`Plugin::filter`]), prefers nodes ([`Plugin::score`]) and says which changes of the cluster
//! can cure its rejections ([`Plugin::cured_by`]). All are pure functions of the cycle's input.

use std::borrow::Cow;
use std::sync::Arc;

use crate::node_info::{NodeInfo, PodInfo};
use crate::snapshot::Snapshot;

mod balanced_allocation;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod owner_spread;
mod pod_topology_spread;
mod taint_toleration;

/// Every plugin with the weight of its score, in the order in which they filter.
pub const PLUGINS: &[(&dyn Plugin, i64)] = &[
    (&node_unschedulable::NodeUnschedulable, 0),
    (&node_name::NodeName, 0),
    (&taint_toleration::TaintToleration, 3),
    (&node_affinity::NodeAffinity, 2),
    (&node_ports::NodePorts, 0),
    (&node_resources_fit::NodeResourcesFit, 1),
    (&pod_topology_spread::PodTopologySpread, 2),
    (&inter_pod_affinity::InterPodAffinity, 2),
    (&owner_spread::OwnerSpread, 2),
    (&balanced_allocation::BalancedAllocation, 1),
    (&image_locality::ImageLocality, 1),
];

/// The best score.
pub const MAX_SCORE: i64 = 100;

/// Why a node is no place for a pod, in upstream's words.
pub type Reason = Cow<'static, str>;

/// What a plugin says about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node will do.
    Fits,
    /// It will not.
    Unfit {
        /// Why.
        reasons: Vec<Reason>,
        /// Whether it might if other pods left it.
        preemption_may_help: bool,
    },
}

impl Verdict {
    /// Unfit while these other pods are there.
    pub fn occupied(reason: &'static str) -> Self {
        Self::Unfit { reasons: vec![Cow::Borrowed(reason)], preemption_may_help: true }
    }

    /// Unfit whoever else is there.
    pub fn unsuitable(reason: impl Into<Reason>) -> Self {
        Self::Unfit { reasons: vec![reason.into()], preemption_may_help: false }
    }
}

/// What differs between two states of a node, as far as a pod could care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeDelta {
    /// Its allocatable resources.
    pub allocatable: bool,
    /// Its labels.
    pub labels: bool,
    /// Its taints.
    pub taints: bool,
    /// Whether it is cordoned.
    pub unschedulable: bool,
}

impl NodeDelta {
    /// Compares two states.
    pub fn between(old: &NodeInfo, new: &NodeInfo) -> Self {
        Self {
            allocatable: old.allocatable != new.allocatable || old.allowed_pods != new.allowed_pods,
            labels: old.labels() != new.labels(),
            taints: old.taints() != new.taints(),
            unschedulable: old.is_unschedulable() != new.is_unschedulable(),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A change of the cluster that might cure a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// A node has come.
    NodeAdded,
    /// A node has changed.
    NodeUpdated(NodeDelta),
    /// A pod has left a node, or asks for less.
    PodLeft,
    /// A pod has come to a node, or has other labels.
    PodArrived,
}

/// Where a change may have cured a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cure {
    /// Nowhere.
    Nowhere,
    /// On the node that changed.
    ThatNode,
    /// On any node: the rule looks at several nodes.
    Anywhere,
}

/// One rule of placement.
pub trait Plugin: Sync {
    /// Its name; upstream's if it has this plugin.
    fn name(&self) -> &'static str;

    /// Whether the node will do. Upstream's default is that it will.
    fn filter(&self, _cycle: &Cycle<'_>, _node: &NodeInfo) -> Verdict {
        Verdict::Fits
    }

    /// How good each node is, 0 to [`MAX_SCORE`]; none if the plugin has no preference for this pod.
    fn score(&self, _cycle: &Cycle<'_>, _nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        None
    }

    /// Whether a change can cure this plugin's rejections.
    fn cured_by(&self, change: &ClusterChange) -> Cure;
}

/// What is being decided: the pod, and the cluster it comes to. Rules that look at several nodes count once.
pub struct Cycle<'a> {
    /// The pod to place.
    pub pod: &'a PodInfo,
    /// The cluster.
    pub snapshot: &'a Snapshot,
    spread: std::cell::OnceCell<pod_topology_spread::Counts>,
    affinity: std::cell::OnceCell<inter_pod_affinity::Counts>,
}

impl<'a> Cycle<'a> {
    /// A decision about this pod in this cluster.
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Self {
        Self { pod, snapshot, spread: Default::default(), affinity: Default::default() }
    }
}

/// The plugin of this name.
pub fn named(name: &str) -> Option<&'static dyn Plugin> {
    PLUGINS.iter().map(|(plugin, _)| *plugin).find(|plugin| plugin.name() == name)
}

/// Stretches scores so that the best has [`MAX_SCORE`]; `reverse` makes the smallest the best.
fn normalize(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let max = scores.iter().copied().max().unwrap_or_default();
    let stretched = scores.into_iter().map(|score| if max == 0 { 0 } else { score * MAX_SCORE / max });
    if reverse { stretched.map(|score| MAX_SCORE - score).collect() } else { stretched.collect() }
}
