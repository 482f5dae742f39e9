//! ResourceQuota: how much a namespace may use. The quota controller and admission fill in what is used.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    ResourceQuota as Object, ResourceQuotaSpec, ResourceQuotaStatus, ScopedResourceSelectorRequirement,
};
use serde_json::{Value, json};

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};

/// See the module.
pub struct ResourceQuota;

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
/// What a scope for pods other than BestEffort can count.
const OF_PODS: &[&str] = &["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// What a scope for claims can count.
const OF_CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];
/// Scopes that either hold or not, whatever their values.
const EXISTING: &[&str] =
    &["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity"];

impl Kind for ResourceQuota {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["quota"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const RETURNS_DELETED: bool = true;

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(ResourceQuotaStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = object.spec.clone().unwrap_or_default();
        let path = FieldPath::root("spec").child("hard");
        for (resource, amount) in spec.hard.iter().flatten() {
            quota_resource(&mut errors, &path.key(resource), resource);
            checks::resource_quantity(&mut errors, &path.key(resource), resource, amount);
        }
        scopes(&mut errors, &FieldPath::root("spec").child("scopes"), &spec);
        scope_selector(&mut errors, &FieldPath::root("spec").child("scopeSelector"), &spec);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        let scopes = |object: &Object| {
            let mut scopes = object.spec.as_ref().and_then(|spec| spec.scopes.clone()).unwrap_or_default();
            scopes.sort();
            scopes
        };
        if scopes(new) != scopes(old) {
            let given = new.spec.as_ref().and_then(|spec| spec.scopes.clone());
            errors.push(FieldError::invalid(&FieldPath::root("spec").child("scopes"), given, checks::IMMUTABLE));
        }
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let status = new.status.clone().unwrap_or_default();
        for (field, amounts) in [("hard", status.hard), ("used", status.used)] {
            for (resource, amount) in amounts.iter().flatten() {
                let path = FieldPath::root("status").child(field).key(resource);
                quota_resource(&mut errors, &path, resource);
                checks::resource_quantity(&mut errors, &path, resource, amount);
            }
        }
        errors
    }

    /// Requests that may be more than limits may.
    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let hard = new.spec.as_ref().and_then(|spec| spec.hard.as_ref()).filter(|_| old.is_none());
        let pairs = [
            ("requests.cpu", "cpu", "limits.cpu"),
            ("requests.memory", "memory", "limits.memory"),
            ("requests.storage", "", "limits.storage"),
            ("requests.ephemeral-storage", "", "limits.ephemeral-storage"),
        ];
        let amount = |name: &'static str| hard?.get(name).map(|amount| (name, checks::quantity(amount)));
        let exceeding = pairs.into_iter().filter_map(|(request, bare, limit)| {
            let (request, limit) = (amount(request).or_else(|| amount(bare))?, amount(limit)?);
            (request.1 > limit.1).then_some((request, limit))
        });
        let warn = |((request, asked), (limit, bound))| {
            format!("ResourceQuota {request} ({asked}) should be less than {limit} ({bound})")
        };
        exceeding.map(warn).collect()
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Request",
                "Request represents a minimum amount of cpu/memory that a container may consume.",
            ),
            printing::text(
                "Limit",
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let status = object.status.clone().unwrap_or_default();
                let (hard, used) = (status.hard.unwrap_or_default(), status.used.unwrap_or_default());
                let shown = |limits: bool| {
                    let amounts = hard.iter().filter(|(resource, _)| resource.starts_with("limits.") == limits);
                    let text = amounts.map(|(resource, hard)| {
                        let used = used.get(resource).map_or("0", |used| used.0.as_str());
                        format!("{resource}: {used}/{}", hard.0)
                    });
                    Value::from(text.collect::<Vec<_>>().join(", "))
                };
                vec![printing::name(&object.metadata), shown(false), shown(true), printing::age(&object.metadata, now)]
            },
        }
    }
}

fn quota_resource(errors: &mut FieldErrors, path: &FieldPath, resource: &str) {
    checks::resource_name(errors, path, resource);
    if !resource.contains('/') && !is_standard(resource) {
        errors.push(FieldError::invalid(path, resource, "must be a standard resource for quota"));
    }
}

fn is_standard(resource: &str) -> bool {
    STANDARD.contains(&resource) || checks::is_huge_pages(resource) || resource.starts_with("requests.hugepages-")
}

/// Whether a scope can count a standard resource.
fn counts(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            OF_PODS.contains(&resource)
        }
        "VolumeAttributesClass" => OF_CLAIMS.contains(&resource),
        _ => true,
    }
}

/// The standard resources of a quota that a scope can't count.
fn uncounted<'a>(spec: &'a ResourceQuotaSpec, scope: &str) -> impl Iterator<Item = &'a str> {
    let hard = spec.hard.iter().flatten().map(|(resource, _)| resource.as_str());
    hard.filter(move |resource| is_standard(resource) && !counts(scope, resource))
}

fn conflicting(scopes: &[&str]) -> usize {
    let pairs = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
    pairs.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))).count()
}

fn scopes(errors: &mut FieldErrors, path: &FieldPath, spec: &ResourceQuotaSpec) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.push(FieldError::invalid(path, scopes, "unsupported scope"));
        }
        for _ in uncounted(spec, scope) {
            errors.push(FieldError::invalid(path, scopes, "unsupported scope applied to resource"));
        }
    }
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    for _ in 0..conflicting(&names) {
        errors.push(FieldError::invalid(path, scopes, "conflicting scopes"));
    }
}

fn scope_selector(errors: &mut FieldErrors, path: &FieldPath, spec: &ResourceQuotaSpec) {
    let Some(selector) = spec.scope_selector.as_ref() else { return };
    let path = path.child("matchExpressions");
    let all = selector.match_expressions.as_deref().unwrap_or_default();
    for one in all {
        let (scope, operator) = (one.scope_name.as_str(), one.operator.as_str());
        let values = one.values.as_deref().unwrap_or_default();
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in uncounted(spec, scope) {
            let detail = format!("{}: unsupported scope applied to resource", internal_selector(all));
            errors.push(FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail });
        }
        if EXISTING.contains(&scope) && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(&path.child("operator"), operator, detail));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(&path.child("values"), values, detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(FieldError::invalid(&path.child("operator"), operator, "not a valid selector operator")),
        }
    }
    let names: Vec<&str> = all.iter().map(|one| one.scope_name.as_str()).collect();
    for _ in 0..conflicting(&names) {
        errors.push(FieldError::invalid(&path, &spec.scopes, "conflicting scopes"));
    }
}

/// Upstream shows its internal struct here, in its own order of fields.
fn internal_selector(all: &[ScopedResourceSelectorRequirement]) -> String {
    let shown = all.iter().map(|one| {
        let (scope, operator, values) = (json!(one.scope_name), json!(one.operator), json!(one.values));
        format!("{{\"ScopeName\":{scope},\"Operator\":{operator},\"Values\":{values}}}")
    });
    format!("{{\"MatchExpressions\":[{}]}}", shown.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ),
            (
                json!({"hard": {"pods": "1"}, "scopes": ["Worst"]}),
                "spec.scopes: Invalid value: [\"Worst\"]: unsupported scope",
            ),
            (
                json!({"hard": {"requests.ephemeral-storage": "1"}, "scopes": ["Terminating"]}),
                "spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource",
            ),
            (
                json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            (
                json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}]}}),
                "spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            (
                json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "Worst", "operator": "Near"}]}}),
                "[spec.scopeSelector.matchExpressions.scopeName: Invalid value: \"Worst\": unsupported scope, spec.scopeSelector.matchExpressions.operator: Invalid value: \"Near\": not a valid selector operator]",
            ),
            (
                json!({"hard": {"services": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "BestEffort", "operator": "Exists"}]}}),
                "spec.scopeSelector.matchExpressions: Invalid value: {\"MatchExpressions\":[{\"ScopeName\":\"BestEffort\",\"Operator\":\"Exists\",\"Values\":null}]}: unsupported scope applied to resource",
            ),
            (json!({"hard": {"pods": "1500m"}}), "spec.hard[pods]: Invalid value: \"1500m\": must be an integer"),
            (
                json!({"hard": {"moons": "1"}}),
                "[spec.hard[moons]: Invalid value: \"moons\": must be a standard resource type or fully qualified, spec.hard[moons]: Invalid value: \"moons\": must be a standard resource for quota]",
            ),
            (
                json!({"hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "3", "services.nodeports": "0"}}),
                "[]",
            ),
        ];
        for (spec, message) in table {
            let object: Object = serde_json::from_value(json!({"spec": spec})).expect("a quota");
            assert_eq!(ResourceQuota::validate(&object).to_string(), message);
        }
    }

    #[test]
    fn requests_beyond_limits_are_warned_of() {
        let hard = json!({"cpu": "2", "limits.cpu": "1500m", "requests.memory": "1Gi", "limits.memory": "1Gi",
            "requests.ephemeral-storage": "2", "limits.ephemeral-storage": "1"});
        let object: Object = serde_json::from_value(json!({"spec": {"hard": hard}})).expect("a quota");
        let expected = [
            "ResourceQuota cpu (2) should be less than limits.cpu (1500m)",
            "ResourceQuota requests.ephemeral-storage (2) should be less than limits.ephemeral-storage (1)",
        ];
        assert_eq!(ResourceQuota::warnings(&object, None), expected);
        assert!(ResourceQuota::warnings(&object, Some(&object)).is_empty());
    }

    #[test]
    fn cells() {
        let object: Object = serde_json::from_value(json!({"metadata": {"name": "q"},
            "status": {"hard": {"pods": "5", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1"}}}))
        .expect("a quota");
        let row = (ResourceQuota::columns().cells)(&object, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["q", "cpu: 0/1, pods: 1/5", "limits.cpu: 0/2", "<unknown>"]);
    }
}
