//! Taints keep pods away (NoSchedule, NoExecute) or ask them to stay away (PreferNoSchedule).

use std::sync::Arc;

use api::pods::{tolerates, tolerations, untolerated};
use api::well_known::taints;
use k8s_openapi::api::core::v1::Toleration;

use super::{ClusterChange, Cure, Cycle, Plugin, Verdict, normalize};
use crate::node_info::NodeInfo;

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        let effects = [taints::NO_SCHEDULE, taints::NO_EXECUTE];
        match untolerated(tolerations(&cycle.pod.pod), node.taints(), &effects) {
            None => Verdict::Fits,
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                Verdict::unsuitable(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key))
            }
        }
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let applies = |t: &&Toleration| matches!(t.effect.as_deref(), None | Some("" | taints::PREFER_NO_SCHEDULE));
        let tolerated: Vec<Toleration> = tolerations(&cycle.pod.pod).iter().filter(applies).cloned().collect();
        let unwelcome = |node: &&Arc<NodeInfo>| {
            let preferred = node.taints().iter().filter(|taint| taint.effect == taints::PREFER_NO_SCHEDULE);
            i64::try_from(preferred.filter(|taint| !tolerates(&tolerated, taint)).count()).unwrap_or(i64::MAX)
        };
        let counts: Vec<i64> = nodes.iter().map(unwelcome).collect();
        if counts.iter().all(|count| *count == 0) { None } else { Some(normalize(counts, true)) }
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded => Cure::ThatNode,
            ClusterChange::NodeUpdated(delta) if delta.taints => Cure::ThatNode,
            ClusterChange::NodeUpdated(_) | ClusterChange::PodLeft | ClusterChange::PodArrived => Cure::Nowhere,
        }
    }
}
