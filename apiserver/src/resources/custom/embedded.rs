//! Whole objects inside a custom resource (`x-kubernetes-embedded-resource`): their apiVersion, kind and metadata are typed as
//! everywhere. Entry points: [`coerce`] when an object is read, [`check`] when it is written, [`typed`] for metadata.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::is_dns1035_label;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::schema::{Additional, Schema};
use crate::resources::wire;
use crate::write::metadata;

/// Metadata as its type; the error is what Go's decoder says.
pub fn typed(mut value: Value) -> Result<ObjectMeta, String> {
    if value.is_null() {
        return Ok(ObjectMeta::default());
    }
    if !value.is_object() {
        let found = match value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) | Value::Null | Value::Object(_) => "number",
        };
        return Err(format!("json: cannot unmarshal {found} into Go value of type v1.ObjectMeta"));
    }
    wire::accept("meta/v1", "ObjectMeta", &mut value).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| format!("json: {error}"))
}

/// Metadata as Go writes it.
pub fn canonical(meta: &ObjectMeta) -> Value {
    let mut value = serde_json::to_value(meta).unwrap_or_default();
    wire::canonical("meta/v1", "ObjectMeta", &mut value);
    value
}

/// Fields of metadata that there are not.
pub fn unknown_metadata(value: &Value) -> Vec<String> {
    let ty = crate::resources::schema::named("meta/v1.ObjectMeta");
    let names = value.as_object().into_iter().flat_map(Map::keys);
    names.filter(|name| ty.is_some_and(|ty| ty.field(name).is_none())).map(|name| format!("metadata.{name}")).collect()
}

/// Gives the metadata of embedded objects its type; fields that it does not have are dropped.
pub fn coerce(value: &mut Value, schema: &Schema) -> Result<(), FieldError> {
    coerce_at(&FieldPath::default(), value, schema)
}

fn coerce_at(path: &FieldPath, value: &mut Value, schema: &Schema) -> Result<(), FieldError> {
    match value {
        Value::Object(fields) => {
            if schema.embedded {
                coerce_head(path, fields)?;
            }
            for (name, value) in fields.iter_mut() {
                match (schema.properties.get(name), &schema.additional_properties) {
                    (Some(property), _) => coerce_at(&path.child(name), value, property)?,
                    (None, Some(Additional::Schema(schema))) => coerce_at(&path.key(name), value, schema)?,
                    (None, Some(Additional::Allowed(_)) | None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for (i, item) in items.iter_mut().enumerate() {
                    coerce_at(&path.index(i), item, schema)?;
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn coerce_head(path: &FieldPath, fields: &mut Map<String, Value>) -> Result<(), FieldError> {
    for name in ["apiVersion", "kind"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_string()) {
            return Err(FieldError::invalid(&path.child(name), value, "must be a string"));
        }
    }
    if let Some(value) = fields.get_mut("metadata") {
        match typed(value.clone()) {
            Ok(meta) => *value = canonical(&meta),
            Err(why) => return Err(FieldError::invalid(&path.child("metadata"), &*value, why)),
        }
    }
    Ok(())
}

/// Everything that is wrong with the heads of embedded objects.
pub fn check(value: &Value, schema: &Schema) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check_at(&FieldPath::default(), value, schema, &mut errors);
    errors
}

/// As [`check`], for a value at a path.
pub fn check_at(path: &FieldPath, value: &Value, schema: &Schema, errors: &mut FieldErrors) {
    match value {
        Value::Object(fields) => {
            if schema.embedded {
                check_head(path, fields, errors);
            }
            for (name, value) in fields {
                match (schema.properties.get(name), &schema.additional_properties) {
                    (Some(property), _) => check_at(&path.child(name), value, property, errors),
                    (None, Some(Additional::Schema(schema))) => check_at(&path.key(name), value, schema, errors),
                    (None, Some(Additional::Allowed(_)) | None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| check_at(&path.index(i), item, schema, errors));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn check_head(path: &FieldPath, fields: &Map<String, Value>, errors: &mut FieldErrors) {
    for name in ["apiVersion", "kind"].into_iter().filter(|name| !fields.contains_key(*name)) {
        errors.push(FieldError::required(&path.child(name), ""));
    }
    for name in ["apiVersion", "kind"] {
        let at = path.child(name);
        match fields.get(name) {
            None => {}
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&at, text, "must not be empty"));
            }
            Some(Value::String(text)) if name == "kind" => {
                let wrong = is_dns1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(FieldError::invalid(&at, text, detail));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                errors.push(FieldError::invalid(&at, text, format!("unexpected GroupVersion string: {text}")));
            }
            Some(Value::String(_)) => {}
            Some(other) => errors.push(FieldError::invalid(&at, other, "must be a string")),
        }
    }
    let Some(value) = fields.get("metadata") else { return };
    match typed(value.clone()) {
        Ok(mut meta) => {
            // Upstream wants a name only where there is one.
            meta.name.get_or_insert_with(|| "fakename".to_owned());
            errors.extend(metadata::validate_embedded(&meta, &path.child("metadata")));
        }
        Err(why) => errors.push(FieldError::invalid(&path.child("metadata"), value, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn embedded_objects_have_heads() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {"pod": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}))
        .unwrap();
        let mut value = json!({"pod": {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "creationTimestamp": null, "strange": 1, "labels": {}}, "spec": {}}});
        assert_eq!(coerce(&mut value, &schema), Ok(()));
        let expected = json!({"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}});
        assert_eq!(value, expected);
        assert!(check(&value, &schema).is_empty());
        let wrong = json!({"pod": {"kind": "a_b", "metadata": {"labels": {"-": "x"}}}});
        let errors = check(&wrong, &schema).to_string();
        assert!(
            errors
                .starts_with("[pod.apiVersion: Required value, pod.kind: Invalid value: \"a_b\": may have mixed case"),
            "{errors}"
        );
        let empty = check(&json!({"pod": {"apiVersion": ""}}), &schema).to_string();
        assert_eq!(empty, "[pod.kind: Required value, pod.apiVersion: Invalid value: \"\": must not be empty]");
        assert!(errors.contains("pod.metadata.labels: Invalid value: \"-\""), "{errors}");
        let mut typed = json!({"pod": {"metadata": {"name": 1}}});
        assert_eq!(
            coerce(&mut typed, &schema).unwrap_err().to_string(),
            "pod.metadata: Invalid value: {\"name\":1}: json: cannot unmarshal number into Go struct field ObjectMeta.name of type string"
        );
    }
}
