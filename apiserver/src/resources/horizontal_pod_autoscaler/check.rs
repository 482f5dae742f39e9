//! What an autoscaler may say: its target, its metrics and how fast it scales. Entry point: [`validate`].

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, ExternalMetricSource, HPAScalingPolicy,
    HPAScalingRules, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget, ObjectMetricSource,
    PodsMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resources::{checks, pod_spec};

const MAX_WINDOW: i32 = 3600;
const MAX_PERIOD: i32 = 1800;
const METRICS: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

/// What is asked of the version that a reference names.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    /// A group must be there.
    WithGroup,
    /// It must be a version.
    Readable,
    /// It was there before.
    Any,
}

/// All errors of an autoscaler, given what it was before.
pub fn validate(new: &HorizontalPodAutoscalerSpec, old: Option<&HorizontalPodAutoscalerSpec>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    replicas(&mut errors, &path, new, old);
    let target = &new.scale_target_ref;
    let version = match old.map(|old| &old.scale_target_ref) {
        Some(old) if old.api_version == target.api_version && old.kind == target.kind => Version::Any,
        // The only kind of the core group that scales.
        _ if target.kind == "ReplicationController" => Version::Readable,
        Some(_) | None => Version::WithGroup,
    };
    reference(&mut errors, &path.child("scaleTargetRef"), target, version);
    metrics(&mut errors, &path.child("metrics"), new, old);
    if let Some(behavior) = &new.behavior {
        let path = path.child("behavior");
        scaling_rules(&mut errors, &path.child("scaleUp"), behavior.scale_up.as_ref());
        scaling_rules(&mut errors, &path.child("scaleDown"), behavior.scale_down.as_ref());
    }
    errors
}

fn replicas(
    errors: &mut FieldErrors,
    path: &FieldPath,
    new: &HorizontalPodAutoscalerSpec,
    old: Option<&HorizontalPodAutoscalerSpec>,
) {
    let (min, max) = (new.min_replicas, new.max_replicas);
    let least = if old.is_some_and(|old| old.min_replicas == Some(0)) { 0 } else { 1 };
    if let Some(min) = min.filter(|min| *min < least) {
        let detail = format!("must be greater than or equal to {least}");
        errors.push(FieldError::invalid(&path.child("minReplicas"), min, detail));
    }
    let path = path.child("maxReplicas");
    match max {
        0 => errors.push(FieldError::required(&path, "must be set and greater than 0")),
        ..0 => errors.push(FieldError::invalid(&path, max, checks::POSITIVE)),
        1.. => {}
    }
    if min.is_some_and(|min| max < min) {
        errors.push(FieldError::invalid(&path, max, "must be greater than or equal to `minReplicas`"));
    }
}

fn reference(errors: &mut FieldErrors, path: &FieldPath, target: &CrossVersionObjectReference, version: Version) {
    for (name, value) in [("kind", &target.kind), ("name", &target.name)] {
        if value.is_empty() {
            errors.push(FieldError::required(&path.child(name), ""));
        } else {
            errors.push_invalid(&path.child(name), value, names::path_segment(value));
        }
    }
    if let Some(detail) = version_problem(target, version) {
        errors.push(FieldError::invalid(
            &path.child("apiVersion"),
            target.api_version.clone().unwrap_or_default(),
            detail,
        ));
    }
}

fn version_problem(target: &CrossVersionObjectReference, version: Version) -> Option<String> {
    let text = target.api_version.as_deref().unwrap_or_default();
    match (version, text.split('/').count()) {
        (Version::Any, _) => None,
        (_, 3..) => Some(format!("unexpected GroupVersion string: {text}")),
        (Version::WithGroup, _) if text.split_once('/').is_none_or(|(group, _)| group.is_empty()) => {
            Some("apiVersion must specify API group".to_owned())
        }
        (Version::WithGroup | Version::Readable, _) => None,
    }
}

fn metrics(
    errors: &mut FieldErrors,
    path: &FieldPath,
    new: &HorizontalPodAutoscalerSpec,
    old: Option<&HorizontalPodAutoscalerSpec>,
) {
    let old = old.into_iter().flat_map(|old| old.metrics.iter().flatten()).filter(|metric| metric.type_ == "Object");
    let mut described = old.filter_map(|metric| metric.object.as_ref()).map(|object| &object.described_object);
    let unreadable = described.any(|target| version_problem(target, Version::Readable).is_some());
    let version = if unreadable { Version::Any } else { Version::Readable };
    for (i, spec) in new.metrics.iter().flatten().enumerate() {
        metric(errors, &path.index(i), spec, version);
    }
    let outside = |spec: &MetricSpec| ["Object", "External"].contains(&spec.type_.as_str());
    if new.min_replicas == Some(0) && !new.metrics.iter().flatten().any(outside) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn metric(errors: &mut FieldErrors, path: &FieldPath, spec: &MetricSpec, version: Version) {
    let kind = path.child("type");
    if spec.type_.is_empty() {
        errors.push(FieldError::required(&kind, "must specify a metric source type"));
    }
    checks::one_of(errors, &kind, &spec.type_, METRICS);
    first_source(errors, path, spec, version);
    let sources = [
        ("Object", "object", spec.object.is_some()),
        ("External", "external", spec.external.is_some()),
        ("Pods", "pods", spec.pods.is_some()),
        ("Resource", "resource", spec.resource.is_some()),
        ("ContainerResource", "containerResource", spec.container_resource.is_some()),
    ];
    // An unknown type is told twice.
    checks::one_of(errors, &kind, &spec.type_, METRICS);
    for (_, field, _) in sources.iter().filter(|(kind, _, given)| *kind == spec.type_ && !given) {
        errors.push(FieldError::required(&path.child(field), "must populate information for the given metric source"));
    }
    if sources.iter().filter(|(_, _, given)| *given).count() != 1 {
        for (_, field, _) in sources.iter().filter(|(kind, _, given)| *given && *kind != spec.type_) {
            errors.push(FieldError::forbidden(&path.child(field), "must populate the given metric source only"));
        }
    }
}

/// All errors of the first source that is given.
fn first_source(errors: &mut FieldErrors, path: &FieldPath, spec: &MetricSpec, version: Version) {
    if let Some(source) = &spec.object {
        object_source(errors, &path.child("object"), source, version);
    } else if let Some(source) = &spec.external {
        external_source(errors, &path.child("external"), source);
    } else if let Some(source) = &spec.pods {
        pods_source(errors, &path.child("pods"), source);
    } else if let Some(source) = &spec.resource {
        let path = path.child("resource");
        if source.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
        }
        resource_target(errors, &path.child("target"), &source.target);
    } else if let Some(source) = &spec.container_resource {
        container_source(errors, &path.child("containerResource"), source);
    }
}

fn object_source(errors: &mut FieldErrors, path: &FieldPath, source: &ObjectMetricSource, version: Version) {
    reference(errors, &path.child("describedObject"), &source.described_object, version);
    identifier(errors, &path.child("metric"), &source.metric);
    let path = path.child("target");
    target(errors, &path, &source.target);
    if source.target.value.is_none() && source.target.average_value.is_none() {
        let detail = "must set either a target value or averageValue";
        errors.push(FieldError::required(&path.child("averageValue"), detail));
    }
}

fn external_source(errors: &mut FieldErrors, path: &FieldPath, source: &ExternalMetricSource) {
    identifier(errors, &path.child("metric"), &source.metric);
    let path = path.child("target");
    target(errors, &path, &source.target);
    match (&source.target.value, &source.target.average_value) {
        (None, None) => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.push(FieldError::required(&path.child("averageValue"), detail));
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&path.child("value"), detail));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
}

fn pods_source(errors: &mut FieldErrors, path: &FieldPath, source: &PodsMetricSource) {
    identifier(errors, &path.child("metric"), &source.metric);
    let path = path.child("target");
    target(errors, &path, &source.target);
    if source.target.average_value.is_none() {
        errors.push(FieldError::required(&path.child("averageValue"), "must specify a positive target averageValue"));
    }
}

fn container_source(errors: &mut FieldErrors, path: &FieldPath, source: &ContainerResourceMetricSource) {
    if source.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
    } else {
        pod_spec::container_resource_name(errors, &path.child("name"), &source.name);
    }
    let container = path.child("container");
    if source.container.is_empty() {
        errors.push(FieldError::required(&container, "must specify a container"));
    } else {
        errors.push_invalid(&container, &source.container, names::is_dns1123_label(&source.container));
    }
    resource_target(errors, &path.child("target"), &source.target);
}

fn resource_target(errors: &mut FieldErrors, path: &FieldPath, of: &MetricTarget) {
    target(errors, path, of);
    match (of.average_utilization, &of.average_value) {
        (None, None) => {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(FieldError::required(&path.child("averageUtilization"), detail));
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(&path.child("averageValue"), detail));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
}

fn identifier(errors: &mut FieldErrors, path: &FieldPath, metric: &MetricIdentifier) {
    let path = path.child("name");
    if metric.name.is_empty() {
        errors.push(FieldError::required(&path, "must specify a metric name"));
    } else {
        errors.push_invalid(&path, &metric.name, names::path_segment(&metric.name));
    }
}

fn target(errors: &mut FieldErrors, path: &FieldPath, target: &MetricTarget) {
    let kind = path.child("type");
    if target.type_.is_empty() {
        errors.push(FieldError::required(&kind, "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&target.type_.as_str()) {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&kind, &target.type_, detail));
    }
    let mut positive = |name: &str, amount: Option<&Quantity>| {
        let amount = amount.map(checks::quantity).filter(|amount| amount.is_zero() || amount.is_negative());
        if let Some(amount) = amount {
            errors.push(FieldError::invalid(&path.child(name), amount.to_string(), "must be positive"));
        }
    };
    positive("value", target.value.as_ref());
    positive("averageValue", target.average_value.as_ref());
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        errors.push(FieldError::invalid(&path.child("averageUtilization"), percent, checks::POSITIVE));
    }
}

fn scaling_rules(errors: &mut FieldErrors, path: &FieldPath, rules: Option<&HPAScalingRules>) {
    let Some(rules) = rules else { return };
    let window = path.child("stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(seconds @ ..0) => {
            errors.push(FieldError::invalid(&window, seconds, "must be greater than or equal to zero"));
        }
        Some(seconds) if seconds > MAX_WINDOW => {
            let detail = format!("must be less than or equal to {MAX_WINDOW}");
            errors.push(FieldError::invalid(&window, seconds, detail));
        }
        Some(_) | None => {}
    }
    if let Some(policy) = &rules.select_policy {
        checks::one_of(errors, &path.child("selectPolicy"), policy, &["Disabled", "Max", "Min"]);
    }
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.push(FieldError::required(&path.child("policies"), "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        scaling_policy(errors, &path.child("policies").index(i), policy);
    }
    if let Some(tolerance) = rules.tolerance.as_ref().map(checks::quantity).filter(|amount| amount.is_negative()) {
        errors.push(FieldError::invalid(&path.child("tolerance"), tolerance.to_string(), checks::NOT_NEGATIVE));
    }
}

fn scaling_policy(errors: &mut FieldErrors, path: &FieldPath, policy: &HPAScalingPolicy) {
    checks::one_of(errors, &path.child("type"), &policy.type_, &["Percent", "Pods"]);
    for (name, value) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
        if value <= 0 {
            errors.push(FieldError::invalid(&path.child(name), value, "must be greater than zero"));
        }
    }
    if policy.period_seconds > MAX_PERIOD {
        let detail = format!("must be less than or equal to {MAX_PERIOD}");
        errors.push(FieldError::invalid(&path.child("periodSeconds"), policy.period_seconds, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn scaler(fields: Value) -> HorizontalPodAutoscalerSpec {
        let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        let mut spec = json!({"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": target});
        for (name, value) in fields.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        serde_json::from_value(spec).expect("a spec")
    }

    fn found(fields: Value) -> String {
        validate(&scaler(fields), None).to_string()
    }

    #[test]
    fn targets_and_replicas() {
        let target =
            |kind: &str, version: &str| json!({"scaleTargetRef": {"kind": kind, "name": "d", "apiVersion": version}});
        let table = [
            (json!({}), "[]"),
            (
                json!({"minReplicas": 0, "maxReplicas": 0}),
                "[spec.minReplicas: Invalid value: 0: must be greater than or equal to 1, spec.maxReplicas: Required value: must be set and greater than 0, spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas]",
            ),
            (target("ReplicationController", "v1"), "[]"),
            (
                target("Deployment", "v1"),
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            ),
            (
                target("D/x", "a/b/c"),
                "[spec.scaleTargetRef.kind: Invalid value: \"D/x\": may not contain '/', spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c]",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(found(fields), message);
        }
        let old = scaler(target("Deployment", "v1"));
        assert_eq!(validate(&old, Some(&old)).to_string(), "[]");
    }

    #[test]
    fn metrics_say_what_they_measure() {
        let cpu =
            |target: Value| json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]});
        let table = [
            (cpu(json!({"type": "Utilization", "averageUtilization": 50})), "[]"),
            (
                cpu(json!({"type": "Much", "averageUtilization": 0})),
                "[spec.metrics[0].resource.target.type: Invalid value: \"Much\": must be either Utilization, Value, or AverageValue, spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0]",
            ),
            (
                cpu(json!({"type": "Utilization"})),
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            ),
            (
                json!({"metrics": [{"type": "Pods", "pods": {"metric": {"name": ""}, "target": {"type": "AverageValue", "averageValue": "-1"}}}]}),
                "[spec.metrics[0].pods.metric.name: Required value: must specify a metric name, spec.metrics[0].pods.target.averageValue: Invalid value: \"-1\": must be positive]",
            ),
            (
                json!({"metrics": [{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1", "averageValue": "1"}}}]}),
                "spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target",
            ),
            (
                json!({"metrics": [{"type": "Pods", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}}]}),
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ),
            (
                json!({"metrics": [{"type": "Moon"}]}),
                "spec.metrics[0].type: Unsupported value: \"Moon\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(found(fields), message);
        }
        let metric =
            |name: &str| json!({"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": "1"}});
        let both = json!({"metrics": [{"type": "Pods", "pods": metric("a"), "external": metric("b")}]});
        assert_eq!(found(both), "spec.metrics[0].external: Forbidden: must populate the given metric source only");
    }

    #[test]
    fn behavior_is_bounded() {
        let up = |rules: Value| json!({"behavior": {"scaleUp": rules}});
        let table = [
            (
                up(json!({"stabilizationWindowSeconds": 3601, "selectPolicy": "Often", "policies": []})),
                "[spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600, spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Often\": supported values: \"Disabled\", \"Max\", \"Min\", spec.behavior.scaleUp.policies: Required value: must specify at least one Policy]",
            ),
            (
                up(json!({"policies": [{"type": "Nodes", "value": 0, "periodSeconds": 1801}]})),
                "[spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\", spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero, spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800]",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(found(fields), message);
        }
    }
}
