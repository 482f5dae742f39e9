//! The scopes of a quota: which pods and claims it counts.

use k8s_openapi::api::core::v1::{
    Affinity, PersistentVolumeClaim, Pod, PodAffinityTerm, ResourceQuota, ScopedResourceSelectorRequirement,
};

use super::Subject;
use crate::pods::{self, QosClass};

/// All scopes of a quota in one form; those in `spec.scopes` must exist.
pub fn of(quota: &ResourceQuota) -> Vec<ScopedResourceSelectorRequirement> {
    let Some(spec) = quota.spec.as_ref() else { return Vec::new() };
    let plain = spec.scopes.iter().flatten().map(|scope| ScopedResourceSelectorRequirement {
        operator: "Exists".to_owned(),
        scope_name: scope.clone(),
        values: None,
    });
    let selected = spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
    plain.chain(selected.into_iter().flatten().cloned()).collect()
}

/// Whether a scope holds for an object; scopes of another kind of object never do.
pub fn holds(scope: &ScopedResourceSelectorRequirement, subject: &Subject<'_>) -> bool {
    match subject {
        Subject::Pod(pod) => of_pod(scope, pod),
        Subject::Claim(claim) => scope.scope_name == "VolumeAttributesClass" && of_claim(scope, claim),
        Subject::Service(_) | Subject::Other(..) => false,
    }
}

fn of_pod(scope: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let Some(spec) = pod.spec.as_ref() else { return false };
    let terminating = spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
    let best_effort = || pods::qos_class(spec) == QosClass::BestEffort;
    match scope.scope_name.as_str() {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = spec.priority_class_name.as_deref().filter(|name| !name.is_empty());
            selects(scope, class)
        }
        "CrossNamespacePodAffinity" => spec.affinity.as_ref().is_some_and(crosses_namespaces),
        _ => false,
    }
}

/// A claim refers to the class it asks for, the one it has, and the one it is changed to.
fn of_claim(scope: &ScopedResourceSelectorRequirement, claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let names = [
        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()),
        status.and_then(|status| status.current_volume_attributes_class_name.as_deref()),
        status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref()),
    ];
    let names: Vec<&str> = names.into_iter().flatten().filter(|name| !name.is_empty()).collect();
    if names.is_empty() { selects(scope, None) } else { names.into_iter().any(|name| selects(scope, Some(name))) }
}

fn selects(scope: &ScopedResourceSelectorRequirement, value: Option<&str>) -> bool {
    let listed = || value.is_some_and(|value| scope.values.iter().flatten().any(|one| one == value));
    match scope.operator.as_str() {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => listed(),
        "NotIn" => !listed(),
        _ => false,
    }
}

fn crosses_namespaces(affinity: &Affinity) -> bool {
    let crosses = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty()) || term.namespace_selector.is_some()
    };
    let near = affinity.pod_affinity.as_ref();
    let apart = affinity.pod_anti_affinity.as_ref();
    let required = [
        near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref()),
        apart.and_then(|apart| apart.required_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = [
        near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref()),
        apart.and_then(|apart| apart.preferred_during_scheduling_ignored_during_execution.as_ref()),
    ];
    required.into_iter().flatten().flatten().any(crosses)
        || preferred.into_iter().flatten().flatten().any(|term| crosses(&term.pod_affinity_term))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn scopes_of_pods() {
        let term = json!({"topologyKey": "k", "namespaces": ["other"]});
        let far = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let limited = json!([{"name": "c", "resources": {"limits": {"cpu": "1"}}}]);
        let selector = |operator: &str, values: &[&str]| json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
        let exists = |scope: &str| json!({"scopeName": scope, "operator": "Exists"});
        let table: [(Value, Value, bool); 13] = [
            (exists("Terminating"), json!({"containers": [], "activeDeadlineSeconds": 5}), true),
            (exists("Terminating"), json!({"containers": []}), false),
            (exists("NotTerminating"), json!({"containers": []}), true),
            (exists("BestEffort"), json!({"containers": [{"name": "c"}]}), true),
            (exists("NotBestEffort"), json!({"containers": limited}), true),
            (exists("BestEffort"), json!({"containers": limited}), false),
            (exists("PriorityClass"), json!({"containers": [], "priorityClassName": "high"}), true),
            (selector("In", &["high"]), json!({"containers": [], "priorityClassName": "high"}), true),
            (selector("NotIn", &["high"]), json!({"containers": [], "priorityClassName": "high"}), false),
            (selector("NotIn", &["high"]), json!({"containers": []}), true),
            (selector("DoesNotExist", &[]), json!({"containers": []}), true),
            (exists("CrossNamespacePodAffinity"), json!({"containers": [], "affinity": far}), true),
            (exists("CrossNamespacePodAffinity"), json!({"containers": []}), false),
        ];
        for (scope, spec, expected) in table {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a pod");
            let parsed = serde_json::from_value(scope.clone()).expect("a scope");
            assert_eq!(holds(&parsed, &Subject::Pod(&pod)), expected, "{scope} {spec}");
        }
    }

    #[test]
    fn scopes_of_claims_and_others() {
        let scope = |operator: &str| ScopedResourceSelectorRequirement {
            operator: operator.to_owned(),
            scope_name: "VolumeAttributesClass".to_owned(),
            values: Some(vec!["gold".to_owned()]),
        };
        let claim = json!({"metadata": {}, "spec": {}, "status": {"currentVolumeAttributesClassName": "gold"}});
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        assert!(holds(&scope("In"), &Subject::Claim(&claim)));
        assert!(!holds(&scope("In"), &Subject::Claim(&PersistentVolumeClaim::default())));
        assert!(!holds(&scope("In"), &Subject::Other("", "secrets")));
    }
}
