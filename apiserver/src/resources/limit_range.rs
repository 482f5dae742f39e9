//! LimitRange: bounds and defaults for what pods and claims of a namespace may ask for.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{LimitRange as Object, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use super::{Columns, Kind, MetadataCheck, checks, pod_spec, printing};

/// See the module.
pub struct LimitRange;

impl Kind for LimitRange {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["limits"];
    const CREATE_ON_UPDATE: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole];

    fn set_defaults(object: &mut Object) {
        for limit in object.spec.iter_mut().flat_map(|spec| &mut spec.limits).filter(|limit| limit.type_ == "Container")
        {
            let fill = |into: &mut Option<BTreeMap<String, Wire>>, from: &Option<BTreeMap<String, Wire>>| {
                let into = into.get_or_insert_default();
                for (resource, amount) in from.iter().flatten() {
                    into.entry(resource.clone()).or_insert_with(|| amount.clone());
                }
            };
            fill(&mut limit.default, &limit.max);
            fill(&mut limit.default_request, &limit.default);
            fill(&mut limit.default_request, &limit.min);
        }
    }

    /// One without a name is given one, as the other kinds are not.
    fn prepare_for_create(object: &mut Object) {
        if object.metadata.name.as_deref().unwrap_or_default().is_empty() {
            object.metadata.name.clone_from(&object.metadata.uid);
        }
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let mut taken = BTreeSet::new();
        let limits = object.spec.as_ref().map(|spec| spec.limits.as_slice()).unwrap_or_default();
        for (i, limit) in limits.iter().enumerate() {
            let path = FieldPath::root("spec").child("limits").index(i);
            limit_type(&mut errors, &path.child("type"), &limit.type_);
            if !taken.insert(&limit.type_) {
                errors.push(FieldError::duplicate(&path.child("type"), &limit.type_));
            }
            resources(&mut errors, &path, limit);
            amounts(&mut errors, &path, limit);
        }
        errors
    }

    fn columns() -> Columns<Object> {
        printing::name_and_created()
    }
}

fn limit_type(errors: &mut FieldErrors, path: &FieldPath, kind: &str) {
    let wrong = names::qualified_name(kind);
    let wellformed = wrong.is_empty();
    errors.push_invalid(path, kind, wrong);
    if wellformed && !kind.contains('/') && !["Container", "Pod", "PersistentVolumeClaim"].contains(&kind) {
        errors.push(FieldError::invalid(path, kind, "must be a standard limit type or fully qualified"));
    }
}

fn resources(errors: &mut FieldErrors, path: &FieldPath, limit: &LimitRangeItem) {
    let name = |errors: &mut FieldErrors, field: &str, amounts: &Option<BTreeMap<String, Wire>>| {
        for resource in amounts.iter().flatten().map(|(resource, _)| resource) {
            let path = path.child(field).key(resource);
            match limit.type_.as_str() {
                "Pod" | "Container" => pod_spec::container_resource_name(errors, &path, resource),
                _ => checks::resource_name(errors, &path, resource),
            }
        }
    };
    name(errors, "max", &limit.max);
    name(errors, "min", &limit.min);
    for (field, amounts) in [("default", &limit.default), ("defaultRequest", &limit.default_request)] {
        if limit.type_ != "Pod" {
            name(errors, field, amounts);
        } else if amounts.as_ref().is_some_and(|amounts| !amounts.is_empty()) {
            errors.push(FieldError::forbidden(&path.child(field), "may not be specified when `type` is 'Pod'"));
        }
    }
    let has = |amounts: &Option<BTreeMap<String, Wire>>| {
        amounts.as_ref().is_some_and(|amounts| amounts.contains_key("storage"))
    };
    if limit.type_ == "PersistentVolumeClaim" && !has(&limit.min) && !has(&limit.max) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&path.child("limits"), detail));
    }
    name(errors, "maxLimitRequestRatio", &limit.max_limit_request_ratio);
}

/// For each resource: min <= default request <= default <= max.
fn amounts(errors: &mut FieldErrors, path: &FieldPath, limit: &LimitRangeItem) {
    let maps = [&limit.max, &limit.min, &limit.default, &limit.default_request, &limit.max_limit_request_ratio];
    let keys: BTreeSet<&String> =
        maps.iter().flat_map(|amounts| amounts.iter().flat_map(|amounts| amounts.keys())).collect();
    for key in keys {
        let amount =
            |amounts: &Option<BTreeMap<String, Wire>>| amounts.as_ref().and_then(|a| a.get(key)).map(checks::quantity);
        let (min, max) = (amount(&limit.min), amount(&limit.max));
        let (request, default, ratio) =
            (amount(&limit.default_request), amount(&limit.default), amount(&limit.max_limit_request_ratio));
        let mut order = |field: &str,
                         low: Option<Quantity>,
                         high: Option<Quantity>,
                         shown: Option<Quantity>,
                         words: (&str, &str)| {
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let detail = format!("{} {low} is greater than {} {high}", words.0, words.1);
                let shown = shown.unwrap_or(low).to_string();
                errors.push(FieldError::invalid(&path.child(field).key(key), shown, detail));
            }
        };
        order("min", min, max, None, ("min value", "max value"));
        order("defaultRequest", min, request, request, ("min value", "default request value"));
        order("defaultRequest", request, max, None, ("default request value", "max value"));
        order("defaultRequest", request, default, None, ("default request value", "default limit value"));
        order("default", min, default, None, ("min value", "default value"));
        order("default", default, max, max, ("default value", "max value"));
        if let Some(ratio) = ratio.filter(|ratio| *ratio < Quantity::new(1)) {
            let detail = format!("ratio {ratio} is less than 1");
            errors.push(FieldError::invalid(&path.child("maxLimitRequestRatio").key(key), ratio.to_string(), detail));
        }
        if let (Some(ratio), Some(min), Some(max)) = (ratio, min, max) {
            let (given, bound) = ratios(ratio, min, max);
            if given > bound {
                let detail = format!("ratio {ratio} is greater than max/min = {bound:.6}");
                let path = path.child("maxLimitRequestRatio").key(key);
                errors.push(FieldError::invalid(&path, ratio.to_string(), detail));
            }
        }
        let commits = checks::is_native_resource(key) && !checks::is_huge_pages(key);
        if let (Some(request), Some(default), false) = (request, default, commits)
            && request != default
        {
            let detail = format!("default value {default} must equal to defaultRequest value {request} in {key}");
            errors.push(FieldError::invalid(&path.child("defaultRequest").key(key), request.to_string(), detail));
        }
    }
}

/// The ratio that is given and the one that the bounds allow, in thousandths where numbers are small enough for that.
fn ratios(ratio: Quantity, min: Quantity, max: Quantity) -> (f64, f64) {
    const MAX: i64 = i64::MAX / 1000;
    if [ratio, min, max].iter().all(|amount| amount.value() < MAX) {
        return (ratio.milli_value() as f64 / 1000.0, max.milli_value() as f64 / min.milli_value() as f64);
    }
    (ratio.value() as f64, max.value() as f64 / min.value() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn range(limit: Value) -> Object {
        let mut object = serde_json::from_value(json!({"spec": {"limits": [limit]}})).expect("a limit range");
        LimitRange::set_defaults(&mut object);
        object
    }

    #[test]
    fn defaults_come_from_the_bounds() {
        let object = range(
            json!({"type": "Container", "default": {"cpu": "500m", "memory": "64Mi"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "2"}, "min": {"cpu": "10m"}}),
        );
        let limit = serde_json::to_value(&object.spec.expect("a spec").limits[0]).expect("json");
        assert_eq!(limit["defaultRequest"], json!({"cpu": "100m", "memory": "64Mi"}));
        assert_eq!(limit["default"], json!({"cpu": "500m", "memory": "64Mi"}));
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}),
                "[spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1, spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1, spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1]",
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "1"}}),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                json!({"type": "Moon", "max": {"cpu": "1"}}),
                "spec.limits[0].type: Invalid value: \"Moon\": must be a standard limit type or fully qualified",
            ),
        ];
        for (limit, message) in table {
            assert_eq!(LimitRange::validate(&range(limit)).to_string(), message);
        }
    }
}
