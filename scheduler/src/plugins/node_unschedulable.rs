//! A cordoned node takes only pods that tolerate it.

use api::pods::{tolerates, tolerations};
use api::well_known::taints;
use k8s_openapi::api::core::v1::Taint;

use super::{ClusterChange, Cure, Cycle, Plugin, Verdict};
use crate::node_info::NodeInfo;

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        if !node.is_unschedulable() {
            return Verdict::Fits;
        }
        let cordon =
            Taint { key: taints::UNSCHEDULABLE.to_owned(), effect: taints::NO_SCHEDULE.to_owned(), ..Taint::default() };
        if tolerates(tolerations(&cycle.pod.pod), &cordon) {
            Verdict::Fits
        } else {
            Verdict::unsuitable("node(s) were unschedulable")
        }
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded => Cure::ThatNode,
            ClusterChange::NodeUpdated(delta) if delta.unschedulable => Cure::ThatNode,
            ClusterChange::NodeUpdated(_) | ClusterChange::PodLeft | ClusterChange::PodArrived => Cure::Nowhere,
        }
    }
}
