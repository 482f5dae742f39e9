//! Missing values become the schema's defaults. Entry points: [`drop_nulls`], then [`set_defaults`].
//!
//! A null where null is no value counts as missing. Defaults are filled in from the outside to the inside: a default that is an
//! object gets the defaults of its own fields.

use serde_json::Value;

use super::schema::{Additional, Schema};

/// Fills in defaults at every depth.
pub fn set_defaults(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                if let Some(default) = property.default.as_ref().filter(|default| !default.is_null())
                    && fields.get(name).is_none_or(|value| property.drops(value))
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                match (schema.properties.get(name), &schema.additional_properties) {
                    (Some(property), _) => set_defaults(value, property),
                    (None, Some(Additional::Schema(schema))) => item(value, schema),
                    (None, Some(Additional::Allowed(_)) | None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|value| item(value, schema));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn item(value: &mut Value, schema: &Schema) {
    if schema.drops(value)
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    set_defaults(value, schema);
}

/// Drops fields that are null, may not be null and have no default.
pub fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let property = schema.properties.get(name);
                !property.is_some_and(|property| property.drops(value) && property.default.is_none())
            });
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = schema.of_field(name) {
                    drop_nulls(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|value| drop_nulls(value, schema));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_reach_every_depth() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "a": {"type": "integer", "default": 3},
            "o": {"type": "object", "default": {}, "properties": {"b": {"type": "string", "default": "x"}}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "string", "default": "y"}}}},
            "m": {"type": "object", "additionalProperties": {"type": "string", "default": "z"}},
            "n": {"type": "string", "nullable": true, "default": "w"},
            "p": {"type": "string"},
            "q": {"type": "object", "properties": {"r": {"type": "string", "default": "s"}}},
        }}))
        .unwrap();
        let table = [
            (json!({}), json!({"a": 3, "o": {"b": "x"}, "n": "w"})),
            (
                json!({"a": null, "o": {"b": "1"}, "l": [{}, {"c": "2"}], "m": {"k": null}, "n": null, "p": null, "q": {}}),
                json!({"a": 3, "o": {"b": "1"}, "l": [{"c": "y"}, {"c": "2"}], "m": {"k": "z"}, "n": null, "q": {"r": "s"}}),
            ),
        ];
        for (mut value, expected) in table {
            drop_nulls(&mut value, &schema);
            set_defaults(&mut value, &schema);
            assert_eq!(value, expected);
        }
    }
}
