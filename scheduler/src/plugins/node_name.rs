//! A pod that names its node goes there or nowhere.

use api::pods::node_name;

use super::{ClusterChange, Cure, Cycle, Plugin, Verdict};
use crate::node_info::NodeInfo;

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        match node_name(&cycle.pod.pod) {
            Some(wanted) if wanted != node.name => Verdict::unsuitable("node(s) didn't match the requested node name"),
            Some(_) | None => Verdict::Fits,
        }
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded => Cure::ThatNode,
            ClusterChange::NodeUpdated(_) | ClusterChange::PodLeft | ClusterChange::PodArrived => Cure::Nowhere,
        }
    }
}
