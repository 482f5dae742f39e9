//! DaemonSet: one pod on each node that fits. An annotation counts the generations of the template, as the first versions did.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::selector::LabelSelector;
use k8s_openapi::api::apps::v1::{DaemonSet as Object, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, Subresource, checks, internal, pod_spec, workload};

/// See the module.
pub struct DaemonSet;

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Kind for DaemonSet {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["ds"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Change];

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        Some(&mut object.spec.as_mut()?.template)
    }

    fn set_defaults(object: &mut Object) {
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.entry(TEMPLATE_GENERATION.to_owned()).or_insert_with(|| "0".to_owned());
        let spec = object.spec.get_or_insert_default();
        spec.revision_history_limit.get_or_insert(10);
        pod_spec::set_template_defaults(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_deref().unwrap_or_default().is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(DaemonSetStatus::default());
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(TEMPLATE_GENERATION.to_owned(), "1".to_owned());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        let known = old.metadata.annotations.as_ref().and_then(|annotations| annotations.get(TEMPLATE_GENERATION));
        let known: i64 = known.and_then(|text| text.parse().ok()).unwrap_or_default();
        let changed = new.spec.as_ref().map(|spec| &spec.template) != old.spec.as_ref().map(|spec| &spec.template);
        let next = (known + i64::from(changed)).to_string();
        new.metadata.annotations.get_or_insert_default().insert(TEMPLATE_GENERATION.to_owned(), next);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = object.spec.clone().unwrap_or_default();
        selector_and_template(&mut errors, &path, &spec);
        checks::non_negative_option(&mut errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
        update_strategy(&mut errors, &path.child("updateStrategy"), &spec.update_strategy.unwrap_or_default());
        checks::non_negative_option(&mut errors, &path.child("revisionHistoryLimit"), spec.revision_history_limit);
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

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (status, old) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
        let counts = [
            ("currentNumberScheduled", Some(i64::from(status.current_number_scheduled))),
            ("numberMisscheduled", Some(i64::from(status.number_misscheduled))),
            ("desiredNumberScheduled", Some(i64::from(status.desired_number_scheduled))),
            ("numberReady", Some(i64::from(status.number_ready))),
            ("observedGeneration", status.observed_generation),
            ("updatedNumberScheduled", status.updated_number_scheduled.map(i64::from)),
            ("numberAvailable", status.number_available.map(i64::from)),
            ("numberUnavailable", status.number_unavailable.map(i64::from)),
            ("collisionCount", status.collision_count.map(i64::from)),
        ];
        workload::counts(&mut errors, &counts);
        workload::collisions(&mut errors, status.collision_count, old.collision_count);
        errors
    }

    fn columns() -> Columns<Object> {
        let [containers, images] = workload::container_columns();
        let columns = vec![
            NAME,
            printing::integer(
                "Desired",
                "The total number of nodes that should be running the daemon pod (including nodes correctly running the daemon pod). More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
            ),
            printing::integer(
                "Current",
                "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod. More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
            ),
            printing::integer(
                "Ready",
                "numberReady is the number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
            ),
            printing::integer("Up-to-date", "The total number of nodes that are running updated daemon pod"),
            printing::integer(
                "Available",
                "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available (ready for at least spec.minReadySeconds)",
            ),
            printing::text(
                "Node Selector",
                "NodeSelector is a selector which must be true for the pod to fit on a node. Selector which must match a node's labels for the pod to be scheduled on that node. More info: https://kubernetes.io/docs/concepts/configuration/assign-pod-node/",
            ),
            AGE,
            containers,
            images,
            printing::wide(
                "Selector",
                "A label query over pods that are managed by the daemon set. Must match in order to be controlled. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let template = spec.template.spec.as_ref();
                let [containers, images] = workload::container_cells(Some(&spec.template));
                vec![
                    printing::name(&object.metadata),
                    Value::from(status.desired_number_scheduled),
                    Value::from(status.current_number_scheduled),
                    Value::from(status.number_ready),
                    Value::from(status.updated_number_scheduled.unwrap_or_default()),
                    Value::from(status.number_available.unwrap_or_default()),
                    Value::from(printing::labels(template.and_then(|spec| spec.node_selector.as_ref()))),
                    printing::age(&object.metadata, now),
                    containers,
                    images,
                    Value::from(printing::selector(Some(&spec.selector))),
                ]
            },
        }
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let template = |object: &Object| object.spec.clone().map(|spec| spec.template);
        let now = template(new);
        match old {
            Some(old) if template(old) == now => Vec::new(),
            Some(_) | None => pod_spec::template_warnings(&FieldPath::root("spec").child("template"), now.as_ref()),
        }
    }
}

/// The selector may be missing: it finds nothing then, and so not the template's pods.
fn selector_and_template(errors: &mut FieldErrors, path: &FieldPath, spec: &DaemonSetSpec) {
    let (selector, template) = (path.child("selector"), path.child("template"));
    let missing = workload::is_missing(&spec.selector);
    checks::label_selector(errors, &selector, Some(&spec.selector));
    let usable = if missing { Ok(LabelSelector::nothing()) } else { LabelSelector::from_meta(&spec.selector) };
    if let Ok(usable) = usable {
        workload::labels_match(errors, &template, &usable, &spec.template);
    }
    if !missing {
        workload::emptiness(errors, &selector, &spec.selector, "daemonset");
    }
    pod_spec::validate_template(errors, &template, &spec.template);
    workload::restart_always(errors, &template, &spec.template, "DaemonSet");
}

fn update_strategy(errors: &mut FieldErrors, path: &FieldPath, strategy: &DaemonSetUpdateStrategy) {
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(&path.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            let zero = IntOrString::Int(0);
            let (unavailable, surge) =
                (rolling.max_unavailable.as_ref().unwrap_or(&zero), rolling.max_surge.as_ref().unwrap_or(&zero));
            let both = [("maxUnavailable", unavailable), ("maxSurge", surge)];
            both.iter().for_each(|(name, value)| checks::number_or_percent(errors, &path.child(name), value));
            both.iter().for_each(|(name, value)| checks::at_most_hundred_percent(errors, &path.child(name), value));
            match (checks::is_zero(unavailable), checks::is_zero(surge)) {
                (true, true) => {
                    errors.push(FieldError::required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
                }
                (false, false) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(&path.child("maxSurge"), surge, detail));
                }
                (true | false, _) => {}
            }
        }
        (_, _) => {
            let supported = ["RollingUpdate", "OnDelete"];
            errors.push(internal::unsupported(path, "apps/v1.DaemonSetUpdateStrategy", strategy, &supported));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_template_is_counted() {
        let mut object: Object = serde_json::from_value(json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}))
        .expect("a daemon set");
        DaemonSet::set_defaults(&mut object);
        DaemonSet::prepare_for_create(&mut object);
        assert_eq!(DaemonSet::validate(&object).to_string(), "[]");
        let counted =
            |object: &Object| object.metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATE_GENERATION)).cloned();
        let mut new = object.clone();
        new.spec.as_mut().expect("a spec").template.spec.as_mut().expect("a pod").containers[0].image =
            Some("j".to_owned());
        DaemonSet::prepare_for_update(&mut new, &object);
        let spec = new.spec.as_mut().expect("a spec");
        let kept = std::mem::take(&mut spec.selector);
        let message =
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`";
        assert_eq!(DaemonSet::validate(&new).to_string(), message);
        let spec = new.spec.as_mut().expect("a spec");
        spec.selector = kept;
        spec.update_strategy = serde_json::from_value(json!({"type": "Never"})).ok();
        let message = "spec.updateStrategy: Unsupported value: {\"Type\":\"Never\",\"RollingUpdate\":null}: supported values: \"RollingUpdate\", \"OnDelete\"";
        assert_eq!(DaemonSet::validate(&new).to_string(), message);
        assert_eq!((counted(&object).as_deref(), counted(&new).as_deref()), (Some("1"), Some("2")));
    }
}
