//! The schema of one kind in one piece, for whoever types expressions with it. Entry point: [`schema_of`].
//!
//! A reference is replaced by what it refers to; where that would never end, by an object that may hold anything.

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, REFERENCE};
use super::{operations, v3};
use crate::resources::Strategy;

/// The schema of a row's objects without references.
pub fn schema_of(row: &dyn Strategy) -> Value {
    let mut definitions = Definitions::default();
    v3::add_kinds(&mut definitions, row);
    whole(&definitions, &operations::definition(row), &mut Vec::new())
}

fn whole(definitions: &Definitions, name: &str, open: &mut Vec<String>) -> Value {
    if open.iter().any(|known| known == name) {
        return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    open.push(name.to_owned());
    let schema = filled(definitions, definitions.schema(name), open);
    open.pop();
    schema
}

fn filled(definitions: &Definitions, schema: Value, open: &mut Vec<String>) -> Value {
    let Value::Object(mut fields) = schema else { return schema };
    if let Some(name) = referred(&fields) {
        let mut schema = whole(definitions, &name, open);
        // How a list or map merges is said beside the reference.
        fields.retain(|name, _| name.starts_with("x-kubernetes-"));
        if let Some(schema) = schema.as_object_mut() {
            schema.extend(fields);
        }
        return schema;
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            *inner = filled(definitions, inner.take(), open);
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|property| *property = filled(definitions, property.take(), open));
    }
    Value::Object(fields)
}

/// The definition that a schema is nothing but a reference to.
fn referred(fields: &Map<String, Value>) -> Option<String> {
    let reference = match fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([one]) => one.get("$ref"),
        _ => fields.get("$ref"),
    };
    Some(reference?.as_str()?.strip_prefix(REFERENCE)?.to_owned())
}
