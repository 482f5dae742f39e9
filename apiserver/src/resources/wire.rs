//! The JSON of built-in objects as Go reads and writes it. Entry points: [`accept`] for what clients send, [`encode`] for what is
//! stored and answered, [`canonical`] for the same as a value.
//!
//! Invariant: `canonical` is idempotent, and changes nothing that a client could tell from what kube-apiserver answers.

use serde_json::{Map, Value};

use super::schema::{self, Field, Presence, Shape, Type};

/// The schemas in definitions of custom resources, and what in them may be a schema.
const OPEN_API_SCHEMA: &str = "apiextensions.k8s.io/v1.JSONSchemaProps";
const SCHEMA_OR_OTHER: [&str; 3] = ["items", "additionalProperties", "additionalItems"];

/// What Go holds for a time that was never set; written as null.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Up to here every whole number is a float of its own.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

mod names;
pub mod packed;
mod read;
mod restore;
mod write;
pub use read::{DecodeError, accept, check_time, first_error, leave_out_empty};
pub use restore::restore_error;
pub use write::{Encoded, encode, inspect};

/// Brings an object into the form that Go writes: empty fields with `omitempty` go, fields without it appear.
pub fn canonical(api_version: &str, kind: &str, value: &mut Value) {
    if let Some(ty) = schema::of(api_version, kind) {
        canonical_as(ty, value);
    }
}

/// The same for an object of this type.
pub fn canonical_as(ty: &Type, value: &mut Value) {
    if let Value::Object(fields) = value {
        canonical_struct(ty, fields);
    }
}

/// Puts back the empty lists of the object itself, which Go tells from absent ones until it stores the object.
pub fn restore_empty_lists(api_version: &str, kind: &str, value: &mut Value, sent: impl FnOnce() -> Value) {
    let (Some(ty), Value::Object(fields)) = (schema::of(api_version, kind), value) else { return };
    let is_null_list =
        |field: &&Field| matches!(field.shape, Shape::List(_)) && fields.get(field.name).is_some_and(Value::is_null);
    let names: Vec<&str> = ty.fields.iter().filter(is_null_list).map(|field| field.name).collect();
    if names.is_empty() {
        return;
    }
    let sent = sent();
    for name in names.into_iter().filter(|name| sent.get(name).is_some_and(Value::is_array)) {
        fields.insert(name.to_owned(), Value::Array(Vec::new()));
    }
}

fn canonical_struct(ty: &Type, fields: &mut Map<String, Value>) {
    for field in &ty.fields {
        match fields.get_mut(field.name) {
            Some(value) => {
                canonical_value(&field.shape, value);
                if ty.name == OPEN_API_SCHEMA && SCHEMA_OR_OTHER.contains(&field.name) {
                    canonical_schemas(ty, value);
                }
                match field.presence {
                    Presence::OmitEmpty if is_empty(value) => drop(fields.remove(field.name)),
                    Presence::Pointer if value.is_null() => drop(fields.remove(field.name)),
                    Presence::Always if is_empty(value) => *value = zero(field),
                    Presence::OmitEmpty | Presence::Pointer | Presence::Always | Presence::Nullable => {}
                }
            }
            None if field.presence == Presence::Always => drop(fields.insert(field.name.to_owned(), zero(field))),
            None if field.presence == Presence::Nullable => drop(fields.insert(field.name.to_owned(), Value::Null)),
            None => {}
        }
    }
}

/// A schema, several, or something else, which has no type of its own in OpenAPI.
fn canonical_schemas(ty: &Type, value: &mut Value) {
    match value {
        Value::Object(fields) => canonical_struct(ty, fields),
        Value::Array(items) => items.iter_mut().for_each(|item| canonical_schemas(ty, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn canonical_value(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Float, value) => whole_number(value),
        (Shape::Time, value) if *value == ZERO_TIME => *value = Value::Null,
        (Shape::Struct(at), Value::Object(fields)) => canonical_struct(schema::at(*at), fields),
        (Shape::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| canonical_value(inner, item)),
        (Shape::Map(inner), Value::Object(entries)) => {
            entries.values_mut().for_each(|entry| canonical_value(inner, entry));
        }
        _ => {}
    }
}

/// Go writes a float without a fraction as an integer.
fn whole_number(value: &mut Value) {
    if let Some(whole) = value.as_f64().and_then(as_whole) {
        *value = Value::from(whole);
    }
}

fn as_whole(float: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is small enough")]
    (float.fract() == 0.0 && float.abs() < LARGEST_WHOLE).then_some(float as i64)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

/// What Go writes for a field that was never set.
fn zero(field: &Field) -> Value {
    if field.name == "divisor" {
        return Value::from("0");
    }
    match &field.shape {
        Shape::Str => Value::from(""),
        Shape::Int | Shape::Long | Shape::Float | Shape::IntOrString => Value::from(0),
        Shape::Bool => Value::from(false),
        Shape::Quantity => Value::from("0"),
        Shape::Struct(at) => {
            let mut fields = Map::new();
            canonical_struct(schema::at(*at), &mut fields);
            Value::Object(fields)
        }
        Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Any | Shape::List(_) | Shape::Map(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wire(api_version: &str, kind: &str, mut value: Value) -> Value {
        canonical(api_version, kind, &mut value);
        let once = value.clone();
        canonical(api_version, kind, &mut value);
        assert_eq!(once, value, "canonical is idempotent");
        value
    }

    #[test]
    fn schemas_are_canonical_at_every_depth() {
        let schema = json!({"type": "array", "maximum": 10.0, "items": {"type": "object", "nullable": false, "additionalProperties":
            {"type": "number", "minimum": 1.0, "maximum": 1.5}, "properties": {"a": {"additionalProperties": true}}}});
        let versions = |schema: Value| json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]);
        let definition = json!({"metadata": {}, "spec": {"versions": versions(schema)}});
        let expected = json!({"type": "array", "maximum": 10, "items": {"type": "object", "additionalProperties":
            {"type": "number", "minimum": 1, "maximum": 1.5}, "properties": {"a": {"additionalProperties": true}}}});
        let wired = wire("apiextensions.k8s.io/v1", "CustomResourceDefinition", definition);
        assert_eq!(wired["spec"]["versions"], versions(expected));
    }

    #[test]
    fn empty_fields_go_and_values_stay() {
        let pod = json!({"metadata": {"name": "a", "labels": {}}, "spec": {
            "hostNetwork": false, "nodeName": "", "volumes": [{"name": "v", "emptyDir": {}}], "securityContext": {},
            "containers": [{"name": "c", "image": "i", "stdin": false, "env": [{"name": "A", "value": ""}], "command": []}],
            "enableServiceLinks": false}});
        let expected = json!({"metadata": {"name": "a"}, "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}], "securityContext": {},
            "containers": [{"name": "c", "image": "i", "env": [{"name": "A"}], "resources": {}}],
            "enableServiceLinks": false}, "status": {}});
        assert_eq!(wire("v1", "Pod", pod), expected);
    }

    #[test]
    fn fields_without_omitempty_appear() {
        let table = [
            (
                "v1",
                "Event",
                json!({"metadata": {}, "involvedObject": {}}),
                json!({"metadata": {}, "involvedObject": {},
                "eventTime": null, "firstTimestamp": null, "lastTimestamp": null, "source": {},
                "reportingComponent": "", "reportingInstance": ""}),
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "ClusterRole",
                json!({"metadata": {}, "rules": []}),
                json!({"metadata": {}, "rules": null}),
            ),
            (
                "v1",
                "Service",
                json!({"metadata": {}}),
                json!({"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}),
            ),
            (
                "v1",
                "ReplicationController",
                json!({"metadata": {}, "status": {"readyReplicas": 0, "conditions": [{"type": "a", "status": "b"}]}}),
                json!({"metadata": {}, "spec": {}, "status": {"replicas": 0, "conditions": [
                    {"type": "a", "status": "b", "lastTransitionTime": null}]}}),
            ),
            (
                "v1",
                "PersistentVolumeClaim",
                json!({"metadata": {}, "spec": {"dataSource": {"kind": "k", "name": "n"}}}),
                json!({"metadata": {}, "spec": {"dataSource": {"apiGroup": null, "kind": "k", "name": "n"}, "resources": {}}, "status": {}}),
            ),
        ];
        for (version, kind, value, expected) in table {
            assert_eq!(wire(version, kind, value), expected, "{kind}");
        }
    }
}
