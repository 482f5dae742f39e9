//! Where a pod may run: affinity, tolerations, spreading, gates.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSchedulingGate, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

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
    label_keys(errors, &path.child("matchLabelKeys"), matching, term.label_selector.as_ref());
    label_keys(errors, &path.child("mismatchLabelKeys"), other, term.label_selector.as_ref());
    for (i, key) in matching.iter().enumerate().filter(|(_, key)| other.contains(key)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(&path.child("matchLabelKeys").index(i), key, detail));
    }
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    checks::label_key(errors, &path.child("topologyKey"), &term.topology_key);
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
        spread_label_keys(errors, &path.child("matchLabelKeys"), constraint);
        checks::label_selector(errors, &path.child("labelSelector"), constraint.label_selector.as_ref());
    }
}

fn spread_label_keys(errors: &mut FieldErrors, path: &FieldPath, constraint: &TopologySpreadConstraint) {
    let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
    if !keys.is_empty() && constraint.label_selector.is_none() {
        errors.push(FieldError::forbidden(path, "must not be specified when labelSelector is not set"));
    }
    let selected = |key: &String| {
        let selector = constraint.label_selector.as_ref();
        selector.is_some_and(|selector| {
            selector.match_labels.as_ref().is_some_and(|labels| labels.contains_key(key))
                || selector.match_expressions.iter().flatten().any(|expression| expression.key == *key)
        })
    };
    for (i, key) in keys.iter().enumerate() {
        checks::label_key(errors, &path.index(i), key);
        if selected(key) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(i), key, detail));
        }
    }
}
