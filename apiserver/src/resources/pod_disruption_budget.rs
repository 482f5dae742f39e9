//! PodDisruptionBudget: how many pods must stay when others are evicted.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget as Object, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};

/// See the module.
pub struct PodDisruptionBudget;

impl Kind for PodDisruptionBudget {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["pdb"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(PodDisruptionBudgetStatus::default());
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
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            let detail = format!("{}: minAvailable and maxUnavailable cannot be both set", internal_form(&spec));
            errors.push(FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail });
        }
        for (name, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                checks::number_or_percent(&mut errors, &path.child(name), value);
                checks::at_most_hundred_percent(&mut errors, &path.child(name), value);
            }
        }
        checks::label_selector(&mut errors, &path.child("selector"), spec.selector.as_ref());
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
            let known = ["AlwaysAllow", "IfHealthyBudget"];
            checks::one_of(&mut errors, &path.child("unhealthyPodEvictionPolicy"), policy, &known);
        }
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let status = new.status.clone().unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        checks::conditions(&mut errors, &FieldPath::root("status").child("conditions"), conditions);
        let counts = [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ];
        for (name, count) in counts {
            checks::non_negative_option(&mut errors, &FieldPath::root("status").child(name), count);
        }
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Min Available", "The minimum number of pods that must be available."),
            printing::text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            printing::integer("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let spec = object.spec.clone().unwrap_or_default();
                let shown = |value: Option<IntOrString>| match value {
                    None => Value::from("N/A"),
                    Some(IntOrString::Int(number)) => Value::from(number.to_string()),
                    Some(IntOrString::String(text)) => Value::from(text),
                };
                let allowed = object.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or_default();
                vec![
                    printing::name(&object.metadata),
                    shown(spec.min_available),
                    shown(spec.max_unavailable),
                    Value::from(allowed),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

/// Upstream shows its internal struct here, in its own order of fields.
fn internal_form(spec: &PodDisruptionBudgetSpec) -> String {
    let fields = [
        ("MinAvailable", json!(spec.min_available)),
        ("Selector", json!(spec.selector)),
        ("MaxUnavailable", json!(spec.max_unavailable)),
        ("UnhealthyPodEvictionPolicy", json!(spec.unhealthy_pod_eviction_policy)),
    ];
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_a_status_have_a_time() {
        let condition = json!({"type": "Ready", "status": "True", "reason": "R"});
        let mut value = json!({"status": {"conditions": [condition], "currentHealthy": -1}});
        crate::resources::wire::accept("policy/v1", "PodDisruptionBudget", &mut value).expect("well formed");
        let object: Object = serde_json::from_value(value).expect("a budget");
        assert_eq!(
            PodDisruptionBudget::validate_status_update(&object, &object).to_string(),
            "[status.conditions[0].lastTransitionTime: Required value: must be set, status.currentHealthy: Invalid value: -1: must be greater than or equal to 0]"
        );
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"minAvailable": 1, "maxUnavailable": 1, "selector": {}}),
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":{},\"MaxUnavailable\":1,\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
            ),
            (json!({"minAvailable": -1}), "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"),
            (
                json!({"minAvailable": "101%"}),
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
        ];
        for (spec, message) in table {
            let object: Object = serde_json::from_value(json!({"spec": spec})).expect("a budget");
            assert_eq!(PodDisruptionBudget::validate(&object).to_string(), message);
        }
    }
}
