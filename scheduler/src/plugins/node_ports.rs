//! Two pods cannot have one port of a node.

use super::{ClusterChange, Cure, Cycle, Plugin, Verdict};
use crate::node_info::NodeInfo;

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        let wanted = &cycle.pod.ports;
        if wanted.iter().any(|port| node.ports.keys().any(|taken| taken.conflicts_with(port))) {
            return Verdict::occupied("node(s) didn't have free ports for the requested pod ports");
        }
        Verdict::Fits
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded | ClusterChange::PodLeft => Cure::ThatNode,
            ClusterChange::NodeUpdated(_) | ClusterChange::PodArrived => Cure::Nowhere,
        }
    }
}
