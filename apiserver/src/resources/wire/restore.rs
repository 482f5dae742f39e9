//! Why an object that a strategic patch made can't be read: upstream turns it into a typed one field by field, in words of its own.
//! Entry point: [`restore_error`].

use serde_json::Value;

use super::super::schema::{self, Shape, Type};
use super::names;
use crate::http::field_numbers::field_order;

/// The first thing that can't be restored, in the order of Go's fields.
pub fn restore_error(api_version: &str, kind: &str, value: &Value) -> Option<String> {
    of_struct(schema::of(api_version, kind)?, value)
}

fn of_struct(ty: &Type, value: &Value) -> Option<String> {
    let Value::Object(fields) = value else { return Some(format!("cannot restore struct from: {}", kind_of(value))) };
    let order = field_order(ty);
    let mut known: Vec<_> = ty.fields.iter().collect();
    known.sort_by_key(|field| order.and_then(|order| order.get(field.name)).copied().unwrap_or(usize::MAX));
    known
        .into_iter()
        .find_map(|field| of_shape(&field.shape, fields.get(field.name)?, names::of(ty.short_name(), field.name)))
}

fn of_shape(shape: &Shape, value: &Value, named: Option<&'static str>) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match (shape, value) {
        // Custom decoders and untyped values: what the JSON decoder says of them holds.
        (Shape::Any | Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString, _) => None,
        (Shape::Struct(at), value) => of_struct(schema::at(*at), value),
        (Shape::List(inner), Value::Array(items)) => items.iter().find_map(|item| of_shape(inner, item, named)),
        (Shape::List(_), value) => Some(format!("cannot restore slice from {}", kind_of(value))),
        (Shape::Map(inner), Value::Object(entries)) => entries.values().find_map(|entry| of_shape(inner, entry, named)),
        (Shape::Map(_), value) => Some(format!("cannot restore map from {}", kind_of(value))),
        (Shape::Bytes, Value::String(_)) => None,
        (Shape::Bytes, value) => Some(format!("cannot restore slice from {}", kind_of(value))),
        (Shape::Str, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => None,
        (Shape::Int | Shape::Long, Value::Number(number)) if number.is_i64() => None,
        (Shape::Float, Value::Number(_)) => None,
        // Go converts between these, but upstream doesn't let it.
        (Shape::Str, Value::Number(number)) if number.is_i64() => {
            Some(format!("cannot convert int64 to {}", named.unwrap_or("string")))
        }
        (Shape::Int | Shape::Long, Value::Number(_)) => Some(format!("cannot convert float64 to {}", name(shape))),
        (Shape::Str | Shape::Bool | Shape::Int | Shape::Long | Shape::Float, _) => {
            Some(format!("unrecognized type: {}", name(shape)))
        }
    }
}

fn name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Int => "int32",
        Shape::Long => "int64",
        Shape::Float => "float64",
        Shape::Bool => "bool",
        _ => "string",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn upstreams_words() {
        let table = [
            (json!({"spec": {"containers": "x"}}), Some("cannot restore slice from string")),
            (json!({"spec": {"containers": ["x"]}}), Some("cannot restore struct from: string")),
            (json!({"spec": []}), Some("cannot restore struct from: slice")),
            (json!({"metadata": {"labels": [1]}}), Some("cannot restore map from slice")),
            (json!({"metadata": {"labels": {"a": 1}}}), Some("cannot convert int64 to string")),
            (json!({"spec": {"dnsPolicy": 5}}), Some("cannot convert int64 to v1.DNSPolicy")),
            (json!({"spec": {"hostNetwork": "yes"}}), Some("unrecognized type: bool")),
            (json!({"spec": {"priority": "high"}}), Some("unrecognized type: int32")),
            (json!({"spec": {"nodeName": {}}}), Some("unrecognized type: string")),
            (json!({"spec": {"nodeName": null, "containers": [{"name": "c"}]}}), None),
        ];
        for (value, expected) in table {
            assert_eq!(restore_error("v1", "Pod", &value).as_deref(), expected, "{value}");
        }
    }
}
