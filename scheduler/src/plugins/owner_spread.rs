//! Spreads the pods of one controller over nodes and zones, for pods that set no topologySpreadConstraints.
//!
//! Upstream finds the pods that belong together through the selectors of services and controllers; here it is the
//! controller in their owner references, which costs one look-up per node.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::well_known::labels;

use super::{ClusterChange, Cure, Cycle, MAX_SCORE, Plugin};
use crate::node_info::NodeInfo;

pub(super) struct OwnerSpread;

impl Plugin for OwnerSpread {
    fn name(&self) -> &'static str {
        "OwnerSpread"
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let owner = cycle.pod.owner.as_ref()?;
        let spec = cycle.pod.pod.spec.as_ref();
        if spec.is_some_and(|s| s.topology_spread_constraints.as_ref().is_some_and(|c| !c.is_empty())) {
            return None;
        }
        let count = |node: &NodeInfo| node.owners.get(owner).copied().unwrap_or_default() as i64;
        let counts: Vec<i64> = nodes.iter().map(|node| count(node)).collect();
        let most = counts.iter().copied().max().unwrap_or_default();
        let mut zones: BTreeMap<&str, i64> = BTreeMap::new();
        for (node, count) in nodes.iter().zip(&counts) {
            if let Some(zone) = node.label(labels::ZONE) {
                *zones.entry(zone).or_default() += count;
            }
        }
        let most_in_zone = zones.values().copied().max().unwrap_or_default();
        let rank = |count: i64, most: i64| if most == 0 { MAX_SCORE } else { MAX_SCORE * (most - count) / most };
        let score = |(node, count): (&&Arc<NodeInfo>, &i64)| {
            let by_node = rank(*count, most);
            // Zones count twice as much as nodes, as in upstream's SelectorSpread.
            match node.label(labels::ZONE) {
                Some(zone) => (by_node + 2 * rank(zones[zone], most_in_zone)) / 3,
                None => by_node,
            }
        };
        Some(nodes.iter().zip(&counts).map(score).collect())
    }

    fn cured_by(&self, _: &ClusterChange) -> Cure {
        Cure::Nowhere
    }
}
