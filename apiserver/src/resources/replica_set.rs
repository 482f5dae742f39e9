//! ReplicaSet: a number of pods from a template, usually owned by a Deployment.

use api::field::{FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::{ReplicaSet as Object, ReplicaSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, Subresource, checks, pod_spec, workload};

/// See the module.
pub struct ReplicaSet;

impl Kind for ReplicaSet {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["rs"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.replicas", &["/status/replicas", "0"])];
    const GENERATION: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Change];

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        object.spec.as_mut()?.template.as_mut()
    }

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        pod_spec::set_template_defaults(spec.template.get_or_insert_default());
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(ReplicaSetStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = object.spec.clone().unwrap_or_default();
        checks::non_negative_option(&mut errors, &path.child("replicas"), spec.replicas);
        checks::non_negative_option(&mut errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
        // Upstream's message speaks of a deployment here too.
        let unusable = "invalid label selector";
        let selector = workload::selector_errors(&mut errors, &path, &spec.selector, "deployment", unusable);
        let template = spec.template.unwrap_or_default();
        workload::template_errors(&mut errors, &path.child("template"), selector.as_ref(), &template, "ReplicaSet");
        errors
    }

    /// Upstream looks at it as at a new one and then as at a changed one: what is wrong is told twice.
    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        errors.extend(Self::validate(new));
        let selector = |object: &Object| object.spec.clone().unwrap_or_default().selector;
        workload::selector_stays(&mut errors, &selector(new), &selector(old));
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let status = new.status.clone().unwrap_or_default();
        let parts = [
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        let [labeled, ready, available] = parts.map(|(name, count)| (name, count.map(i64::from)));
        let whole = ("replicas", Some(i64::from(status.replicas)));
        let terminating = ("terminatingReplicas", status.terminating_replicas.map(i64::from));
        let observed = ("observedGeneration", status.observed_generation);
        let counts = [whole, labeled, ready, available, terminating, observed];
        workload::counts(&mut errors, &counts);
        workload::parts_of(&mut errors, status.replicas, &parts);
        let (ready, detail) = (status.ready_replicas.unwrap_or_default(), "cannot be greater than readyReplicas");
        workload::at_most(&mut errors, "availableReplicas", status.available_replicas, ready, detail);
        errors
    }

    fn columns() -> Columns<Object> {
        let [containers, images] = workload::container_columns();
        let columns = vec![
            NAME,
            printing::integer(
                "Desired",
                "Replicas is the number of desired pods. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
            ),
            printing::integer(
                "Current",
                "Replicas is the most recently observed number of non-terminating pods. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
            ),
            printing::integer(
                "Ready",
                "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
            ),
            AGE,
            containers,
            images,
            printing::wide(
                "Selector",
                "Selector is a label query over pods that should match the replica count. Label keys and values that must match in order to be controlled by this replica set. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let [containers, images] = workload::container_cells(spec.template.as_ref());
                vec![
                    printing::name(&object.metadata),
                    Value::from(spec.replicas.unwrap_or_default()),
                    Value::from(status.replicas),
                    Value::from(status.ready_replicas.unwrap_or_default()),
                    printing::age(&object.metadata, now),
                    containers,
                    images,
                    Value::from(printing::selector(Some(&spec.selector))),
                ]
            },
        }
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let template = new.spec.as_ref().and_then(|spec| spec.template.as_ref());
        workload::warnings(&new.metadata, old.map(|old| &old.metadata), template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_restart_always() {
        let mut object: Object = serde_json::from_value(json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "OnFailure"}}}}))
        .expect("a replica set");
        ReplicaSet::set_defaults(&mut object);
        let message =
            "spec.template.spec.restartPolicy: Unsupported value: \"OnFailure\": supported values: \"Always\"";
        assert_eq!(ReplicaSet::validate(&object).to_string(), message);
    }

    #[test]
    fn no_count_is_negative() {
        let status = json!({"replicas": 0, "terminatingReplicas": -1});
        let object = serde_json::from_value(json!({"status": status})).expect("a replica set");
        let message = "status.terminatingReplicas: Invalid value: -1: must be greater than or equal to 0";
        assert_eq!(ReplicaSet::validate_status_update(&object, &object).to_string(), message);
    }
}
