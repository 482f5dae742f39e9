//! VolumeAttributesClass: settings of volumes that their driver can change while they are in use. A class itself never changes.

use api::field::{FieldErrors, FieldPath};
use k8s_openapi::api::storage::v1::VolumeAttributesClass as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::storage_class;
use super::{Columns, Kind, checks};

/// See the module.
pub struct VolumeAttributesClass;

impl Kind for VolumeAttributesClass {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["vac"];
    const RETURNS_DELETED: bool = true;

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        storage_class::provisioner(&mut errors, &FieldPath::root("driverName"), &object.driver_name);
        storage_class::parameters(&mut errors, &FieldPath::root("parameters"), object.parameters.as_ref(), false);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &FieldPath::root("driverName"), &new.driver_name, &old.driver_name);
        checks::immutable(&mut errors, &FieldPath::root("parameters"), &new.parameters, &old.parameters);
        // Upstream looks at the class twice.
        errors.extend(Self::validate(new));
        errors
    }

    fn columns() -> Columns<Object> {
        Columns {
            columns: vec![NAME, printing::text("DriverName", "Name of the CSI driver This field is immutable."), AGE],
            cells: |object, now| {
                let driver = Value::from(object.driver_name.as_str());
                vec![printing::name(&object.metadata), driver, printing::age(&object.metadata, now)]
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
        let class = |value: Value| serde_json::from_value::<Object>(value).expect("a class");
        let good = class(json!({"driverName": "example.org", "parameters": {"a": "b"}}));
        assert_eq!(VolumeAttributesClass::validate(&good).to_string(), "[]");
        assert_eq!(
            VolumeAttributesClass::validate(&class(json!({"driverName": ""}))).to_string(),
            "[driverName: Required value, parameters: Required value: must contain at least one key/value pair]"
        );
        let other = class(json!({"driverName": "example.org", "parameters": {"a": "c"}}));
        assert_eq!(
            VolumeAttributesClass::validate_update(&other, &good).to_string(),
            "parameters: Invalid value: {\"a\":\"c\"}: field is immutable"
        );
    }
}
