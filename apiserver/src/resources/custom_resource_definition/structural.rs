//! Whether a schema is structural: one spine of types, and value validations that add nothing to it. Entry point: [`check`].
//!
//! Reference: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

use api::field::{FieldError, FieldErrors, FieldPath};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::patterns;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// All violations, sorted by their texts.
pub(super) fn check(path: &FieldPath, schema: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    invariants(schema, Level::Root, path, &mut errors);
    complete_values(schema, Some(schema), path, path, &mut errors);
    errors.0.sort_by_key(ToString::to_string);
    errors
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn entries<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn list<'a>(schema: &'a Value, name: &str) -> &'a [Value] {
    schema.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

fn invariants(schema: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let type_name = text(schema, "type");
    match schema.get("items") {
        None if type_name == "array" => errors.push(FieldError::required(&path.child("items"), "must be specified")),
        Some(items) => invariants(items, Level::Item, &path.child("items"), errors),
        None => {}
    }
    for (name, property) in entries(schema, "properties") {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = schema.get("additionalProperties") {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &path, errors);
        }
    }
    if flag(schema, INT_OR_STRING) {
        for name in [PRESERVE, EMBEDDED].into_iter().filter(|name| flag(schema, name)) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(name), true, detail));
        }
    }
    value_validation(schema, level, path, errors);
    types(schema, level, path, errors);
    heads(schema, level, path, errors);
}

fn types(schema: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let (type_name, at) = (text(schema, "type"), path.child("type"));
    let embedded = flag(schema, EMBEDDED);
    if embedded && type_name != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match type_name {
            "" => FieldError::required(&at, detail),
            other => FieldError::invalid(&at, other, detail),
        });
    } else if type_name.is_empty() && !flag(schema, INT_OR_STRING) && !flag(schema, PRESERVE) {
        let place = match level {
            Level::Root => "at the root",
            Level::Item => "for specified array items",
            Level::Field => "for specified object fields",
        };
        errors.push(FieldError::required(&at, format!("must not be empty {place}")));
    }
    if embedded && schema.get("additionalProperties").is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !type_name.is_empty() && type_name != "object" {
        errors.push(FieldError::invalid(&at, type_name, "must be object at the root"));
    }
}

/// What may be said of apiVersion, kind and metadata.
fn heads(schema: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let embedded = flag(schema, EMBEDDED);
    let is_resource = level == Level::Root || embedded;
    let property = |name: &str| schema.get("properties").and_then(|properties| properties.get(name));
    let at = |name: &str| path.child("properties").key(name);
    for name in ["kind", "apiVersion"] {
        if let Some(found) = property(name).map(|property| text(property, "type"))
            && is_resource
            && found != "string"
        {
            errors.push(FieldError::invalid(&at(name).child("type"), found, "must be string"));
        }
    }
    if let Some(metadata) = property("metadata") {
        if is_resource && text(metadata, "type") != "object" {
            let found = text(metadata, "type");
            errors.push(FieldError::invalid(&at("metadata").child("type"), found, "must be object"));
        }
        if level == Level::Root && !restricts_names_only(metadata) {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&at("metadata"), detail));
        }
    }
    if embedded && !flag(schema, PRESERVE) && entries(schema, "properties").next().is_none() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

fn restricts_names_only(metadata: &Value) -> bool {
    metadata.as_object().into_iter().flatten().all(|(name, value)| match name.as_str() {
        "type" | "default" => true,
        "properties" => value.as_object().is_none_or(|fields| {
            !fields.is_empty() && fields.keys().all(|name| matches!(name.as_str(), "name" | "generateName"))
        }),
        _ => false,
    })
}

/// The two ways in which an int-or-string may repeat its types.
fn is_int_or_string(any_of: &[Value]) -> bool {
    any_of == [json!({"type": "integer"}), json!({"type": "string"})]
}

fn value_validation(schema: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    if !is_int_or_string(list(schema, "anyOf")) {
        nested_list(schema, "anyOf", level, path, errors);
    }
    let first_is_types = list(schema, "allOf").first().is_some_and(|first| is_int_or_string(list(first, "anyOf")));
    for (i, value) in list(schema, "allOf").iter().enumerate() {
        nested(value, first_is_types && i == 0, level, &path.child("allOf").index(i), errors);
    }
    nested_list(schema, "oneOf", level, path, errors);
    if let Some(not) = schema.get("not") {
        nested(not, false, level, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = Regex::new(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {}", patterns::go_error(pattern, &error));
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

fn nested_list(schema: &Value, name: &str, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    for (i, value) in list(schema, name).iter().enumerate() {
        nested(value, false, level, &path.child(name).index(i), errors);
    }
}

/// A value validation says nothing about types.
fn nested(value: &Value, skip_any_of: bool, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    if skip_any_of {
        let mut rest = value.clone();
        rest.as_object_mut().map(|fields| fields.remove("anyOf"));
        value_validation(&rest, level, path, errors);
    } else {
        value_validation(value, level, path, errors);
    }
    if let Some(items) = value.get("items") {
        nested(items, false, level, &path.child("items"), errors);
    }
    for (name, property) in entries(value, "properties") {
        nested(property, false, Level::Field, &path.child("properties").key(name), errors);
    }
    let mut forbid = |name: &str, detail: &str| {
        errors.push(FieldError::forbidden(&path.child(name), format!("must be {detail} to be structural")));
    };
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    for (name, detail) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        (PRESERVE, "false"),
        (EMBEDDED, "false"),
        (INT_OR_STRING, "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        if fields.contains_key(name) {
            forbid(name, detail);
        }
    }
    if value.pointer("/properties/metadata").is_some() {
        let detail = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(&path.child("properties").key("metadata"), detail));
    }
}

/// What value validations speak of must be on the spine.
fn complete_values(value: &Value, schema: Option<&Value>, at: &FieldPath, of: &FieldPath, errors: &mut FieldErrors) {
    if let Some(not) = value.get("not") {
        complete_nested(not, schema, at, &of.child("not"), errors);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (i, part) in list(value, name).iter().enumerate() {
            complete_nested(part, schema, at, &of.child(name).index(i), errors);
        }
    }
}

fn complete_nested(value: &Value, schema: Option<&Value>, at: &FieldPath, of: &FieldPath, errors: &mut FieldErrors) {
    let Some(schema) = schema else {
        return errors.push(FieldError::required(at, format!("because it is defined in {of}")));
    };
    complete_values(value, Some(schema), at, of, errors);
    if let Some(items) = value.get("items") {
        complete_nested(items, schema.get("items"), &at.child("items"), &of.child("items"), errors);
    }
    for (name, property) in entries(value, "properties") {
        let (at, of) = (at.child("properties").key(name), of.child("properties").key(name));
        let known = schema.get("properties").and_then(|properties| properties.get(name));
        complete_nested(property, known, &at, &of, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_named() {
        let table = [
            (json!({"type": "object"}), "[]"),
            (
                json!({"properties": {"a": {}}}),
                "[s.properties[a].type: Required value: must not be empty for specified object fields, s.type: Required value: must not be empty at the root]",
            ),
            (json!({"type": "string"}), "s.type: Invalid value: \"string\": must be object at the root"),
            (
                json!({"type": "object", "additionalProperties": true}),
                "s.additionalProperties: Forbidden: must not be used at the root",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array"}}}),
                "s.properties[a].items: Required value: must be specified",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}}),
                "s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
            ),
            (
                json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
                "[]",
            ),
            (
                json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"minimum": 1}]}}}),
                "[]",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "["}}}),
                "s.properties[a].pattern: Invalid value: \"[\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ]: `[`",
            ),
            (
                json!({"type": "object", "anyOf": [{"properties": {"b": {"minimum": 1}}}]}),
                "s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]",
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "a"}}}}}),
                "[]",
            ),
            (
                json!({"type": "object", "properties": {"e": {"type": "object", "x-kubernetes-embedded-resource": true}}}),
                "s.properties[e].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ),
        ];
        for (schema, expected) in table {
            assert_eq!(check(&FieldPath::root("s"), &schema).to_string(), expected, "{schema}");
        }
    }
}
