//! ResourceQuota: how much a namespace may use. The quota controller and admission fill in what is used.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{ResourceQuota as Object, ResourceQuotaSpec, ResourceQuotaStatus};
use serde_json::Value;

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
const OF_PODS: &[&str] = &[
    "pods",
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
    "ephemeral-storage",
    "requests.ephemeral-storage",
    "limits.ephemeral-storage",
];

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
            let given = new.spec.as_ref().and_then(|spec| spec.scopes.clone()).unwrap_or_default();
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
                    let amounts = hard.iter().filter(|(resource, _)| resource.starts_with("limits") == limits);
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
    let standard =
        STANDARD.contains(&resource) || checks::is_huge_pages(resource) || resource.starts_with("requests.hugepages-");
    if !resource.contains('/') && !standard {
        errors.push(FieldError::invalid(path, resource, "must be a standard resource for quota"));
    }
}

fn scopes(errors: &mut FieldErrors, path: &FieldPath, spec: &ResourceQuotaSpec) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.push(FieldError::invalid(path, scopes, "unsupported scope"));
        }
        for resource in spec.hard.iter().flatten().map(|(resource, _)| resource.as_str()) {
            let counted = match scope.as_str() {
                "BestEffort" => resource == "pods",
                "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
                    OF_PODS.contains(&resource)
                }
                _ => true,
            };
            if STANDARD.contains(&resource) && !counted {
                errors.push(FieldError::invalid(path, scopes, "unsupported scope applied to resource"));
            }
        }
    }
    let has = |scope: &str| scopes.iter().any(|given| given == scope);
    if (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating")) {
        errors.push(FieldError::invalid(path, scopes, "conflicting scopes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn cells() {
        let object: Object = serde_json::from_value(json!({"metadata": {"name": "q"},
            "status": {"hard": {"pods": "5", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1"}}}))
        .expect("a quota");
        let row = (ResourceQuota::columns().cells)(&object, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["q", "cpu: 0/1, pods: 1/5", "limits.cpu: 0/2", "<unknown>"]);
    }
}
