//! HorizontalPodAutoscaler: stored and served as autoscaling/v2; autoscaling/v1 is a second face that knows only the CPU target.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, MetricSpec, MetricTarget, ResourceMetricSource,
};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler as Object, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use serde_json::{Map, Value, json};

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
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &FieldPath::root("spec"), &object.spec);
        errors
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
        from_stored: to_v1,
        to_stored: from_v1,
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
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        rules.policies = Some(policies);
    }
}

/// What v1 can't say is kept in annotations, as upstream does.
const METRICS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

fn is_cpu_target(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"]["target"]["type"] == "Utilization"
}

fn to_v1(mut stored: Value) -> Value {
    let mut kept: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = stored.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = spec.remove("metrics").and_then(|metrics| metrics.as_array().cloned()).unwrap_or_default();
        let (cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(is_cpu_target);
        if let Some(target) = cpu.first().map(|metric| metric["resource"]["target"]["averageUtilization"].clone()) {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
        }
        if !others.is_empty() {
            kept.push((METRICS_ANNOTATION, Value::from(others)));
        }
        kept.extend(spec.remove("behavior").map(|behavior| (BEHAVIOR_ANNOTATION, behavior)));
    }
    if let Some(status) = stored.get_mut("status").and_then(Value::as_object_mut) {
        status.entry("currentReplicas").or_insert(Value::from(0));
        let current =
            status.remove("currentMetrics").and_then(|metrics| metrics.as_array().cloned()).unwrap_or_default();
        let of_cpu = |metric: &&Value| metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
        if let Some(cpu) =
            current.iter().find(of_cpu).and_then(|metric| metric["resource"]["current"].get("averageUtilization"))
        {
            status.insert("currentCPUUtilizationPercentage".to_owned(), cpu.clone());
        }
        if !current.is_empty() {
            kept.push((CURRENT_ANNOTATION, Value::from(current)));
        }
        kept.extend(status.remove("conditions").map(|conditions| (CONDITIONS_ANNOTATION, conditions)));
    }
    if !kept.is_empty() && stored["metadata"].is_object() {
        for (key, value) in kept {
            stored["metadata"]["annotations"][key] = Value::from(value.to_string());
        }
    }
    stored["apiVersion"] = Value::from("autoscaling/v1");
    stored
}

fn from_v1(mut served: Value) -> Value {
    let mut take = |key: &str| -> Option<Value> {
        let annotations = served.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
        annotations.remove(key).and_then(|text| serde_json::from_str(text.as_str()?).ok())
    };
    let (metrics, behavior) = (take(METRICS_ANNOTATION), take(BEHAVIOR_ANNOTATION));
    let (conditions, current) = (take(CONDITIONS_ANNOTATION), take(CURRENT_ANNOTATION));
    if let Some(spec) = served.get_mut("spec").and_then(Value::as_object_mut) {
        let mut all = metrics.and_then(|metrics| metrics.as_array().cloned()).unwrap_or_default();
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage").filter(|target| !target.is_null()) {
            let target = json!({"type": "Utilization", "averageUtilization": target});
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        set(spec, "metrics", Some(Value::from(all)).filter(|all| all != &json!([])));
        set(spec, "behavior", behavior);
    }
    if let Some(status) = served.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("currentCPUUtilizationPercentage");
        set(status, "conditions", conditions);
        set(status, "currentMetrics", current);
    }
    if served.get("apiVersion").is_some() {
        served["apiVersion"] = Value::from("autoscaling/v2");
    }
    served
}

fn set(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value);
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &HorizontalPodAutoscalerSpec) {
    if let Some(min) = spec.min_replicas.filter(|min| *min < 1) {
        errors.push(FieldError::invalid(&path.child("minReplicas"), min, "must be greater than or equal to 1"));
    }
    if spec.max_replicas < 1 {
        errors.push(FieldError::invalid(&path.child("maxReplicas"), spec.max_replicas, checks::POSITIVE));
    }
    if spec.min_replicas.is_some_and(|min| spec.max_replicas < min) {
        errors.push(FieldError::invalid(
            &path.child("maxReplicas"),
            spec.max_replicas,
            "must be greater than or equal to `minReplicas`",
        ));
    }
    let target = &spec.scale_target_ref;
    let target_path = path.child("scaleTargetRef");
    for (name, value) in [("kind", &target.kind), ("name", &target.name)] {
        if value.is_empty() {
            errors.push(FieldError::required(&target_path.child(name), ""));
        } else {
            errors.push_invalid(&target_path.child(name), value, names::path_segment(value));
        }
    }
    let version = target.api_version.as_deref().unwrap_or_default();
    if version.is_empty() || (!version.contains('/') && version != "v1") {
        errors.push(FieldError::invalid(
            &target_path.child("apiVersion"),
            version,
            "apiVersion must specify API group",
        ));
    }
    for (i, metric) in spec.metrics.iter().flatten().enumerate() {
        validate_metric(errors, &path.child("metrics").index(i), metric);
    }
}

fn validate_metric(errors: &mut FieldErrors, path: &FieldPath, metric: &MetricSpec) {
    let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    if metric.type_.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
    } else {
        checks::one_of(errors, &path.child("type"), &metric.type_, &kinds);
    }
    let sources = [
        ("ContainerResource", "containerResource", metric.container_resource.is_some()),
        ("External", "external", metric.external.is_some()),
        ("Object", "object", metric.object.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
    ];
    for (kind, field, set) in sources {
        if set && kind != metric.type_ {
            let detail = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(field), detail));
        } else if !set && kind == metric.type_ {
            errors.push(FieldError::required(
                &path.child(field),
                "must populate information for the given metric source",
            ));
        }
    }
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
    let shown = metrics.iter().enumerate().take(SHOWN).map(|(i, metric)| {
        let Some(resource) = &metric.resource else { return format!("<unknown>/<{}>", metric.type_.to_lowercase()) };
        let now = current.get(i).and_then(|metric| metric.resource.as_ref()).map(|resource| &resource.current);
        match (&resource.target.average_value, resource.target.average_utilization) {
            (Some(value), _) => {
                let now = now.and_then(|now| now.average_value.as_ref()).map_or("<unknown>", |value| value.0.as_str());
                format!("{}: {now}/{}", resource.name, value.0)
            }
            (None, target) => {
                let now = now
                    .and_then(|now| now.average_utilization)
                    .map_or("<unknown>".to_owned(), |value| format!("{value}%"));
                format!(
                    "{}: {now}/{}",
                    resource.name,
                    target.map_or("<auto>".to_owned(), |target| format!("{target}%"))
                )
            }
        }
    });
    let text = shown.collect::<Vec<_>>().join(", ");
    match metrics.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN => format!("{text} + {} more...", count - SHOWN),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_faces() {
        let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"kind": "K", "name": "d"}}, "status": {"currentReplicas": 0, "desiredReplicas": 0}});
        let stored = from_v1(v1.clone());
        assert_eq!(
            stored["spec"]["metrics"][0]["resource"]["target"],
            json!({"type": "Utilization", "averageUtilization": 50})
        );
        assert_eq!(to_v1(stored), v1);
    }

    #[test]
    fn what_is_refused() {
        let scaler = |spec: Value| {
            let mut object: Object =
                serde_json::from_value(json!({"metadata": {"name": "h"}, "spec": spec})).expect("an autoscaler");
            HorizontalPodAutoscaler::set_defaults(&mut object);
            object
        };
        let table = [
            (
                json!({"minReplicas": 5, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}),
                "[spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`, spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group]",
            ),
            (
                json!({"maxReplicas": 3}),
                "[spec.scaleTargetRef.kind: Required value, spec.scaleTargetRef.name: Required value, spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group]",
            ),
        ];
        for (spec, message) in table {
            assert_eq!(HorizontalPodAutoscaler::validate(&scaler(spec)).to_string(), message);
        }
        let good = scaler(
            json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}),
        );
        assert_eq!(HorizontalPodAutoscaler::validate(&good).to_string(), "[]");
        let row = (columns().cells)(&good, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(row), json!(["h", "Deployment/d", "cpu: <unknown>/80%", "1", 3, 0, "<unknown>"]));
    }
}
