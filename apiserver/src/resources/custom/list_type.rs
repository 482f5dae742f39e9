//! Lists that are sets hold no value twice, lists that are maps no key. Entry point: [`check`].

use std::collections::BTreeMap;

use api::field::{FieldError, FieldErrors, FieldPath};
use serde_json::{Map, Value};

use super::schema::{Additional, Schema};

/// Every repetition, at every depth.
pub fn check(value: &Value, schema: &Schema) -> FieldErrors {
    let mut errors = FieldErrors::new();
    walk(&FieldPath::default(), value, schema, &mut errors);
    errors
}

fn walk(path: &FieldPath, value: &Value, schema: &Schema, errors: &mut FieldErrors) {
    match value {
        Value::Object(fields) => {
            if let Some(Additional::Schema(schema)) = &schema.additional_properties {
                fields.iter().for_each(|(name, value)| walk(&path.key(name), value, schema, errors));
            }
            for (name, value) in fields {
                if let Some(property) = schema.properties.get(name) {
                    walk(&path.child(name), value, property, errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type.as_deref() {
                Some("set") => {
                    for at in repeated(items) {
                        errors.push(FieldError::duplicate(&path.index(at), &items[at]));
                    }
                }
                Some("map") => keys(path, items, &schema.list_map_keys, errors),
                _ => {}
            }
            if let Some(schema) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| walk(&path.index(i), item, schema, errors));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The second occurrence of each value that occurs more than once.
fn repeated(items: &[Value]) -> Vec<usize> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let second = |item: &Value| {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        *times == 2
    };
    let found: Vec<bool> = items.iter().map(second).collect();
    (0..items.len()).filter(|at| found[*at]).collect()
}

fn keys(path: &FieldPath, items: &[Value], keys: &[String], errors: &mut FieldErrors) {
    if let Some(at) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let detail = "must be an object for an array of list-type map";
        return errors.push(FieldError::invalid(&path.index(at), &items[at], detail));
    }
    let key = |item: &Value| {
        let pick = |name: &String| Some((name.clone(), item.get(name)?.clone()));
        Value::Object(keys.iter().filter_map(pick).collect::<Map<String, Value>>())
    };
    let found: Vec<Value> = items.iter().map(key).collect();
    for at in repeated(&found) {
        errors.push(FieldError::duplicate(&path.index(at), &found[at]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn repetitions_are_found() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                "items": {"type": "object"}},
            "plain": {"type": "array", "items": {"type": "string"}},
        }}))
        .unwrap();
        let table = [
            (json!({"set": ["x", "y"], "map": [{"a": 1}, {"a": 1, "b": 2}], "plain": ["x", "x"]}), "[]"),
            (
                json!({"set": ["x", "x", "x", "y", "y"]}),
                "[set[1]: Duplicate value: \"x\", set[4]: Duplicate value: \"y\"]",
            ),
            (json!({"map": [{"a": 1, "c": 1}, {"a": 1, "c": 2}]}), "map[1]: Duplicate value: {\"a\":1}"),
            (json!({"map": [1]}), "map[0]: Invalid value: 1: must be an object for an array of list-type map"),
        ];
        for (value, expected) in table {
            assert_eq!(check(&value, &schema).to_string(), expected);
        }
    }
}
