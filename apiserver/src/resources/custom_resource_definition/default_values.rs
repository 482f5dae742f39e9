//! Whether the defaults in a schema are values that it takes. Entry point: [`check`].

use api::field::{FieldError, FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::resources::custom::schema::Schema;
use crate::resources::custom::{check as value_check, embedded, prune};

/// Everything that is wrong with defaults at any depth.
pub(super) fn check(path: &FieldPath, schema: &Schema) -> FieldErrors {
    let mut errors = FieldErrors::new();
    walk(path, schema, Place { is_resource: true, inside_head: None }, &mut errors);
    errors
}

/// Where in an object a schema stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The schema is that of a whole object.
    is_resource: bool,
    /// The schema is part of the type or metadata of an object: which field.
    inside_head: Option<&'a str>,
}

fn walk(path: &FieldPath, schema: &Schema, place: Place<'_>, errors: &mut FieldErrors) {
    let is_resource = place.is_resource || schema.embedded;
    let inside_head = if schema.embedded { None } else { place.inside_head };
    if let Some(default) = schema.default.as_ref().filter(|default| !default.is_null()) {
        let at = path.child("default");
        match inside_head {
            Some(field) => in_head(&at, field, default, schema, errors),
            None => in_body(&at, default, schema, errors),
        }
    }
    if let Some(items) = &schema.items {
        walk(&path.child("items"), items, Place { is_resource: false, inside_head }, errors);
    }
    for (name, property) in &schema.properties {
        let head = is_resource && prune::META.contains(&name.as_str());
        let place = Place { is_resource: false, inside_head: inside_head.or(head.then_some(name)) };
        walk(&path.child("properties").key(name), property, place, errors);
    }
}

/// A default of apiVersion, kind or metadata must leave the object one.
fn in_head(at: &FieldPath, field: &str, default: &Value, schema: &Schema, errors: &mut FieldErrors) {
    let named = at.as_str().split("].").filter_map(|part| part.rsplit_once('[')).map(|(_, name)| name);
    let mut steps: Vec<&str> = named.collect();
    let from = steps.iter().rposition(|step| *step == field).unwrap_or(0);
    let mut object = default.clone();
    for step in steps.split_off(from).into_iter().rev() {
        object = json!({ step: object });
    }
    for (name, value) in [("apiVersion", "validation/v1"), ("kind", "Validation")] {
        if object.get(name).is_none() {
            object[name] = Value::from(value);
        }
    }
    let whole = Schema { embedded: true, preserve_unknown: true, ..Schema::default() };
    let mut found = FieldErrors::new();
    let coerced = embedded::coerce(&mut object, &whole);
    if coerced.is_ok() {
        embedded::check_at(&FieldPath::default(), &object, &whole, &mut found);
    }
    match coerced.err().map(|error| error.to_string()).or((!found.is_empty()).then(|| found.to_string())) {
        Some(why) => {
            errors.push(FieldError::invalid(at, default, format!("must result in valid metadata: {why}")));
        }
        None => errors.extend(value_check::check_part(at, schema, default)),
    }
}

fn in_body(at: &FieldPath, default: &Value, schema: &Schema, errors: &mut FieldErrors) {
    let mut pruned = default.clone();
    prune::prune_part(&mut pruned, schema);
    if pruned != *default {
        errors.push(FieldError::invalid(at, default, "must not have unknown fields"));
    }
    let mut coerced = default.clone();
    if let Err(error) = embedded::coerce(&mut coerced, schema) {
        let below = error.path.as_str().to_owned();
        let path = if below.is_empty() { at.clone() } else { at.child(&below) };
        return errors.push(FieldError { path, ..error });
    }
    let mut found = FieldErrors::new();
    embedded::check_at(at, default, schema, &mut found);
    if found.is_empty() {
        found = value_check::check_part(at, schema, default);
    }
    errors.extend(found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_must_be_values_of_their_schema() {
        let table = [
            (json!({"type": "integer", "default": 3}), "[]"),
            (
                json!({"type": "integer", "default": "x"}),
                "s.properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
            ),
            (
                json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": 1}}),
                "s.properties[a].default: Invalid value: {\"c\":1}: must not have unknown fields",
            ),
            (
                json!({"type": "object", "required": ["b"], "properties": {"b": {"type": "string"}}, "default": {}}),
                "s.properties[a].default.b: Required value",
            ),
            (
                json!({"type": "array", "items": {"type": "string", "default": 1}}),
                "s.properties[a].items.default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
            ),
        ];
        for (schema, expected) in table {
            let schema = Schema::parse(&json!({"type": "object", "properties": {"a": schema.clone()}})).unwrap();
            assert_eq!(check(&FieldPath::root("s"), &schema).to_string(), expected, "{schema:?}");
        }
    }
}
