//! StatefulSet: pods with names that stay, and volumes of their own.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::{
    StatefulSet as Object, StatefulSetSpec, StatefulSetStatus, StatefulSetUpdateStrategy,
};
use serde_json::Value;

use super::persistent_volume_claim::PersistentVolumeClaim;
use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, pod_spec, workload};

/// See the module.
pub struct StatefulSet;

impl Kind for StatefulSet {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["sts"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        if spec.pod_management_policy.as_deref().unwrap_or_default().is_empty() {
            spec.pod_management_policy = Some("OrderedReady".to_owned());
        }
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        pod_spec::set_template_defaults(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_deref().unwrap_or_default().is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            strategy.rolling_update.get_or_insert_default().partition.get_or_insert(0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        for policy in [&mut retention.when_deleted, &mut retention.when_scaled] {
            if policy.as_deref().unwrap_or_default().is_empty() {
                *policy = Some("Retain".to_owned());
            }
        }
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            PersistentVolumeClaim::set_defaults(claim);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(StatefulSetStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &FieldPath::root("spec"), &object.spec.clone().unwrap_or_default());
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let allowed = StatefulSetSpec {
            replicas: old.replicas,
            ordinals: old.ordinals.clone(),
            template: old.template.clone(),
            update_strategy: old.update_strategy.clone(),
            revision_history_limit: old.revision_history_limit,
            persistent_volume_claim_retention_policy: old.persistent_volume_claim_retention_policy.clone(),
            min_ready_seconds: old.min_ready_seconds,
            ..new
        };
        if allowed != old {
            let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden(&FieldPath::root("spec"), detail));
        }
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let status = new.status.clone().unwrap_or_default();
        let parts = [
            ("readyReplicas", status.ready_replicas.unwrap_or_default()),
            ("currentReplicas", status.current_replicas.unwrap_or_default()),
            ("updatedReplicas", status.updated_replicas.unwrap_or_default()),
            ("availableReplicas", status.available_replicas.unwrap_or_default()),
        ];
        workload::parts_of(&mut errors, status.replicas, &parts);
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Ready", "Number of the pod with ready state"),
            AGE,
            printing::wide("Containers", "Names of each container in the template."),
            printing::wide("Images", "Images referenced by each container in the template."),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let (containers, images) = printing::containers(spec.template.spec.as_ref());
                vec![
                    printing::name(&object.metadata),
                    Value::from(format!(
                        "{}/{}",
                        status.ready_replicas.unwrap_or_default(),
                        spec.replicas.unwrap_or_default()
                    )),
                    printing::age(&object.metadata, now),
                    Value::from(containers),
                    Value::from(images),
                ]
            },
        }
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &StatefulSetSpec) {
    let policy = spec.pod_management_policy.as_deref().unwrap_or_default();
    if !["OrderedReady", "Parallel"].contains(&policy) {
        errors.push(FieldError::invalid(
            &path.child("podManagementPolicy"),
            policy,
            "must be 'OrderedReady' or 'Parallel'",
        ));
    }
    update_strategy(errors, &path.child("updateStrategy"), &spec.update_strategy.clone().unwrap_or_default());
    let retention = spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
    let retention_path = path.child("persistentVolumeClaimRetentionPolicy");
    for (name, policy) in [("whenDeleted", retention.when_deleted), ("whenScaled", retention.when_scaled)] {
        checks::one_of(
            errors,
            &retention_path.child(name),
            policy.as_deref().unwrap_or_default(),
            &["Retain", "Delete"],
        );
    }
    checks::non_negative_option(errors, &path.child("replicas"), spec.replicas);
    checks::non_negative_option(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
    checks::non_negative_option(errors, &path.child("ordinals.start"), spec.ordinals.as_ref().and_then(|o| o.start));
    checks::non_negative_option(errors, &path.child("revisionHistoryLimit"), spec.revision_history_limit);
    workload::selector_and_template(errors, path, &spec.selector, &spec.template, "StatefulSet");
}

fn update_strategy(errors: &mut FieldErrors, path: &FieldPath, strategy: &StatefulSetUpdateStrategy) {
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&path.child("rollingUpdate"), rolling, detail));
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            checks::non_negative_option(errors, &path.child("partition"), rolling.partition);
            if let Some(unavailable) = &rolling.max_unavailable {
                checks::number_or_percent(errors, &path.child("maxUnavailable"), unavailable);
                checks::at_most_hundred_percent(errors, &path.child("maxUnavailable"), unavailable);
            }
        }
        (_, _) => errors.push(FieldError::invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stateful(fields: Value) -> Object {
        let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
        for (name, value) in fields.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        let mut object =
            serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).expect("a stateful set");
        StatefulSet::set_defaults(&mut object);
        object
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(StatefulSet::validate(&stateful(json!({}))).to_string(), "[]");
        let message = "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'";
        assert_eq!(StatefulSet::validate(&stateful(json!({"podManagementPolicy": "Any"}))).to_string(), message);
        let (old, new) = (stateful(json!({"serviceName": "s"})), stateful(json!({"serviceName": "t"})));
        assert!(
            StatefulSet::validate_update(&new, &old)
                .to_string()
                .starts_with("spec: Forbidden: updates to statefulset spec for fields other than")
        );
        assert_eq!(
            StatefulSet::validate_update(&stateful(json!({"serviceName": "s", "replicas": 5})), &old).to_string(),
            "[]"
        );
    }
}
