//! What a schema may say at each of its nodes. Entry point: [`check`].
//!
//! Errors of the schema stand before those of its rules; rules are only looked at where nothing below is wrong otherwise.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath, go_quote};
use serde_json::Value;

use super::field_path;
use super::rules;
use crate::resources::custom::schema::Schema;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// Errors of a schema and of its rules.
#[derive(Default)]
pub(super) struct Found {
    /// Of the schema.
    pub schema: FieldErrors,
    /// Of the rules.
    pub rules: FieldErrors,
}

impl Found {
    fn extend(&mut self, other: Found) {
        self.schema.extend(other.schema);
        self.rules.extend(other.rules);
    }
}

/// Where a node stands.
#[derive(Clone)]
struct Place<'a> {
    /// Why there can be no default.
    no_defaults: Option<String>,
    /// Inside of apiVersion, kind or metadata.
    inside_head: bool,
    /// Where old and new values can't be told apart any more.
    uncorrelatable: Option<FieldPath>,
    /// For rules; none where there can't be any.
    rules: Option<rules::Place<'a>>,
    is_root: bool,
}

/// Everything that is wrong with a schema. The rules of one that is not sound can't be compiled.
pub(super) fn check(path: &FieldPath, schema: &Value, is_sound: bool, costs: &mut rules::Costs) -> Found {
    let place = Place {
        no_defaults: None,
        inside_head: false,
        uncorrelatable: None,
        rules: is_sound.then(|| rules::Place::root(schema)),
        is_root: true,
    };
    Walk { costs }.node(path, schema, &place)
}

struct Walk<'a> {
    costs: &'a mut rules::Costs,
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn list<'a>(schema: &'a Value, name: &str) -> &'a [Value] {
    schema.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn entries<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(name).and_then(Value::as_object).into_iter().flatten()
}

/// `Unsupported value` with the supported values in the order given.
fn not_supported(path: &FieldPath, value: &str, supported: &[&str]) -> FieldError {
    let supported: Vec<String> = supported.iter().map(|value| go_quote(value)).collect();
    FieldError {
        kind: FieldErrorKind::NotSupported,
        path: path.clone(),
        value: Some(value.into()),
        detail: format!("supported values: {}", supported.join(", ")),
    }
}

impl Walk<'_> {
    fn node(&mut self, path: &FieldPath, schema: &Value, place: &Place<'_>) -> Found {
        let mut found = Found::default();
        unsupported(path, schema, place, &mut found.schema);
        self.fields(path, schema, place, &mut found);
        self.junctors(path, schema, place, &mut found);
        self.items(path, schema, place, &mut found);
        extensions(path, schema, &mut found.schema);
        rule_texts(path, schema, &mut found.schema);
        if found.schema.is_empty()
            && let Some(at) = &place.rules
        {
            found.rules.extend(rules::check(path, at, place.uncorrelatable.as_ref(), self.costs));
        }
        found
    }

    fn fields(&mut self, path: &FieldPath, schema: &Value, place: &Place<'_>, found: &mut Found) {
        let has_properties = entries(schema, "properties").next().is_some();
        if let Some(additional) = schema.get("additionalProperties") {
            let at = path.child("additionalProperties");
            if has_properties && *additional != Value::Bool(true) {
                let detail = "additionalProperties and properties are mutual exclusive";
                found.schema.push(FieldError::forbidden(&at, detail));
            }
            if additional.is_object() {
                let mut below = Place { is_root: false, ..place.clone() };
                if place.inside_head {
                    below.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
                }
                below.rules = place.rules.as_ref().and_then(rules::Place::additional_properties);
                found.extend(self.node(&at, additional, &below));
            }
        }
        let is_resource = place.is_root || flag(schema, "x-kubernetes-embedded-resource");
        for (name, property) in entries(schema, "properties") {
            let mut below = Place { is_root: false, ..place.clone() };
            if is_resource && META.contains(&name.as_str()) {
                below.inside_head = true;
                if place.is_root {
                    below.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            below.rules = place.rules.as_ref().and_then(|rules| rules.property(name));
            found.extend(self.node(&path.child("properties").key(name), property, &below));
        }
    }

    fn junctors(&mut self, path: &FieldPath, schema: &Value, place: &Place<'_>, found: &mut Found) {
        let below = Place { is_root: false, rules: None, ..place.clone() };
        if let Some(not) = schema.get("not") {
            found.extend(self.node(&path.child("not"), not, &below));
        }
        for name in ["allOf", "oneOf", "anyOf"] {
            for (i, part) in list(schema, name).iter().enumerate() {
                found.extend(self.node(&path.child(name).index(i), part, &below));
            }
        }
        for (name, part) in entries(schema, "definitions") {
            found.extend(self.node(&path.child("definitions").key(name), part, &below));
        }
    }

    fn items(&mut self, path: &FieldPath, schema: &Value, place: &Place<'_>, found: &mut Found) {
        let mut below = Place { is_root: false, ..place.clone() };
        if text(schema, "x-kubernetes-list-type") != "map" {
            below.uncorrelatable.get_or_insert_with(|| path.clone());
        }
        below.rules = place.rules.as_ref().and_then(rules::Place::items);
        let at = path.child("items");
        match schema.get("items") {
            Some(Value::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    found.extend(self.node(&at.index(i), item, &below));
                }
            }
            Some(item) => found.extend(self.node(&at, item, &below)),
            None => {}
        }
    }
}

/// What OpenAPI has and definitions do not.
fn unsupported(path: &FieldPath, schema: &Value, place: &Place<'_>, errors: &mut FieldErrors) {
    let type_name = text(schema, "type");
    if !type_name.is_empty() && !TYPES.contains(&type_name) {
        errors.push(not_supported(&path.child("type"), type_name, &TYPES));
    }
    if let (Some(reason), true) = (&place.no_defaults, schema.get("default").is_some()) {
        errors.push(FieldError::forbidden(&path.child("default"), format!("must not be set {reason}")));
    }
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(name).is_some() {
            errors.push(FieldError::forbidden(&path.child(name), format!("{name} is not supported")));
        }
    }
    if type_name == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        errors.push(FieldError::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if place.inside_head && flag(schema, "x-kubernetes-embedded-resource") {
        let detail = "must not be used inside of resource meta";
        errors.push(FieldError::forbidden(&path.child("x-kubernetes-embedded-resource"), detail));
    }
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
}

fn extensions(path: &FieldPath, schema: &Value, errors: &mut FieldErrors) {
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if schema.get(preserve) == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(&path.child(preserve), false, "must be true or undefined"));
    }
    let wants_type = |name: &str, wanted: &str, errors: &mut FieldErrors| {
        let (found, at) = (text(schema, "type"), path.child("type"));
        let detail = format!("must be {wanted} if {name} is specified");
        if schema.get(name).is_some() && found != wanted {
            errors.push(match found {
                "" => FieldError::required(&at, detail),
                found => FieldError::invalid(&at, found, detail),
            });
            return false;
        }
        true
    };
    wants_type("x-kubernetes-map-type", "object", errors);
    if let Some(map_type) = schema.get("x-kubernetes-map-type").and_then(Value::as_str)
        && !matches!(map_type, "atomic" | "granular")
    {
        errors.push(not_supported(&path.child("x-kubernetes-map-type"), map_type, &["atomic", "granular"]));
    }
    if wants_type("x-kubernetes-list-type", "array", errors) && text(schema, "x-kubernetes-list-type") == "set" {
        items_of_set(path, schema, errors);
    }
    if let Some(list_type) = schema.get("x-kubernetes-list-type").and_then(Value::as_str)
        && !matches!(list_type, "atomic" | "set" | "map")
    {
        errors.push(not_supported(&path.child("x-kubernetes-list-type"), list_type, &["atomic", "set", "map"]));
    }
    list_map(path, schema, errors);
    keys_of_lists(path, schema, errors);
}

fn items_of_set(path: &FieldPath, schema: &Value, errors: &mut FieldErrors) {
    let Some(items) = schema.get("items").filter(|items| items.is_object()) else { return };
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let list_type = items.get("x-kubernetes-list-type");
    match text(items, "type") {
        "array" if list_type.is_some_and(|list_type| list_type != "atomic") => {
            errors.push(FieldError::invalid(&path.child("items").child("x-kubernetes-list-type"), list_type, detail));
        }
        // Upstream shows the list type here, too.
        "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
            errors.push(FieldError::invalid(&path.child("items").child("x-kubernetes-map-type"), list_type, detail));
        }
        _ => {}
    }
}

fn list_map(path: &FieldPath, schema: &Value, errors: &mut FieldErrors) {
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    if !keys.is_empty() && list_type != Some("map") {
        let (at, detail) =
            (path.child("x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty");
        errors.push(match list_type {
            None => FieldError::required(&at, detail),
            Some(other) => FieldError::invalid(&at, other, detail),
        });
    }
    if list_type != Some("map") {
        return;
    }
    let at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(&at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let items = match schema.get("items") {
        None => {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            return errors.push(FieldError::required(&path.child("items"), detail));
        }
        Some(Value::Array(items)) => {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            return errors.push(FieldError::invalid(&path.child("items"), items, detail));
        }
        Some(items) => items,
    };
    if text(items, "type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.push(FieldError::invalid(&path.child("items").child("type"), text(items, "type"), detail));
    }
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match items.get("properties").and_then(|properties| properties.get(name)) {
            None => errors.push(FieldError::invalid(&at, keys, "entries must all be names of item properties")),
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let at = path.child("items").child("properties").key(name).child("type");
                errors.push(FieldError::invalid(&at, text(items, "type"), detail));
            }
            Some(_) => {}
        }
        if keys[..i].contains(key) {
            errors.push(FieldError::invalid(&at, keys, "must not contain duplicate entries"));
        }
    }
}

/// Items of sets and maps are there, and so are the keys of maps.
fn keys_of_lists(path: &FieldPath, schema: &Value, errors: &mut FieldErrors) {
    let list_type = text(schema, "x-kubernetes-list-type");
    let Some(items) = schema.get("items").filter(|items| items.is_object() && matches!(list_type, "set" | "map"))
    else {
        return;
    };
    let at = path.child("items");
    if flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&at.child("nullable"), detail));
    }
    if list_type == "set" {
        return;
    }
    for name in list(schema, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str) {
        let Some(property) = items.get("properties").and_then(|properties| properties.get(name)) else { continue };
        let at = at.child("properties").key(name);
        let required = list(items, "required").iter().any(|required| required == name);
        if !required && property.get("default").is_none() {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&at.child("default"), detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), detail));
        }
    }
}

/// What can be said about rules without compiling them.
fn rule_texts(path: &FieldPath, schema: &Value, errors: &mut FieldErrors) {
    for (i, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        let at = path.child("x-kubernetes-validations").index(i);
        let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
        let broken = |text: &str| text.contains(['\n', '\r']);
        if expression.is_empty() {
            errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            let detail = "message must be non-empty if specified";
            errors.push(FieldError::invalid(&at.child("message"), message, detail));
        } else if broken(message.trim()) {
            errors.push(FieldError::invalid(&at.child("message"), message, "message must not contain line breaks"));
        } else if broken(expression) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&at.child("message"), detail));
        }
        let message_expression = text(rule, "messageExpression");
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(&at.child("messageExpression"), detail));
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str).filter(|reason| !REASONS.contains(reason)) {
            errors.push(not_supported(&at.child("reason"), reason, &REASONS));
        }
        let (field, at) = (text(rule, "fieldPath"), at.child("fieldPath"));
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            errors.push(FieldError::invalid(&at, field, "fieldPath must be non-empty if specified"));
        }
        if broken(field) {
            errors.push(FieldError::invalid(&at, field, "fieldPath must not contain line breaks"));
        }
        if Schema::parse(schema).is_ok_and(|schema| field_path::resolve(field, &schema, true).is_err()) {
            errors.push(FieldError::invalid(&at, field, "fieldPath must be a valid path"));
        }
    }
}
