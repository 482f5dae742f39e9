//! Prefers nodes whose cpu and memory would be used to the same share.

use std::sync::Arc;

use super::{ClusterChange, Cure, Cycle, MAX_SCORE, Plugin};
use crate::node_info::NodeInfo;

/// Shares are whole parts of this, so that no floating point decides.
const PARTS: i128 = 1_000_000;

pub(super) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let requests = &cycle.pod.requests;
        // A pod that asks for nothing has no shape to balance; upstream skips it too.
        if requests.cpu == 0 && requests.memory == 0 {
            return None;
        }
        let share = |used: i64, allocatable: i64| match allocatable {
            0 => PARTS,
            _ => (i128::from(used) * PARTS / i128::from(allocatable)).min(PARTS),
        };
        let score = |node: &&Arc<NodeInfo>| {
            let cpu = share(node.requested.cpu + requests.cpu, node.allocatable.cpu);
            let memory = share(node.requested.memory + requests.memory, node.allocatable.memory);
            let deviation = (cpu - memory).abs() / 2;
            i64::try_from((PARTS - deviation) * i128::from(MAX_SCORE) / PARTS).unwrap_or_default()
        };
        Some(nodes.iter().map(score).collect())
    }

    fn cured_by(&self, _: &ClusterChange) -> Cure {
        Cure::Nowhere
    }
}
