//! HorizontalPodAutoscaler: stored and served as autoscaling/v2; autoscaling/v1 is a second face that knows only the CPU target.

mod check;
mod faces;

use api::field::{FieldErrors, FieldPath};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricSource,
};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler as Object, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, ServedAs, Subresource, checks};

/// The kind of autoscaling/v2.
pub struct HorizontalPodAutoscaler;

/// The kind of autoscaling/v1.
pub struct OldAutoscaler;

const CPU_TARGET: i32 = 80;

impl Kind for HorizontalPodAutoscaler {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];

    fn set_defaults(object: &mut Object) {
        let spec = &mut object.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            let target = MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(CPU_TARGET),
                ..MetricTarget::default()
            };
            let resource = ResourceMetricSource { name: "cpu".to_owned(), target };
            spec.metrics = Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(resource),
                ..MetricSpec::default()
            }]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let policy = |kind: &str, value| HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: 15 };
            let up = behavior.scale_up.get_or_insert_default();
            rule_defaults(up, Some(0), vec![policy("Pods", 4), policy("Percent", 100)]);
            let down = behavior.scale_down.get_or_insert_default();
            rule_defaults(down, None, vec![policy("Percent", 100)]);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(HorizontalPodAutoscalerStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        check::validate(&object.spec, None)
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        check::validate(&new.spec, Some(&old.spec))
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let status = new.status.clone().unwrap_or_default();
        let path = FieldPath::root("status");
        checks::non_negative_option(&mut errors, &path.child("currentReplicas"), status.current_replicas);
        checks::non_negative(&mut errors, &path.child("desiredReplicas"), status.desired_replicas);
        errors
    }

    fn columns() -> Columns<Object> {
        columns()
    }
}

impl Kind for OldAutoscaler {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const SERVED_AS: Option<&'static ServedAs> = Some(&ServedAs {
        group: "autoscaling",
        version: "v1",
        kind: "HorizontalPodAutoscaler",
        from_stored: faces::to_v1,
        to_stored: faces::from_v1,
    });

    fn set_defaults(object: &mut Object) {
        HorizontalPodAutoscaler::set_defaults(object);
    }

    fn prepare_for_create(object: &mut Object) {
        HorizontalPodAutoscaler::prepare_for_create(object);
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        HorizontalPodAutoscaler::prepare_for_update(new, old);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        HorizontalPodAutoscaler::prepare_for_status_update(new, old);
    }

    fn validate(object: &Object) -> FieldErrors {
        HorizontalPodAutoscaler::validate(object)
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        HorizontalPodAutoscaler::validate_update(new, old)
    }

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        HorizontalPodAutoscaler::validate_status_update(new, old)
    }

    fn columns() -> Columns<Object> {
        columns()
    }
}

fn rule_defaults(rules: &mut HPAScalingRules, window: Option<i32>, policies: Vec<HPAScalingPolicy>) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    if rules.stabilization_window_seconds.is_none() {
        rules.stabilization_window_seconds = window;
    }
    rules.policies.get_or_insert(policies);
}

fn columns() -> Columns<Object> {
    let columns = vec![
        NAME,
        printing::text(
            "Reference",
            "scaleTargetRef points to the target resource to scale, and is used to the pods for which metrics should be collected, as well as to actually change the replica count.",
        ),
        printing::text(
            "Targets",
            "metrics contains the specifications for which to use to calculate the desired replica count (the maximum replica count across all metrics will be used).",
        ),
        printing::text(
            "MinPods",
            "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down.",
        ),
        printing::text(
            "MaxPods",
            "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up. It cannot be less that minReplicas.",
        ),
        printing::text(
            "Replicas",
            "currentReplicas is current number of replicas of pods managed by this autoscaler, as last seen by the autoscaler.",
        ),
        AGE,
    ];
    Columns {
        columns,
        cells: |object, now| {
            let (spec, status) = (object.spec.clone(), object.status.clone().unwrap_or_default());
            let target = &spec.scale_target_ref;
            vec![
                printing::name(&object.metadata),
                Value::from(format!("{}/{}", target.kind, target.name)),
                Value::from(targets(&spec, &status)),
                Value::from(spec.min_replicas.map_or("<unset>".to_owned(), |min| min.to_string())),
                Value::from(spec.max_replicas),
                Value::from(status.current_replicas.unwrap_or_default()),
                printing::age(&object.metadata, now),
            ]
        },
    }
}

/// `cpu: 12%/80%`, of at most two metrics.
fn targets(spec: &HorizontalPodAutoscalerSpec, status: &HorizontalPodAutoscalerStatus) -> String {
    const SHOWN: usize = 2;
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let current = status.current_metrics.as_deref().unwrap_or_default();
    let shown = metrics.iter().enumerate().take(SHOWN).map(|(i, metric)| shown(metric, current.get(i)));
    let text = shown.collect::<Vec<_>>().join(", ");
    match metrics.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN => format!("{text} + {} more...", count - SHOWN),
        _ => text,
    }
}

fn shown(metric: &MetricSpec, current: Option<&MetricStatus>) -> String {
    let amount = |amount: Option<&Quantity>| amount.map_or("0".to_owned(), |amount| amount.0.clone());
    // Values that everything outside of the pods has; only some tell whether they are averages.
    let value = |target: &MetricTarget, now: Option<&MetricValueStatus>, tells: bool| {
        let (now, target, note) = match (&target.average_value, tells) {
            (Some(average), true) => {
                let now = now.and_then(|now| now.average_value.as_ref()).map(|now| now.0.clone());
                (now, average.0.clone(), " (avg)")
            }
            (average, false) => (now.map(|now| amount(now.average_value.as_ref())), amount(average.as_ref()), ""),
            (None, true) => (now.map(|now| amount(now.value.as_ref())), amount(target.value.as_ref()), ""),
        };
        format!("{}/{target}{note}", now.unwrap_or_else(|| "<unknown>".to_owned()))
    };
    let resource = |name: &str, target: &MetricTarget, now: Option<&MetricValueStatus>| {
        if target.average_value.is_some() {
            return format!("{name}: {}", value(target, now, false));
        }
        let percent = |value: Option<i32>, none: &str| value.map_or(none.to_owned(), |value| format!("{value}%"));
        let now = percent(now.and_then(|now| now.average_utilization), "<unknown>");
        format!("{name}: {now}/{}", percent(target.average_utilization, "<auto>"))
    };
    match (metric.type_.as_str(), metric) {
        ("External", MetricSpec { external: Some(source), .. }) => {
            let now = current.and_then(|current| current.external.as_ref()).map(|found| &found.current);
            value(&source.target, now, true)
        }
        ("Object", MetricSpec { object: Some(source), .. }) => {
            let now = current.and_then(|current| current.object.as_ref()).map(|found| &found.current);
            value(&source.target, now, true)
        }
        ("Pods", MetricSpec { pods: Some(source), .. }) => {
            let now = current.and_then(|current| current.pods.as_ref()).map(|found| &found.current);
            value(&source.target, now, false)
        }
        ("Resource", MetricSpec { resource: Some(source), .. }) => {
            let now = current.and_then(|current| current.resource.as_ref()).map(|found| &found.current);
            resource(&source.name, &source.target, now)
        }
        ("ContainerResource", MetricSpec { container_resource: Some(source), .. }) => {
            let now = current.and_then(|current| current.container_resource.as_ref()).map(|found| &found.current);
            resource(&source.name, &source.target, now)
        }
        (_, _) => "<unknown type>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scaler(spec: Value) -> Object {
        let mut object: Object =
            serde_json::from_value(json!({"metadata": {"name": "h"}, "spec": spec})).expect("an autoscaler");
        HorizontalPodAutoscaler::set_defaults(&mut object);
        object
    }

    #[test]
    fn cells() {
        let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        let good = scaler(json!({"maxReplicas": 3, "scaleTargetRef": target}));
        assert_eq!(HorizontalPodAutoscaler::validate(&good).to_string(), "[]");
        let row = (columns().cells)(&good, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(row), json!(["h", "Deployment/d", "cpu: <unknown>/80%", "1", 3, 0, "<unknown>"]));
    }

    #[test]
    fn what_is_measured() {
        let metric = |target: Value| json!({"metric": {"name": "m"}, "target": target, "describedObject": {"kind": "K", "name": "n"}});
        let table = [
            (json!([]), json!([]), "<none>"),
            (
                json!([{"type": "Pods", "pods": metric(json!({"type": "AverageValue", "averageValue": "5"}))},
                    {"type": "Object", "object": metric(json!({"type": "Value", "value": "7"}))},
                    {"type": "External", "external": metric(json!({"type": "Value", "value": "7"}))}]),
                json!([{"type": "Pods", "pods": {"metric": {"name": "m"}, "current": {"averageValue": "3"}}}]),
                "3/5, <unknown>/7 + 1 more...",
            ),
            (
                json!([{"type": "External", "external": metric(json!({"type": "AverageValue", "averageValue": "5"}))}]),
                json!([{"type": "External", "external": {"metric": {"name": "m"}, "current": {"averageValue": "3"}}}]),
                "3/5 (avg)",
            ),
            (
                json!([{"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}]),
                json!([]),
                "memory: <unknown>/1Gi",
            ),
        ];
        for (metrics, current, text) in table {
            let spec = json!({"maxReplicas": 1, "metrics": metrics, "scaleTargetRef": {"kind": "K", "name": "n"}});
            let status = json!({"desiredReplicas": 1, "currentMetrics": current});
            let object: Object =
                serde_json::from_value(json!({"spec": spec, "status": status})).expect("an autoscaler");
            assert_eq!(targets(&object.spec, &object.status.expect("a status")), text);
        }
    }

    #[test]
    fn policies_are_filled_in_unless_given() {
        let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "behavior": {"scaleDown": {"policies": []}}});
        let object = scaler(spec);
        let up = object.spec.behavior.clone().and_then(|behavior| behavior.scale_up).and_then(|up| up.policies);
        assert_eq!(up.map(|policies| policies.len()), Some(2));
        let message = "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy";
        assert_eq!(HorizontalPodAutoscaler::validate(&object).to_string(), message);
    }
}
