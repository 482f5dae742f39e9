//! ReplicationController: a number of pods from a template. Selector and labels default to the template's labels.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController as Object, ReplicationControllerStatus};
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, Subresource, checks, pod_spec, workload};

/// See the module.
pub struct ReplicationController;

impl Kind for ReplicationController {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.replicas", &["/status/replicas", "0"])];
    const GENERATION: bool = true;
    const ORPHANS_BY_DEFAULT: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Change];

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        object.spec.as_mut()?.template.as_mut()
    }

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else { return };
        pod_spec::set_template_defaults(template);
        let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        if labels.is_empty() {
            return;
        }
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        if object.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
            object.metadata.labels = Some(labels);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(ReplicationControllerStatus::default());
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
        let selector = spec.selector.unwrap_or_default();
        checks::non_negative_option(&mut errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
        if selector.is_empty() {
            errors.push(FieldError::required(&path.child("selector"), ""));
        }
        checks::non_negative_option(&mut errors, &path.child("replicas"), spec.replicas);
        let path = path.child("template");
        let Some(template) = spec.template else {
            errors.push(FieldError::required(&path, ""));
            return errors;
        };
        let selector = LabelSelector::from_map(&selector);
        workload::template_errors(&mut errors, &path, Some(&selector), &template, "ReplicationController");
        errors
    }

    /// Upstream looks at it as at a new one and then as at a changed one: what is wrong is told twice.
    fn validate_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        errors.extend(Self::validate(new));
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("status");
        let status = new.status.clone().unwrap_or_default();
        let parts = [
            ("fullyLabeledReplicas", status.fully_labeled_replicas.unwrap_or_default()),
            ("readyReplicas", status.ready_replicas.unwrap_or_default()),
            ("availableReplicas", status.available_replicas.unwrap_or_default()),
        ];
        checks::non_negative(&mut errors, &path.child("replicas"), status.replicas);
        for (name, count) in parts {
            checks::non_negative(&mut errors, &path.child(name), count);
        }
        checks::non_negative_option(&mut errors, &path.child("observedGeneration"), status.observed_generation);
        for (name, count) in parts {
            if count > status.replicas {
                errors.push(FieldError::invalid(&path.child(name), count, "cannot be greater than status.replicas"));
            }
        }
        if status.available_replicas > status.ready_replicas {
            let detail = "cannot be greater than readyReplicas";
            errors.push(FieldError::invalid(&path.child("availableReplicas"), status.available_replicas, detail));
        }
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::integer(
                "Desired",
                "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
            ),
            printing::integer(
                "Current",
                "Replicas is the most recently observed number of replicas. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
            ),
            printing::integer("Ready", "The number of ready replicas for this replication controller."),
            AGE,
            printing::wide("Containers", "Names of each container in the template."),
            printing::wide("Images", "Images referenced by each container in the template."),
            printing::wide(
                "Selector",
                "Selector is a label query over pods that should match the Replicas count. If Selector is empty, it is defaulted to the labels present on the Pod template. Label keys and values that must match in order to be controlled by this replication controller, if empty defaulted to labels on Pod template. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let template = spec.template.as_ref().and_then(|template| template.spec.as_ref());
                let (containers, images) = printing::containers(template);
                vec![
                    printing::name(&object.metadata),
                    Value::from(spec.replicas.unwrap_or_default()),
                    Value::from(status.replicas),
                    Value::from(status.ready_replicas.unwrap_or_default()),
                    printing::age(&object.metadata, now),
                    Value::from(containers),
                    Value::from(images),
                    Value::from(printing::labels(spec.selector.as_ref())),
                ]
            },
        }
    }

    /// Of a change upstream warns by the template that was, not by the one that comes.
    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let shown = old.unwrap_or(new).spec.as_ref().and_then(|spec| spec.template.as_ref());
        workload::warnings(&new.metadata, old.map(|old| &old.metadata), shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn controller(spec: Value) -> Object {
        let mut object =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).expect("a controller");
        ReplicationController::set_defaults(&mut object);
        object
    }

    fn template(fields: Value) -> Value {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        for (name, value) in fields.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        json!({"metadata": {"labels": {"a": "b"}}, "spec": spec})
    }

    #[test]
    fn selector_and_labels_come_from_the_template() {
        let object = controller(json!({"template": template(json!({}))}));
        let spec = object.spec.expect("a spec");
        assert_eq!(spec.selector, object.metadata.labels);
        assert_eq!((spec.replicas, spec.selector.map(|s| s.len())), (Some(1), Some(1)));
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"template": template(json!({})), "selector": {"a": "c"}}),
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ),
            (
                json!({"template": template(json!({})), "replicas": -1}),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (json!({"selector": {"a": "b"}}), "spec.template: Required value"),
            (
                json!({"template": template(json!({"restartPolicy": "Never"}))}),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}),
                "spec.selector: Required value",
            ),
        ];
        for (spec, message) in table {
            assert_eq!(ReplicationController::validate(&controller(spec)).to_string(), message);
        }
    }

    #[test]
    fn parts_are_not_more_than_the_whole() {
        let mut object = controller(json!({}));
        object.status = Some(ReplicationControllerStatus { replicas: -1, ..Default::default() });
        let message = "[status.replicas: Invalid value: -1: must be greater than or equal to 0, status.fullyLabeledReplicas: Invalid value: 0: cannot be greater than status.replicas, status.readyReplicas: Invalid value: 0: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 0: cannot be greater than status.replicas]";
        assert_eq!(ReplicationController::validate_status_update(&object, &object).to_string(), message);
    }
}
