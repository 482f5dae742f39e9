//! topologySpreadConstraints: how unevenly pods may be spread over zones, hosts or other domains.
//!
//! DoNotSchedule constraints filter, ScheduleAnyway ones score. Counting is done once per decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::LabelSelector;
use api::pods::untolerated;
use api::well_known::taints;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::{ClusterChange, Cure, Cycle, Plugin, Verdict, node_affinity, normalize};
use crate::node_info::{NodeInfo, PodInfo};

pub(super) struct PodTopologySpread;

/// The constraints of the pod, each with the matching pods per domain.
pub(crate) type Counts = Vec<Constraint>;

pub(crate) struct Constraint {
    key: String,
    max_skew: i64,
    hard: bool,
    min_domains: Option<usize>,
    matches_itself: bool,
    domains: BTreeMap<String, i64>,
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        for constraint in counts(cycle).iter().filter(|c| c.hard) {
            let Some(domain) = node.label(&constraint.key) else {
                return Verdict::unsuitable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                );
            };
            let few = constraint.min_domains.is_some_and(|least| constraint.domains.len() < least);
            let fewest = if few { 0 } else { constraint.domains.values().copied().min().unwrap_or_default() };
            let here = constraint.domains.get(domain).copied().unwrap_or_default();
            if here + i64::from(constraint.matches_itself) - fewest > constraint.max_skew {
                return Verdict::occupied("node(s) didn't match pod topology spread constraints");
            }
        }
        Verdict::Fits
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let soft: Vec<_> = counts(cycle).iter().filter(|c| !c.hard).collect();
        if soft.is_empty() {
            return None;
        }
        let worst = |constraint: &Constraint| constraint.domains.values().copied().max().unwrap_or_default() + 1;
        let crowd = |node: &&Arc<NodeInfo>| {
            let one = |c: &&Constraint| match node.label(&c.key) {
                Some(domain) => c.domains.get(domain).copied().unwrap_or_default(),
                // A node outside all domains is the last choice.
                None => worst(c),
            };
            soft.iter().map(one).sum::<i64>()
        };
        Some(normalize(nodes.iter().map(crowd).collect(), true))
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded | ClusterChange::PodLeft | ClusterChange::PodArrived => Cure::Anywhere,
            ClusterChange::NodeUpdated(delta) if delta.labels || delta.taints => Cure::Anywhere,
            ClusterChange::NodeUpdated(_) => Cure::Nowhere,
        }
    }
}

fn counts<'a>(cycle: &'a Cycle<'_>) -> &'a Counts {
    cycle.spread.get_or_init(|| {
        let spec = cycle.pod.pod.spec.as_ref();
        let wanted = spec.and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
        wanted.iter().filter_map(|constraint| count(cycle, constraint)).collect()
    })
}

fn count(cycle: &Cycle<'_>, constraint: &TopologySpreadConstraint) -> Option<Constraint> {
    let mut selector = constraint.label_selector.clone();
    let labels = cycle.pod.pod.metadata.labels.as_ref();
    for key in constraint.match_label_keys.iter().flatten() {
        if let (Some(selector), Some(value)) = (&mut selector, labels.and_then(|l| l.get(key))) {
            selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
        }
    }
    let selector = LabelSelector::from_meta_option(selector.as_ref()).ok()?;
    let mut domains = BTreeMap::new();
    for node in cycle.snapshot.nodes() {
        if let Some(domain) = node.label(&constraint.topology_key)
            && counts_node(cycle.pod, constraint, node)
        {
            *domains.entry(domain.to_owned()).or_default() += matching(cycle.pod, &selector, node);
        }
    }
    Some(Constraint {
        key: constraint.topology_key.clone(),
        max_skew: i64::from(constraint.max_skew),
        hard: constraint.when_unsatisfiable == "DoNotSchedule",
        min_domains: constraint.min_domains.and_then(|least| usize::try_from(least).ok()),
        matches_itself: selector.matches_option(labels),
        domains,
    })
}

/// nodeAffinityPolicy (Honor unless told otherwise) and nodeTaintsPolicy (Ignore unless told otherwise).
fn counts_node(pod: &PodInfo, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> bool {
    let honors_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honors_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    let effects = [taints::NO_SCHEDULE, taints::NO_EXECUTE];
    (!honors_affinity || node_affinity::admits(&pod.pod, node))
        && (!honors_taints || untolerated(api::pods::tolerations(&pod.pod), node.taints(), &effects).is_none())
}

fn matching(pod: &PodInfo, selector: &LabelSelector, node: &NodeInfo) -> i64 {
    let others = node.pods.values().filter(|other| {
        other.key.namespace == pod.key.namespace
            && !api::pods::is_terminating(&other.pod)
            && selector.matches_option(other.pod.metadata.labels.as_ref())
    });
    i64::try_from(others.count()).unwrap_or(i64::MAX)
}
