//! podAffinity and podAntiAffinity: pods that want to be near others, or away from them.
//!
//! Required rules filter (also the rules of the pods already there), preferred ones score. Counting is done once per
//! decision and skipped when neither the pod nor anybody else has such rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::LabelSelector;
use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};

use super::{ClusterChange, Cure, Cycle, MAX_SCORE, Plugin, Verdict};
use crate::node_info::{NodeInfo, PodInfo};

pub(super) struct InterPodAffinity;

/// A topology key and value: one place.
type Place = (String, String);

/// What the rules found in the cluster.
#[derive(Default)]
pub(crate) struct Counts {
    /// For each of the pod's required affinity terms: the places with matching pods.
    wanted: Vec<(Term, BTreeMap<String, usize>)>,
    /// For each of the pod's required anti-affinity terms: the same.
    unwanted: Vec<(Term, BTreeMap<String, usize>)>,
    /// Places that pods already there refuse to share with this pod.
    refused: BTreeMap<Place, usize>,
    /// Whether the pod matches all its own affinity terms: then it may be the first of its kind.
    matches_itself: bool,
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
        let counts = cycle.affinity.get_or_init(|| count(cycle));
        if !satisfied(counts, node) {
            return Verdict::unsuitable("node(s) didn't match pod affinity rules");
        }
        let near = |(term, places): &(Term, BTreeMap<String, usize>)| {
            node.label(&term.topology_key).is_some_and(|value| places.contains_key(value))
        };
        if counts.unwanted.iter().any(near) {
            return Verdict::occupied("node(s) didn't match pod anti-affinity rules");
        }
        if counts.refused.keys().any(|(key, value)| node.label(key) == Some(value)) {
            return Verdict::occupied("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        Verdict::Fits
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let preferences = preferences(cycle.pod);
        if preferences.is_empty() {
            return None;
        }
        let weighted: Vec<_> = preferences.iter().map(|(term, weight)| (term, *weight, places(cycle, term))).collect();
        let sum = |node: &&Arc<NodeInfo>| {
            let one = |(term, weight, places): &(&Term, i64, BTreeMap<String, usize>)| {
                let here = node.label(&term.topology_key).and_then(|value| places.get(value)).copied();
                weight * i64::try_from(here.unwrap_or_default()).unwrap_or(i64::MAX)
            };
            weighted.iter().map(one).sum::<i64>()
        };
        let sums: Vec<i64> = nodes.iter().map(sum).collect();
        let (least, most) = (sums.iter().copied().min()?, sums.iter().copied().max()?);
        let range = (most - least).max(1);
        Some(sums.into_iter().map(|sum| MAX_SCORE * (sum - least) / range).collect())
    }

    fn cured_by(&self, change: &ClusterChange) -> Cure {
        match change {
            ClusterChange::NodeAdded | ClusterChange::PodLeft | ClusterChange::PodArrived => Cure::Anywhere,
            ClusterChange::NodeUpdated(delta) if delta.labels => Cure::Anywhere,
            ClusterChange::NodeUpdated(_) => Cure::Nowhere,
        }
    }
}

/// Every wanted neighbour is in the node's place, or nobody is anywhere and the pod may be the first.
fn satisfied(counts: &Counts, node: &NodeInfo) -> bool {
    let labelled = counts.wanted.iter().all(|(term, _)| node.label(&term.topology_key).is_some());
    let near = |(term, places): &(Term, BTreeMap<String, usize>)| {
        node.label(&term.topology_key).is_some_and(|value| places.contains_key(value))
    };
    let nobody = counts.wanted.iter().all(|(_, places)| places.is_empty());
    labelled && (counts.wanted.iter().all(near) || (nobody && counts.matches_itself))
}

/// A rule with its selector parsed.
pub(crate) struct Term {
    topology_key: String,
    selector: LabelSelector,
    namespaces: Vec<String>,
    /// A namespaceSelector that selects all namespaces. Others would need the namespaces' labels, which the scheduler
    /// does not watch; such a term stays within the named namespaces.
    all_namespaces: bool,
}

impl Term {
    /// Parses a rule of a pod; one with an invalid selector (validation lets none in) matches nothing.
    fn of(owner: &PodInfo, term: &PodAffinityTerm) -> Self {
        let selector = LabelSelector::from_meta_option(term.label_selector.as_ref());
        let all = term.namespace_selector.as_ref().is_some_and(|selector| {
            selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
                && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
        });
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(owner.namespace().to_owned());
        }
        Self {
            topology_key: term.topology_key.clone(),
            selector: selector.unwrap_or_else(|_| LabelSelector::nothing()),
            namespaces,
            all_namespaces: all,
        }
    }

    fn matches(&self, pod: &PodInfo) -> bool {
        (self.all_namespaces || self.namespaces.iter().any(|n| n == pod.namespace()))
            && self.selector.matches_option(pod.pod.metadata.labels.as_ref())
    }
}

fn required(pod: &PodInfo, anti: bool) -> Vec<Term> {
    let Some(affinity) = pod.pod.spec.as_ref().and_then(|s| s.affinity.as_ref()) else { return Vec::new() };
    let terms = if anti {
        affinity.pod_anti_affinity.as_ref().map(|a| &a.required_during_scheduling_ignored_during_execution)
    } else {
        affinity.pod_affinity.as_ref().map(|a| &a.required_during_scheduling_ignored_during_execution)
    };
    terms.into_iter().flatten().flatten().map(|term| Term::of(pod, term)).collect()
}

/// Preferred rules: positive weights attract, negative ones repel.
fn preferences(pod: &PodInfo) -> Vec<(Term, i64)> {
    let Some(affinity) = pod.pod.spec.as_ref().and_then(|s| s.affinity.as_ref()) else { return Vec::new() };
    let near = affinity.pod_affinity.as_ref();
    let near = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let away = affinity.pod_anti_affinity.as_ref();
    let away = away.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let weighted = |terms: Option<&[WeightedPodAffinityTerm]>, sign: i64| {
        let terms = terms.unwrap_or_default().iter();
        terms.map(|t| (Term::of(pod, &t.pod_affinity_term), sign * i64::from(t.weight))).collect::<Vec<_>>()
    };
    let mut all = weighted(near, 1);
    all.extend(weighted(away, -1));
    all
}

fn count(cycle: &Cycle<'_>) -> Counts {
    let with_places = |terms: Vec<Term>| {
        let found = terms.into_iter().map(|term| {
            let places = places(cycle, &term);
            (term, places)
        });
        found.collect::<Vec<_>>()
    };
    let wanted = with_places(required(cycle.pod, false));
    Counts {
        matches_itself: wanted.iter().all(|(term, _)| term.matches(cycle.pod)),
        wanted,
        unwanted: with_places(required(cycle.pod, true)),
        refused: refused(cycle),
    }
}

/// The values of the term's topology key under which matching pods run.
fn places(cycle: &Cycle<'_>, term: &Term) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for node in cycle.snapshot.nodes() {
        let Some(value) = node.label(&term.topology_key) else { continue };
        let count = node.pods.values().filter(|pod| term.matches(pod)).count();
        if count > 0 {
            *places.entry(value.to_owned()).or_default() += count;
        }
    }
    places
}

fn refused(cycle: &Cycle<'_>) -> BTreeMap<Place, usize> {
    let mut refused = BTreeMap::new();
    if !cycle.snapshot.has_refusing_pods() {
        return refused;
    }
    for node in cycle.snapshot.nodes().iter().filter(|node| node.pods_with_anti_affinity > 0) {
        for pod in node.pods.values().filter(|pod| pod.has_pod_anti_affinity) {
            for term in required(pod, true).into_iter().filter(|term| term.matches(cycle.pod)) {
                if let Some(value) = node.label(&term.topology_key) {
                    *refused.entry((term.topology_key, value.to_owned())).or_default() += 1;
                }
            }
        }
    }
    refused
}
