//! PriorityClass: a name for a number that decides which pods go first.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::scheduling::v1::PriorityClass as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, checks};

/// See the module.
pub struct PriorityClass;

const MAX_OWN: i32 = 1_000_000_000;
const SYSTEM: [(&str, i32); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

impl Kind for PriorityClass {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["pc"];

    /// It stays: what may change does not count.
    fn prepare_for_create(object: &mut Object) {
        object.metadata.generation = Some(1);
    }

    fn set_defaults(object: &mut Object) {
        object.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    fn refuses_deletion(name: &str) -> Option<&'static str> {
        let is_system = SYSTEM.iter().any(|(known, _)| *known == name);
        is_system.then_some("this is a system priority class and cannot be deleted")
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let value = object.value.unwrap_or_default();
        if name.starts_with("system-") {
            let why = match SYSTEM.iter().find(|(known, _)| *known == name) {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, known)) if *known != value => Some(format!("value of {name} PriorityClass must be {known}")),
                Some(_) if object.global_default == Some(true) => {
                    Some(format!("globalDefault of {name} PriorityClass must be false"))
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                errors.push(FieldError::forbidden(&FieldPath::root("metadata").child("name"), detail));
            }
        } else if value > MAX_OWN {
            let detail = format!("maximum allowed value of a user defined priority is {MAX_OWN}");
            errors.push(FieldError::forbidden(&FieldPath::root("value"), detail));
        }
        if let Some(policy) = &object.preemption_policy {
            let path = FieldPath::root("preemptionPolicy");
            checks::required_one_of(&mut errors, &path, policy, &["PreemptLowerPriority", "Never"]);
        }
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if new.value.unwrap_or_default() != old.value.unwrap_or_default() {
            errors.push(FieldError::forbidden(&FieldPath::root("value"), "may not be changed in an update."));
        }
        let path = FieldPath::root("preemptionPolicy");
        checks::immutable(&mut errors, &path, &new.preemption_policy, &old.preemption_policy);
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::integer(
                "Value",
                "value represents the integer value of this priority class. This is the actual priority that pods receive when they have the name of this class in their pod spec.",
            ),
            printing::boolean(
                "Global-Default",
                "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class. Only one PriorityClass can be marked as `globalDefault`. However, if more than one PriorityClasses exists with their `globalDefault` field set to true, the smallest value of such global default PriorityClasses will be used as the default priority.",
            ),
            AGE,
            printing::text(
                "PreemptionPolicy",
                "preemptionPolicy is the Policy for preempting pods with lower priority. One of Never, PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                vec![
                    printing::name(&object.metadata),
                    Value::from(object.value.unwrap_or_default()),
                    Value::from(object.global_default.unwrap_or_default()),
                    printing::age(&object.metadata, now),
                    Value::from(object.preemption_policy.clone().unwrap_or_default()),
                ]
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"metadata": {"name": "x"}, "value": 2_000_000_000}),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (
                json!({"metadata": {"name": "system-x"}, "value": 1}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
            ),
            (json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), "[]"),
            (
                json!({"metadata": {"name": "x"}, "preemptionPolicy": "Maybe"}),
                "preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
        ];
        for (value, message) in table {
            let object: Object = serde_json::from_value(value).expect("a class");
            assert_eq!(PriorityClass::validate(&object).to_string(), message);
        }
    }
}
