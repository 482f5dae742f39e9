//! Fields that a schema does not name are dropped. Entry points: [`prune`], and [`unknown_fields`], which only says which.
//!
//! `x-kubernetes-preserve-unknown-fields` keeps them; `apiVersion`, `kind` and `metadata` of a resource are never dropped.

use serde_json::Value;

use super::schema::{Additional, Schema};

/// The fields that every resource has.
pub const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops what the schema of the resource does not name; without a schema that is everything.
pub fn prune(resource: &mut Value, schema: Option<&Schema>) {
    Pruner { path: String::new(), found: None }.node(resource, schema, true);
}

/// The paths of the fields that [`prune`] drops, sorted.
pub fn unknown_fields(resource: &Value, schema: Option<&Schema>) -> Vec<String> {
    let mut pruner = Pruner { path: String::new(), found: Some(Vec::new()) };
    pruner.node(&mut resource.clone(), schema, true);
    let mut found = pruner.found.unwrap_or_default();
    found.sort();
    found
}

/// Drops what the schema does not name of a value inside a resource.
pub fn prune_part(value: &mut Value, schema: &Schema) {
    Pruner { path: String::new(), found: None }.node(value, Some(schema), schema.embedded);
}

struct Pruner {
    path: String,
    found: Option<Vec<String>>,
}

impl Pruner {
    fn node(&mut self, value: &mut Value, schema: Option<&Schema>, is_resource: bool) {
        let keep = schema.is_some_and(|schema| schema.preserve_unknown);
        match value {
            Value::Object(fields) => {
                let mut dropped = Vec::new();
                for (name, value) in fields.iter_mut() {
                    if is_resource && META.contains(&name.as_str()) {
                        continue;
                    }
                    match schema.map(|schema| (schema.properties.get(name), &schema.additional_properties)) {
                        Some((Some(property), _)) => self.within(name, value, Some(property)),
                        Some((None, Some(Additional::Schema(schema)))) => self.within(name, value, Some(schema)),
                        Some((None, Some(Additional::Allowed(_)))) if !keep => self.within(name, value, None),
                        Some((None, _)) if keep => {}
                        Some((None, _)) | None => dropped.push(name.clone()),
                    }
                }
                for name in dropped {
                    fields.remove(&name);
                    self.drop(&name);
                }
            }
            Value::Array(items) => {
                let schema = schema.and_then(|schema| schema.items.as_deref());
                if schema.is_none() && keep {
                    return;
                }
                let length = self.path.len();
                for (i, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{i}]"));
                    self.node(item, schema, schema.is_some_and(|schema| schema.embedded));
                    self.path.truncate(length);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn within(&mut self, name: &str, value: &mut Value, schema: Option<&Schema>) {
        let length = self.path.len();
        self.enter(name);
        self.node(value, schema, schema.is_some_and(|schema| schema.embedded));
        self.path.truncate(length);
    }

    fn enter(&mut self, name: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }

    fn drop(&mut self, name: &str) {
        let length = self.path.len();
        self.enter(name);
        if let Some(found) = &mut self.found {
            found.push(self.path.clone());
        }
        self.path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_named_or_preserved_stays() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"known": {"type": "object", "properties": {"y": {"type": "string"}}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"z": {"type": "string"}}}},
                "any": {"type": "object", "additionalProperties": true},
                "whole": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            }}}}))
        .unwrap();
        let object = json!({"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "n"}, "top": 1, "spec": {
            "a": "1", "b": 2, "list": [{"x": "1", "w": 1}], "free": {"u": {"v": 1}, "known": {"y": "1", "n": 1}},
            "map": {"k": {"z": "1", "n": 1}}, "any": {"s": "1", "o": {"p": 1}},
            "whole": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"q": 1}, "data": 1}}});
        let mut pruned = object.clone();
        prune(&mut pruned, Some(&schema));
        assert_eq!(
            pruned,
            json!({"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "n"}, "spec": {
                "a": "1", "list": [{"x": "1"}], "free": {"u": {"v": 1}, "known": {"y": "1"}},
                "map": {"k": {"z": "1"}}, "any": {"s": "1", "o": {}},
                "whole": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}}})
        );
        assert_eq!(
            unknown_fields(&object, Some(&schema)),
            [
                "spec.any.o.p",
                "spec.b",
                "spec.free.known.n",
                "spec.list[0].w",
                "spec.map.k.n",
                "spec.whole.data",
                "spec.whole.spec.q",
                "top"
            ]
        );
        assert_eq!(unknown_fields(&object, None), ["spec", "top"]);
    }
}
