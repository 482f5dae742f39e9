//! StatefulSet: pods with names that stay, and volumes of their own.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet as Object, StatefulSetSpec, StatefulSetStatus,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};

use super::persistent_volume_claim::{self, PersistentVolumeClaim};
use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, internal, name_or_prefix, pod_spec, workload};

/// See the module.
pub struct StatefulSet;

impl Kind for StatefulSet {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["sts"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: bool = true;

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        Some(&mut object.spec.as_mut()?.template)
    }

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
        drop_max_unavailable(object);
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        drop_max_unavailable(new);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &FieldPath::root("spec"), &object.spec.clone().unwrap_or_default(), None);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate_spec(&mut errors, &FieldPath::root("spec"), &new, Some(&old));
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

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (status, old) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
        let parts = [
            ("readyReplicas", status.ready_replicas),
            ("currentReplicas", status.current_replicas),
            ("updatedReplicas", status.updated_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        workload::counts(&mut errors, &[("replicas", Some(i64::from(status.replicas)))]);
        workload::counts(&mut errors, &parts.map(|(name, count)| (name, count.map(i64::from))));
        let rest = [
            ("observedGeneration", status.observed_generation),
            ("collisionCount", status.collision_count.map(i64::from)),
        ];
        workload::counts(&mut errors, &rest);
        workload::parts_of(&mut errors, status.replicas, &parts);
        let (ready, detail) =
            (status.ready_replicas.unwrap_or_default(), "cannot be greater than status.readyReplicas");
        workload::at_most(&mut errors, "availableReplicas", status.available_replicas, ready, detail);
        workload::collisions(&mut errors, status.collision_count, old.collision_count);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::is_dns1123_label, name, prefix)
    }

    fn columns() -> Columns<Object> {
        let [containers, images] = workload::container_columns();
        let ready = printing::text("Ready", "Number of the pod with ready state");
        let columns = vec![NAME, ready, AGE, containers, images];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let [containers, images] = workload::container_cells(Some(&spec.template));
                vec![
                    printing::name(&object.metadata),
                    workload::ready_cell(status.ready_replicas, spec.replicas),
                    printing::age(&object.metadata, now),
                    containers,
                    images,
                ]
            },
        }
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let (spec, path) = (new.spec.clone().unwrap_or_default(), FieldPath::root("spec"));
        let mut warnings = Vec::new();
        if workload::desires_more(&new.metadata, old.map(|old| &old.metadata)) {
            warnings.extend(pod_spec::template_warnings(&path.child("template"), Some(&spec.template)));
        }
        for (i, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
            let path = path.child("volumeClaimTemplates").index(i);
            // Upstream's paths differ, and one is not that of the field.
            let path = if old.is_some() { path.child("Spec") } else { path };
            warnings.extend(claim.spec.iter().flat_map(|spec| pod_spec::claim_warnings(&path, spec)));
        }
        if spec.revision_history_limit.is_some_and(|limit| limit < 0) {
            warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        warnings
    }
}

/// The feature is off in 1.36, as it is in the releases before: the field counts as unset.
fn drop_max_unavailable(object: &mut Object) {
    let strategy = object.spec.as_mut().and_then(|spec| spec.update_strategy.as_mut());
    if let Some(rolling) = strategy.and_then(|strategy| strategy.rolling_update.as_mut()) {
        rolling.max_unavailable = None;
    }
}

/// All errors of a spec. What was wrong before and can't be changed, or was not looked at in older releases, may stay so.
fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &StatefulSetSpec, old: Option<&StatefulSetSpec>) {
    policies(errors, path, spec);
    if old.is_none() {
        for (i, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
            let path = path.child("volumeClaimTemplates").index(i).child("spec");
            persistent_volume_claim::validate_spec(errors, &path, &claim.spec.clone().unwrap_or_default());
        }
    }
    checks::non_negative_option(errors, &path.child("replicas"), spec.replicas);
    checks::non_negative_option(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
    checks::non_negative_option(errors, &path.child("ordinals.start"), spec.ordinals.as_ref().and_then(|o| o.start));
    if let (Some(name), None) = (spec.service_name.as_ref().filter(|name| !name.is_empty()), old) {
        errors.push_invalid(&path.child("serviceName"), name, names::is_dns1123_label(name));
    }
    let selector = workload::selector_errors(errors, path, &spec.selector, "statefulset", "");
    let path = path.child("template");
    if let Some(selector) = selector {
        workload::labels_match(errors, &path, &selector, &spec.template);
        let found = |spec: &StatefulSetSpec| {
            let mut errors = FieldErrors::new();
            pod_spec::validate_template(&mut errors, &path, &with_claims(spec));
            errors
        };
        if old.is_none_or(|old| found(old).is_empty()) {
            errors.extend(found(spec));
        }
    }
    workload::restart_always(errors, &path, &spec.template, "StatefulSet");
}

/// The template as pods get it: each claim is a volume of its name, in place of one that the template may have.
fn with_claims(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let names =
        spec.volume_claim_templates.iter().flatten().map(|claim| claim.metadata.name.clone().unwrap_or_default());
    let names: BTreeSet<String> = names.collect();
    let claim = |name: &String| Volume {
        name: name.clone(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None }),
        ..Volume::default()
    };
    if !names.is_empty() {
        let pod = template.spec.get_or_insert_default();
        let rest = pod.volumes.take().into_iter().flatten().filter(|volume| !names.contains(&volume.name));
        pod.volumes = Some(names.iter().map(claim).chain(rest).collect());
    }
    template
}

fn policies(errors: &mut FieldErrors, path: &FieldPath, spec: &StatefulSetSpec) {
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
}

fn update_strategy(errors: &mut FieldErrors, path: &FieldPath, strategy: &StatefulSetUpdateStrategy) {
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let rolling =
                RollingUpdateStatefulSetStrategy { partition: rolling.partition.or(Some(0)), ..rolling.clone() };
            let shown = "apps/v1.RollingUpdateStatefulSetStrategy";
            errors.push(internal::invalid(&path.child("rollingUpdate"), shown, rolling, detail));
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            checks::non_negative_option(errors, &path.child("partition"), rolling.partition);
            if let Some(unavailable) = &rolling.max_unavailable {
                let path = path.child("maxUnavailable");
                checks::number_or_percent(errors, &path, unavailable);
                if checks::is_zero(unavailable) {
                    errors.push(FieldError::invalid(&path, unavailable, "cannot be 0"));
                }
                checks::at_most_hundred_percent(errors, &path, unavailable);
            }
        }
        (_, _) => {
            let (shown, detail) = ("apps/v1.StatefulSetUpdateStrategy", "must be 'RollingUpdate' or 'OnDelete'");
            errors.push(internal::invalid(path, shown, strategy, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
    fn claims_are_volumes_of_the_template() {
        let claim = |spec: Value| json!({"metadata": {"name": "data"}, "spec": spec});
        let good = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let template = |mount: &str| {
            let container = json!({"name": "c", "image": "i", "volumeMounts": [{"name": mount, "mountPath": "/d"}]});
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}})
        };
        let set =
            |mount: &str, claim: Value| stateful(json!({"template": template(mount), "volumeClaimTemplates": [claim]}));
        assert_eq!(StatefulSet::validate(&set("data", claim(good.clone()))).to_string(), "[]");
        let lost = set("other", claim(good));
        let message = "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\"";
        assert_eq!(StatefulSet::validate(&lost).to_string(), message);
        // What was wrong before may stay.
        assert_eq!(StatefulSet::validate_update(&lost, &lost).to_string(), "[]");
        let bad = set("data", claim(json!({"resources": {"requests": {"storage": "100m"}}})));
        assert_eq!(
            StatefulSet::validate(&bad).to_string(),
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"
        );
        assert_eq!(
            StatefulSet::warnings(&bad, None),
            [
                "spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer"
            ]
        );
    }

    #[test]
    fn what_a_status_may_count() {
        let status = |status: Value| Object {
            status: Some(serde_json::from_value(status).expect("a status")),
            ..stateful(json!({}))
        };
        let old = status(json!({"replicas": 1, "collisionCount": 2}));
        let new = status(json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "collisionCount": 1}));
        assert_eq!(
            StatefulSet::validate_status_update(&new, &old).to_string(),
            "[status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas, status.collisionCount: Invalid value: 1: cannot be decremented]"
        );
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(StatefulSet::validate(&stateful(json!({}))).to_string(), "[]");
        let table = [
            (
                json!({"podManagementPolicy": "Any"}),
                "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only allowed for updateStrategy 'RollingUpdate'",
            ),
            (
                json!({"updateStrategy": {"type": "Never"}}),
                "spec.updateStrategy: Invalid value: {\"Type\":\"Never\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'",
            ),
            (
                json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "0%"}}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": cannot be 0",
            ),
            (json!({"selector": {}}), "spec.selector: Invalid value: {}: empty selector is invalid for statefulset"),
            (json!({"revisionHistoryLimit": -1}), "[]"),
        ];
        for (fields, message) in table {
            let mut fields = fields;
            if fields["selector"] == json!({}) {
                fields["selector"] = json!({"matchLabels": {}});
            }
            assert_eq!(StatefulSet::validate(&stateful(fields)).to_string(), message);
        }
        assert_eq!(StatefulSet::validate_name("a.b", false), ["must not contain dots"]);
        let mut limited = stateful(json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}));
        StatefulSet::prepare_for_create(&mut limited);
        let strategy = limited.spec.and_then(|spec| spec.update_strategy).and_then(|strategy| strategy.rolling_update);
        assert_eq!(strategy.map(|rolling| rolling.max_unavailable), Some(None));
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
