//! Deployment: replica sets that replace each other step by step.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::{
    Deployment as Object, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, internal, pod_spec, workload};

/// See the module.
pub struct Deployment;

impl Kind for Deployment {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["deploy"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: bool = true;

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        Some(&mut object.spec.as_mut()?.template)
    }

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        pod_spec::set_template_defaults(&mut spec.template);
        let strategy = spec.strategy.get_or_insert_default();
        if strategy.type_.as_deref().unwrap_or_default().is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(DeploymentStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        // Unlike with other kinds, annotations are part of what is desired.
        let noted = |object: &Object| object.metadata.annotations.clone().unwrap_or_default();
        if noted(new) != noted(old) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &FieldPath::root("spec"), &object.spec.clone().unwrap_or_default());
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        let selector = |object: &Object| object.spec.clone().unwrap_or_default().selector;
        workload::selector_stays(&mut errors, &selector(new), &selector(old));
        errors
    }

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (status, old) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
        let parts = [
            ("updatedReplicas", status.updated_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        let [updated, ready, available] = parts.map(|(name, count)| (name, count.map(i64::from)));
        let counts = [
            ("observedGeneration", status.observed_generation),
            ("replicas", status.replicas.map(i64::from)),
            updated,
            ready,
            available,
            ("unavailableReplicas", status.unavailable_replicas.map(i64::from)),
            ("terminatingReplicas", status.terminating_replicas.map(i64::from)),
            ("collisionCount", status.collision_count.map(i64::from)),
        ];
        workload::counts(&mut errors, &counts);
        workload::parts_of(&mut errors, status.replicas.unwrap_or_default(), &parts);
        let (ready, detail) = (status.ready_replicas.unwrap_or_default(), "cannot be greater than readyReplicas");
        workload::at_most(&mut errors, "availableReplicas", status.available_replicas, ready, detail);
        workload::collisions(&mut errors, status.collision_count, old.collision_count);
        errors
    }

    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        match subresource {
            Some(Subresource::Status) => &["spec", "metadata.labels"],
            _ => &["status"],
        }
    }

    fn columns() -> Columns<Object> {
        let [containers, images] = workload::container_columns();
        let columns = vec![
            NAME,
            printing::text("Ready", "Number of the pod with ready state"),
            printing::text(
                "Up-to-date",
                "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
            ),
            printing::text(
                "Available",
                "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
            ),
            AGE,
            containers,
            images,
            printing::wide(
                "Selector",
                "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected by this deployment. It must match the pod template's labels.",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let [containers, images] = workload::container_cells(Some(&spec.template));
                vec![
                    printing::name(&object.metadata),
                    workload::ready_cell(status.ready_replicas, spec.replicas),
                    Value::from(status.updated_replicas.unwrap_or_default()),
                    Value::from(status.available_replicas.unwrap_or_default()),
                    printing::age(&object.metadata, now),
                    containers,
                    images,
                    Value::from(printing::selector(Some(&spec.selector))),
                ]
            },
        }
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let template = new.spec.as_ref().map(|spec| &spec.template);
        workload::warnings(&new.metadata, old.map(|old| &old.metadata), template)
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &DeploymentSpec) {
    checks::non_negative_option(errors, &path.child("replicas"), spec.replicas);
    let selector = workload::selector_errors(errors, path, &spec.selector, "deployment", "invalid label selector");
    // Upstream's message speaks of a ReplicaSet here too.
    workload::template_errors(errors, &path.child("template"), selector.as_ref(), &spec.template, "ReplicaSet");
    strategy(errors, &path.child("strategy"), &spec.strategy.clone().unwrap_or_default());
    checks::non_negative_option(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
    checks::non_negative_option(errors, &path.child("revisionHistoryLimit"), spec.revision_history_limit);
    if let Some(seconds) = spec.progress_deadline_seconds {
        let path = path.child("progressDeadlineSeconds");
        checks::non_negative(errors, &path, seconds);
        if seconds <= spec.min_ready_seconds.unwrap_or_default() {
            errors.push(FieldError::invalid(&path, seconds, "must be greater than minReadySeconds"));
        }
    }
}

fn strategy(errors: &mut FieldErrors, path: &FieldPath, strategy: &DeploymentStrategy) {
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&path.child("rollingUpdate"), detail));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors
                .push(FieldError::required(&path.child("rollingUpdate"), "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, &path.child("rollingUpdate"), rolling),
        (_, _) => {
            let supported = ["Recreate", "RollingUpdate"];
            errors.push(internal::unsupported(path, "apps/v1.DeploymentStrategy", strategy, &supported));
        }
    }
}

fn rolling_update(errors: &mut FieldErrors, path: &FieldPath, rolling: &RollingUpdateDeployment) {
    let zero = IntOrString::Int(0);
    let (unavailable, surge) =
        (rolling.max_unavailable.as_ref().unwrap_or(&zero), rolling.max_surge.as_ref().unwrap_or(&zero));
    checks::number_or_percent(errors, &path.child("maxUnavailable"), unavailable);
    checks::number_or_percent(errors, &path.child("maxSurge"), surge);
    if checks::is_zero(unavailable) && checks::is_zero(surge) {
        errors.push(FieldError::invalid(
            &path.child("maxUnavailable"),
            unavailable,
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    checks::at_most_hundred_percent(errors, &path.child("maxUnavailable"), unavailable);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(fields: Value) -> Object {
        let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
        for (name, value) in fields.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        let mut value = json!({"metadata": {"name": "d"}, "spec": spec});
        crate::resources::wire::accept("apps/v1", "Deployment", &mut value).expect("well formed");
        let mut object = serde_json::from_value(value).expect("a deployment");
        Deployment::set_defaults(&mut object);
        object
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (json!({}), "[]"),
            (
                json!({"selector": null}),
                "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`]",
            ),
            (json!({"selector": {}}), "spec.selector: Invalid value: {}: empty selector is invalid for deployment"),
            (
                json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
                "[spec.selector.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator, spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Near\"}]}: invalid label selector]",
            ),
            (
                json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ),
            (
                json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                json!({"strategy": {"rollingUpdate": {"maxUnavailable": "150%"}}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"150%\": must not be greater than 100%",
            ),
            (
                json!({"minReadySeconds": 10, "progressDeadlineSeconds": 5}),
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(Deployment::validate(&deployment(fields)).to_string(), message);
        }
    }

    #[test]
    fn no_count_is_negative() {
        let old = deployment(json!({}));
        let status = serde_json::from_value(json!({"terminatingReplicas": -1})).expect("a status");
        let new = Object { status: Some(status), ..old.clone() };
        let message = "status.terminatingReplicas: Invalid value: -1: must be greater than or equal to 0";
        assert_eq!(Deployment::validate_status_update(&new, &old).to_string(), message);
    }

    #[test]
    fn annotations_are_desired_too() {
        let mut old = deployment(json!({}));
        old.metadata.generation = Some(3);
        let mut new = old.clone();
        Deployment::prepare_for_update(&mut new, &old);
        assert_eq!(new.metadata.generation, Some(3));
        new.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        Deployment::prepare_for_update(&mut new, &old);
        assert_eq!(new.metadata.generation, Some(4));
        new.metadata.name = Some("a.b".to_owned());
        let warning = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]";
        assert_eq!(Deployment::warnings(&new, None), [warning]);
        assert!(Deployment::warnings(&new, Some(&old)).is_empty());
    }

    #[test]
    fn cells() {
        let row = (Deployment::columns().cells)(&deployment(json!({})), k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(row), json!(["d", "0/1", 0, 0, "<unknown>", "c", "i", "a=b"]));
    }
}
