//! Where a pod may run: affinity, tolerations, spreading, gates.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSchedulingGate, PodSpec,
    Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::resources::checks;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// All errors of `affinity`.
pub fn affinity(errors: &mut FieldErrors, path: &FieldPath, affinity: Option<&Affinity>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let Some(affinity) = affinity else { return };
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            node_selector(errors, &path.child(REQUIRED), selector);
        }
        for (i, term) in node.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
            let path = path.child(PREFERRED).index(i);
            weight(errors, &path, term.weight);
            node_selector_term(errors, &path.child("preference"), &term.preference, false);
        }
    }
    type Terms<'a> = (&'static str, Option<&'a Vec<PodAffinityTerm>>, Option<&'a Vec<WeightedPodAffinityTerm>>);
    let near = affinity.pod_affinity.as_ref().map(|pods| -> Terms<'_> {
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_ref();
        ("podAffinity", pods.required_during_scheduling_ignored_during_execution.as_ref(), preferred)
    });
    let far = affinity.pod_anti_affinity.as_ref().map(|pods| -> Terms<'_> {
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_ref();
        ("podAntiAffinity", pods.required_during_scheduling_ignored_during_execution.as_ref(), preferred)
    });
    for (name, required, preferred) in near.into_iter().chain(far) {
        for (i, term) in required.into_iter().flatten().enumerate() {
            pod_affinity_term(errors, &path.child(name).child(REQUIRED).index(i), term);
        }
        for (i, term) in preferred.into_iter().flatten().enumerate() {
            let path = path.child(name).child(PREFERRED).index(i);
            weight(errors, &path, term.weight);
            pod_affinity_term(errors, &path.child("podAffinityTerm"), &term.pod_affinity_term);
        }
    }
}

fn weight(errors: &mut FieldErrors, path: &FieldPath, weight: i32) {
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// All errors of a node selector.
pub fn node_selector(errors: &mut FieldErrors, path: &FieldPath, selector: &NodeSelector) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.push(FieldError::required(&path, "must have at least one node selector term"));
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(errors, &path.index(i), term, true);
    }
}

/// A preference may name values that no label can have.
fn node_selector_term(errors: &mut FieldErrors, path: &FieldPath, term: &NodeSelectorTerm, required: bool) {
    for (i, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(i);
        node_requirement(errors, &path, requirement);
        for (i, value) in requirement.values.iter().flatten().enumerate().filter(|_| required) {
            errors.push_invalid(&path.child("values").index(i), value, names::label_value(value));
        }
    }
    for (i, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field_requirement(errors, &path.child("matchFields").index(i), requirement);
    }
}

fn node_requirement(errors: &mut FieldErrors, path: &FieldPath, requirement: &NodeSelectorRequirement) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(FieldError::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&path.child("values"), detail));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.push(FieldError::required(
                &path.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    checks::label_key(errors, &path.child("key"), &requirement.key);
}

fn node_field_requirement(errors: &mut FieldErrors, path: &FieldPath, requirement: &NodeSelectorRequirement) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(&path.child("values"), detail));
        }
        "In" | "NotIn" => {}
        other => errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    if requirement.key != "metadata.name" {
        errors.push(FieldError::invalid(&path.child("key"), &requirement.key, "not a valid field selector key"));
        return;
    }
    for (i, value) in values.iter().enumerate() {
        errors.push_invalid(&path.child("values").index(i), value, names::is_dns1123_subdomain(value));
    }
}

fn pod_affinity_term(errors: &mut FieldErrors, path: &FieldPath, term: &PodAffinityTerm) {
    checks::label_selector(errors, &path.child("labelSelector"), term.label_selector.as_ref());
    checks::label_selector(errors, &path.child("namespaceSelector"), term.namespace_selector.as_ref());
    for namespace in term.namespaces.iter().flatten() {
        errors.push_invalid(&path.child("namespace"), namespace, names::is_dns1123_label(namespace));
    }
    let (matching, other) =
        (term.match_label_keys.as_deref().unwrap_or_default(), term.mismatch_label_keys.as_deref().unwrap_or_default());
    keys_and_selector(errors, path, matching, other, term.label_selector.as_ref());
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    checks::label_key(errors, &path.child("topologyKey"), &term.topology_key);
}

/// Keys whose values in the pod's labels become part of the selector: none may stand there already.
fn keys_and_selector(
    errors: &mut FieldErrors,
    path: &FieldPath,
    matching: &[String],
    other: &[String],
    selector: Option<&LabelSelector>,
) {
    label_keys(errors, &path.child("matchLabelKeys"), matching, selector);
    label_keys(errors, &path.child("mismatchLabelKeys"), other, selector);
    // By now the selector of a pod holds what was made of the keys, so that one of them stands there twice.
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    let mut seen: BTreeSet<&str> = labels.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    for expression in selector.into_iter().flat_map(|selector| selector.match_expressions.iter().flatten()) {
        let found = matching.iter().rposition(|key| *key == expression.key);
        if let (Some(i), false) = (found, seen.insert(&expression.key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(i), &expression.key, detail));
        }
    }
    for (i, key) in matching.iter().enumerate().filter(|(_, key)| other.contains(key)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(&path.child("matchLabelKeys").index(i), key, detail));
    }
}

fn label_keys(errors: &mut FieldErrors, path: &FieldPath, keys: &[String], selector: Option<&LabelSelector>) {
    if keys.is_empty() {
        return;
    }
    if selector.is_none() {
        errors.push(FieldError::forbidden(path, "must not be specified when labelSelector is not set"));
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        checks::label_key(errors, &path.index(i), key);
    }
}

/// All errors of tolerations.
pub fn toleration_list(errors: &mut FieldErrors, path: &FieldPath, tolerations: &[Toleration]) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let key = toleration.key.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        if !key.is_empty() {
            checks::label_key(errors, &path.child("key"), key);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&path.child("operator"), operator, detail));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.push(FieldError::invalid(&path.child("operator"), value, messages.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                ));
            }
            "Exists" => {}
            other => errors.push(checks::unsupported(&path.child("operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            taint_effect(errors, &path.child("effect"), effect);
        }
    }
}

/// An effect of a taint.
pub fn taint_effect(errors: &mut FieldErrors, path: &FieldPath, effect: &str) {
    checks::required_one_of(errors, path, effect, EFFECTS);
}

/// All errors of scheduling gates.
pub fn gates(errors: &mut FieldErrors, path: &FieldPath, gates: &[PodSchedulingGate]) {
    let mut taken = BTreeSet::new();
    for (i, gate) in gates.iter().enumerate() {
        checks::label_key(errors, &path.index(i), &gate.name);
        if !taken.insert(&gate.name) {
            errors.push(FieldError::duplicate(&path.index(i), &gate.name));
        }
    }
}

/// All errors of topology spread constraints.
pub fn spread_constraints(errors: &mut FieldErrors, path: &FieldPath, constraints: &[TopologySpreadConstraint]) {
    const POSITIVE: &str = "must be greater than zero";
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        if constraint.max_skew <= 0 {
            errors.push(FieldError::invalid(&path.child("maxSkew"), constraint.max_skew, POSITIVE));
        }
        if constraint.topology_key.is_empty() {
            errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
        }
        let when = constraint.when_unsatisfiable.as_str();
        checks::one_of(errors, &path.child("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == when
        };
        if constraints[i + 1..].iter().any(same) {
            let pair = format!("{{{}, {when}}}", constraint.topology_key);
            errors.push(FieldError::duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if let Some(domains) = constraint.min_domains {
            if domains <= 0 {
                errors.push(FieldError::invalid(&path.child("minDomains"), domains, POSITIVE));
            }
            if when != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                errors.push(FieldError::invalid(&path.child("minDomains"), domains, detail));
            }
        }
        for (name, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            if let Some(policy) = policy {
                checks::one_of(errors, &path.child(name), policy, &["Honor", "Ignore"]);
            }
        }
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        keys_and_selector(errors, &path, keys, &[], constraint.label_selector.as_ref());
        checks::label_selector(errors, &path.child("labelSelector"), constraint.label_selector.as_ref());
    }
}

/// Makes part of the selectors what the keys say of the pod's own labels, as upstream does when a pod is made.
pub fn apply_label_keys(spec: &mut PodSpec, labels: Option<&BTreeMap<String, String>>) {
    let Some(labels) = labels else { return };
    let apply = |selector: &mut Option<LabelSelector>, keys: &Option<Vec<String>>, operator: &str| {
        let Some(selector) = selector else { return };
        for key in keys.iter().flatten() {
            let Some(value) = labels.get(key) else { continue };
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    };
    let (near, far) = match &mut spec.affinity {
        Some(affinity) => (affinity.pod_affinity.as_mut(), affinity.pod_anti_affinity.as_mut()),
        None => (None, None),
    };
    let near = near.into_iter().flat_map(|near| {
        let preferred = near.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
        let required = near.required_during_scheduling_ignored_during_execution.iter_mut().flatten();
        preferred.map(|weighted| &mut weighted.pod_affinity_term).chain(required)
    });
    let far = far.into_iter().flat_map(|far| {
        let preferred = far.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
        let required = far.required_during_scheduling_ignored_during_execution.iter_mut().flatten();
        preferred.map(|weighted| &mut weighted.pod_affinity_term).chain(required)
    });
    for term in near.chain(far) {
        apply(&mut term.label_selector, &term.match_label_keys, "In");
        apply(&mut term.label_selector, &term.mismatch_label_keys, "NotIn");
    }
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        apply(&mut constraint.label_selector, &constraint.match_label_keys, "In");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_become_part_of_selectors() {
        let mut spec: PodSpec = serde_json::from_value(json!({"containers": [],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "z", "labelSelector": {}, "matchLabelKeys": ["a", "gone"], "mismatchLabelKeys": ["b"]}]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"a": "1"}}, "matchLabelKeys": ["a"]}]}))
        .expect("a spec");
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        apply_label_keys(&mut spec, Some(&labels));
        let value = serde_json::to_value(&spec).expect("json");
        assert_eq!(
            value.pointer("/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector"),
            Some(&json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]},
                {"key": "b", "operator": "NotIn", "values": ["2"]}]}))
        );
        let mut errors = FieldErrors::new();
        let constraints = spec.topology_spread_constraints.unwrap_or_default();
        spread_constraints(&mut errors, &FieldPath::root("s"), &constraints);
        assert_eq!(
            errors.to_string(),
            "s[0][0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector"
        );
    }

    #[test]
    fn a_spec_without_keys_stays_as_it_is() {
        let mut spec = PodSpec::default();
        apply_label_keys(&mut spec, Some(&BTreeMap::new()));
        assert_eq!(spec, PodSpec::default());
    }
}
