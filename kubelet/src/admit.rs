//! Whether a pod that was bound to this node may run here: the scheduler's last line of defence.
//!
//! Entry: [`check`], a function from data to data. Invariant: the reasons are upstream's.

use std::collections::BTreeMap;

use api::Quantity;
use api::pods::{host_ports, requests};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::status::Verdict;

/// What a node offers.
pub struct Offer<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// Checks one pod against the node and the pods already admitted.
pub fn check(pod: &Pod, others: &[&Pod], offer: &Offer) -> Result<(), Verdict> {
    if !selects(pod, offer.labels) {
        return Err(verdict("NodeAffinity", "Predicate NodeAffinity failed".into()));
    }
    let pods_limit = offer.allocatable.get("pods").map_or(i64::MAX, Quantity::value);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= pods_limit {
        return Err(out_of("pods", 1, count, pods_limit));
    }
    for (name, wanted) in requests(pod).0 {
        if wanted.is_zero() {
            continue;
        }
        let used: Quantity = others.iter().map(|other| requests(other).get(&name)).sum();
        let capacity = offer.allocatable.get(&name).copied().unwrap_or_default();
        if used + wanted > capacity {
            let number = |amount: Quantity| if name == "cpu" { amount.milli_value() } else { amount.value() };
            return Err(out_of(&name, number(wanted), number(used), number(capacity)));
        }
    }
    for port in host_ports(pod) {
        if others.iter().any(|other| host_ports(other).iter().any(|taken| taken.conflicts_with(&port))) {
            return Err(verdict("NodePorts", "Predicate NodePorts failed".into()));
        }
    }
    Ok(())
}

fn verdict(reason: &str, message: String) -> Verdict {
    Verdict { reason: reason.to_owned(), message: format!("Pod was rejected: {message}") }
}

fn out_of(name: &str, wanted: i64, used: i64, capacity: i64) -> Verdict {
    let message =
        format!("Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}");
    verdict(&format!("OutOf{name}"), message)
}

fn selects(pod: &Pod, labels: &BTreeMap<String, String>) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let plain = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    plain && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, labels)))
}

/// Only labels are looked at: the scheduler has already checked fields, which cannot change.
fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|requirement| requirement_holds(requirement, labels))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |test: fn(i64, i64) -> bool| {
        let mine = value.and_then(|value| value.parse().ok());
        let bound = values.first().and_then(|value| value.parse().ok());
        matches!((mine, bound), (Some(mine), Some(bound)) if test(mine, bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|mine, bound| mine > bound),
        "Lt" => compare(|mine, bound| mine < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    #[test]
    fn reasons() {
        let labels = [("disk".to_owned(), "ssd".to_owned())].into();
        let quantity = |text| Quantity::parse(text).expect("a quantity");
        let allocatable = [
            ("cpu".to_owned(), quantity("2")),
            ("memory".to_owned(), quantity("1Gi")),
            ("pods".to_owned(), quantity("3")),
        ]
        .into();
        let offer = Offer { labels: &labels, allocatable: &allocatable };
        let asks = |cpu: &str| {
            pod(json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}},
                "ports": [{"containerPort": 80, "hostPort": 80}]}]}))
        };
        let idle = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
        let placed = |selector: &str| pod(json!({"nodeSelector": {"disk": selector}, "containers": []}));
        let busy = asks("1500m");
        let table = [
            (asks("2"), vec![], Ok(())),
            (asks("3"), vec![], Err("OutOfcpu")),
            (asks("1"), vec![&busy], Err("OutOfcpu")),
            (asks("100m"), vec![&busy], Err("NodePorts")),
            (idle.clone(), vec![&idle, &idle, &idle], Err("OutOfpods")),
            (placed("ssd"), vec![], Ok(())),
            (placed("hdd"), vec![], Err("NodeAffinity")),
        ];
        for (index, (pod, others, expected)) in table.into_iter().enumerate() {
            let got = check(&pod, &others, &offer).map_err(|verdict| verdict.reason);
            assert_eq!(got, expected.map_err(str::to_owned), "row {index}");
        }
        let message = check(&asks("3"), &[], &offer).expect_err("too much").message;
        let expected = "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000";
        assert_eq!(message, format!("Pod was rejected: {expected}"));
    }
}
