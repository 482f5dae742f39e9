//! A node must have what the pod asks for; among those that have, the emptier one is preferred.

use std::sync::Arc;

use super::{ClusterChange, Cure, Cycle, MAX_SCORE, Plugin, Reason, Verdict};
use crate::node_info::NodeInfo;

pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        let (mut reasons, mut preemption_may_help) = (Vec::new(), true);
        if node.pods.len() as i64 + 1 > node.allowed_pods {
            reasons.push(Reason::Borrowed("Too many pods"));
        }
        let mut need = |reason: fn(&str) -> Reason, name: &str, asked: i64, used: i64, allocatable: i64| {
            if asked > 0 && asked > allocatable - used {
                reasons.push(reason(name));
                preemption_may_help &= asked <= allocatable;
            }
        };
        let (pod, used, has) = (&cycle.pod.requests, &node.requested, &node.allocatable);
        need(|_| Reason::Borrowed("Insufficient cpu"), "", pod.cpu, used.cpu, has.cpu);
        need(|_| Reason::Borrowed("Insufficient memory"), "", pod.memory, used.memory, has.memory);
        let storage = (pod.ephemeral_storage, used.ephemeral_storage, has.ephemeral_storage);
        need(|_| Reason::Borrowed("Insufficient ephemeral-storage"), "", storage.0, storage.1, storage.2);
        for (name, asked) in &pod.others {
            let of = |amounts: &crate::node_info::Amounts| amounts.others.get(name).copied().unwrap_or_default();
            need(|name| Reason::Owned(format!("Insufficient {name}")), name, *asked, of(used), of(has));
        }
        if reasons.is_empty() { Verdict::Fits } else { Verdict::Unfit { reasons, preemption_may_help } }
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let free = |used: i64, allocatable: i64| {
            if allocatable <= 0 || used > allocatable { 0 } else { (allocatable - used) * MAX_SCORE / allocatable }
        };
        let (cpu, memory) = cycle.pod.scored;
        let score = |node: &&Arc<NodeInfo>| {
            (free(node.scored.0 + cpu, node.allocatable.cpu) + free(node.scored.1 + memory, node.allocatable.memory))
                / 2
        };
        Some(nodes.iter().map(score).collect())
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded | ClusterChange::PodLeft => Cure::ThatNode,
            ClusterChange::NodeUpdated(delta) if delta.allocatable => Cure::ThatNode,
            ClusterChange::NodeUpdated(_) | ClusterChange::PodArrived => Cure::Nowhere,
        }
    }
}
