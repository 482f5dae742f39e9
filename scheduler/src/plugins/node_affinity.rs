//! nodeSelector and nodeAffinity: labels that a node must have, and labels that would be nice.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::{ClusterChange, Cure, Cycle, Plugin, Verdict, normalize};
use crate::node_info::NodeInfo;

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        if admits(&cycle.pod.pod, node) {
            Verdict::Fits
        } else {
            Verdict::unsuitable("node(s) didn't match Pod's node affinity/selector")
        }
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let affinity = cycle.pod.pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        let weigh = |node: &&Arc<NodeInfo>| {
            let liked = preferred.iter().filter(|term| term_matches(&term.preference, node));
            liked.map(|term| i64::from(term.weight)).sum::<i64>()
        };
        Some(normalize(nodes.iter().map(weigh).collect(), false))
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded => Cure::ThatNode,
            ClusterChange::NodeUpdated(delta) if delta.labels => Cure::ThatNode,
            ClusterChange::NodeUpdated(_) | ClusterChange::PodLeft | ClusterChange::PodArrived => Cure::Nowhere,
        }
    }
}

/// Whether the pod's nodeSelector and required nodeAffinity let it onto the node.
pub(super) fn admits(pod: &Pod, node: &NodeInfo) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| node.label(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// All of a term's requirements must hold; a term without any selects nothing.
fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|requirement| holds(requirement, node.label(&requirement.key)))
        && fields.iter().all(|r| r.key == "metadata.name" && holds(r, Some(&node.name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|v| v == value));
    let numbers = || {
        let bound = values.first()?.parse::<i64>().ok()?;
        Some((value?.parse::<i64>().ok()?, bound))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{node, pod};
    use serde_json::json;

    #[test]
    fn selectors_and_affinity() {
        let mut info = NodeInfo::unseen("n1");
        info.set_node(node("n1").label("disk", "ssd").label("cores", "8").build());
        let required = |terms| {
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": terms}}})
        };
        let expression = |key: &str, operator: &str, values: &[&str]| json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
        let table = [
            (json!([]), false),
            (json!([{}]), false),
            (expression("disk", "In", &["ssd", "nvme"]), true),
            (expression("disk", "NotIn", &["ssd"]), false),
            (expression("none", "NotIn", &["x"]), true),
            (expression("disk", "Exists", &[]), true),
            (expression("disk", "DoesNotExist", &[]), false),
            (expression("cores", "Gt", &["4"]), true),
            (expression("cores", "Lt", &["4"]), false),
            (json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]), true),
            (json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]), false),
        ];
        for (terms, admitted) in table {
            let pod = pod("p").spec("affinity", required(terms.clone())).build();
            assert_eq!(admits(&pod, &info), admitted, "{terms}");
        }
        assert!(admits(&pod("p").spec("nodeSelector", json!({"disk": "ssd"})).build(), &info));
        assert!(!admits(&pod("p").spec("nodeSelector", json!({"disk": "hdd"})).build(), &info));
    }
}
