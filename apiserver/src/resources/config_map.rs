//! ConfigMap: keys are file names, the data is at most 1 MiB, and `immutable` freezes it.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::ConfigMap as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Column, Columns, Kind, MetadataCheck};

/// Bytes that the values of a ConfigMap or Secret may have together.
pub const MAX_DATA: usize = 1024 * 1024;

/// See the module.
pub struct ConfigMap;

const DATA: Column = printing::text(
    "Data",
    "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.",
);

impl Kind for ConfigMap {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["cm"];
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change, MetadataCheck::Whole];

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (data, binary) = (FieldPath::root("data"), FieldPath::root("binaryData"));
        let mut size = 0;
        for (key, value) in object.data.iter().flatten() {
            errors.push_invalid(&data.key(key), key, names::config_key(key));
            if object.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
                errors.push(FieldError::invalid(&data.key(key), key, "duplicate of key present in binaryData"));
            }
            size += value.len();
        }
        for (key, value) in object.binary_data.iter().flatten() {
            errors.push_invalid(&binary.key(key), key, names::config_key(key));
            size += value.0.len();
        }
        if size > MAX_DATA {
            errors.push(FieldError::too_long(&FieldPath::root("[]"), MAX_DATA));
        }
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if old.immutable == Some(true) {
            let frozen = "field is immutable when `immutable` is set";
            if new.immutable != Some(true) {
                errors.push(FieldError::forbidden(&FieldPath::root("immutable"), frozen));
            }
            if new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default() {
                errors.push(FieldError::forbidden(&FieldPath::root("data"), frozen));
            }
            if new.binary_data.clone().unwrap_or_default() != old.binary_data.clone().unwrap_or_default() {
                errors.push(FieldError::forbidden(&FieldPath::root("binaryData"), frozen));
            }
        }
        errors.extend(Self::validate(new));
        errors
    }

    fn columns() -> Columns<Object> {
        Columns {
            columns: vec![NAME, DATA, AGE],
            cells: |object, now| {
                let keys =
                    object.data.as_ref().map_or(0, |d| d.len()) + object.binary_data.as_ref().map_or(0, |d| d.len());
                vec![printing::name(&object.metadata), Value::from(keys), printing::age(&object.metadata, now)]
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(new: Value, old: Option<Value>) -> String {
        let read = |value| serde_json::from_value::<Object>(value).expect("a config map");
        match old {
            None => ConfigMap::validate(&read(new)).to_string(),
            Some(old) => ConfigMap::validate_update(&read(new), &read(old)).to_string(),
        }
    }

    #[test]
    fn what_is_refused() {
        let frozen = json!({"immutable": true, "data": {"k": "x"}});
        let table = [
            (
                json!({"data": {"k": "v"}, "binaryData": {"k": "AAEC"}}),
                None,
                "data[k]: Invalid value: \"k\": duplicate of key present in binaryData",
            ),
            (json!({"data": {"..": "v"}}), None, "data[..]: Invalid value: \"..\": must not be '..'"),
            (
                json!({"data": {"k": "v".repeat(MAX_DATA + 1)}}),
                None,
                "[]: Too long: may not be more than 1048576 bytes",
            ),
            (
                json!({"immutable": true, "data": {"k": "y"}}),
                Some(frozen.clone()),
                "data: Forbidden: field is immutable when `immutable` is set",
            ),
            (
                json!({"data": {"k": "x"}}),
                Some(frozen.clone()),
                "immutable: Forbidden: field is immutable when `immutable` is set",
            ),
            (frozen.clone(), Some(frozen), "[]"),
        ];
        for (new, old, message) in table {
            assert_eq!(check(new, old), message);
        }
    }
}
