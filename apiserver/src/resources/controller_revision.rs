//! ControllerRevision: a frozen state of a DaemonSet or StatefulSet.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::GroupKind;
use api::owners::controller_of;
use k8s_openapi::api::apps::v1::ControllerRevision as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, checks};

/// See the module.
pub struct ControllerRevision;

impl Kind for ControllerRevision {
    type Object = Object;

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if object.data.as_ref().is_none_or(|data| data.0.is_null()) {
            errors.push(FieldError::required(&FieldPath::root("data"), "data is mandatory"));
        }
        checks::non_negative(&mut errors, &FieldPath::root("revision"), object.revision);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        if new.data != old.data {
            let data = new.data.as_ref().map(|data| data.0.clone()).unwrap_or_default();
            errors.push(FieldError::invalid(&FieldPath::root("data"), data, checks::IMMUTABLE));
        }
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Controller", "Controller of the object"),
            printing::text("Revision", "Revision indicates the revision of the state represented by Data."),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let controller = controller_of(&object.metadata).map_or("<none>".to_owned(), |owner| {
                    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
                    format!("{}/{}", GroupKind::new(group, &owner.kind.to_lowercase()), owner.name)
                });
                vec![
                    printing::name(&object.metadata),
                    Value::from(controller),
                    Value::from(object.revision),
                    printing::age(&object.metadata, now),
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
    fn data_is_frozen() {
        let read = |value: Value| serde_json::from_value::<Object>(value).expect("a revision");
        let (old, new) =
            (read(json!({"data": {"a": 1}, "revision": 1})), read(json!({"data": {"a": 2}, "revision": -1})));
        let message = "[revision: Invalid value: -1: must be greater than or equal to 0, data: Invalid value: {\"a\":2}: field is immutable]";
        assert_eq!(ControllerRevision::validate_update(&new, &old).to_string(), message);
    }
}
