//! The patch of client-side apply: what the new configuration sets and the live object lacks, and what the last configuration set and
//! the new one no longer does. Entry point: [`patch`], pure. Reference:
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#how-apply-calculates-differences-and-merges-changes>.
//!
//! With a schema the patch is a strategic merge patch, whose lists merge as the schema says; without one it is a JSON merge patch.

use serde_json::{Map, Value, json};

use crate::openapi::Schema;

/// The patch; None if there is nothing to change.
pub fn patch(original: &Value, modified: &Value, live: &Value, schema: Option<Schema<'_>>) -> Option<Value> {
    let patch = objects(original, modified, live, schema);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn objects(original: &Value, modified: &Value, live: &Value, schema: Option<Schema<'_>>) -> Map<String, Value> {
    let mut patch = Map::new();
    let empty = Map::new();
    let modified = modified.as_object().unwrap_or(&empty);
    for (field, wanted) in modified {
        let (was, is) = (&original[field], &live[field]);
        let schema = schema.and_then(|schema| schema.field(field).or_else(|| schema.resolved().values()));
        match (wanted, is) {
            (Value::Null, _) => {}
            (wanted, is) if same(wanted, is) => {}
            (Value::Object(_), Value::Object(_)) if !replaces(schema) => {
                let mut inner = objects(was, wanted, is, schema);
                retain_keys(schema, wanted, &mut inner);
                if !inner.is_empty() {
                    patch.insert(field.clone(), Value::Object(inner));
                }
            }
            (Value::Array(items), Value::Array(_)) => match list(schema, items) {
                List::Keyed(key) => keyed(field, key, schema, [was, wanted, is], &mut patch),
                List::Set => set(field, [was, wanted, is], &mut patch),
                List::Whole => drop(patch.insert(field.clone(), wanted.clone())),
            },
            (wanted, _) => drop(patch.insert(field.clone(), wanted.clone())),
        }
    }
    for field in original.as_object().unwrap_or(&empty).keys() {
        if modified.get(field).is_none_or(Value::is_null) && !live[field].is_null() {
            patch.insert(field.clone(), Value::Null);
        }
    }
    patch
}

/// Equal, or an empty value where the server keeps none.
fn same(wanted: &Value, is: &Value) -> bool {
    let empty = matches!(wanted, Value::Array(items) if items.is_empty())
        || matches!(wanted, Value::Object(fields) if fields.is_empty());
    wanted == is || (empty && is.is_null())
}

fn replaces(schema: Option<Schema<'_>>) -> bool {
    schema.is_some_and(|schema| schema.is_patched_by("replace"))
}

/// Where only one of several fields may be set, a change names all that stay.
fn retain_keys(schema: Option<Schema<'_>>, wanted: &Value, patch: &mut Map<String, Value>) {
    if schema.is_some_and(|schema| schema.is_patched_by("retainKeys")) && !patch.is_empty() {
        let kept: Vec<&String> = wanted.as_object().into_iter().flat_map(Map::keys).collect();
        patch.insert("$retainKeys".to_owned(), json!(kept));
    }
}

/// How a list is patched.
enum List<'a> {
    /// Item by item, told apart by this field.
    Keyed(&'a str),
    /// Value by value.
    Set,
    /// As one value.
    Whole,
}

fn list<'a>(schema: Option<Schema<'a>>, items: &[Value]) -> List<'a> {
    let Some(schema) = schema.filter(|schema| schema.is_patched_by("merge")) else { return List::Whole };
    match schema.merge_key() {
        Some(key) if items.iter().all(|item| item.get(key).is_some()) => List::Keyed(key),
        Some(_) => List::Whole,
        None => List::Set,
    }
}

/// What a list was, is to be, and is.
type Lists<'a> = [&'a Value; 3];

fn keyed(field: &str, key: &str, schema: Option<Schema<'_>>, lists: Lists<'_>, patch: &mut Map<String, Value>) {
    let [was, wanted, is] = lists.map(|list| list.as_array().map_or(&[][..], Vec::as_slice));
    let find = |list: &[Value], id: &Value| list.iter().find(|item| item[key] == *id).cloned();
    let mut changes = Vec::new();
    for item in wanted {
        let id = &item[key];
        match find(is, id) {
            None => changes.push(item.clone()),
            Some(live) => {
                let before = find(was, id).unwrap_or_default();
                let mut inner = objects(&before, item, &live, schema.and_then(Schema::items));
                retain_keys(schema, item, &mut inner);
                if !inner.is_empty() {
                    inner.insert(key.to_owned(), id.clone());
                    changes.push(Value::Object(inner));
                }
            }
        }
    }
    for item in was {
        let id = &item[key];
        if find(wanted, id).is_none() && find(is, id).is_some() {
            changes.push(json!({"$patch": "delete", key: id}));
        }
    }
    if changes.is_empty() {
        return;
    }
    let order: Vec<Value> = wanted.iter().map(|item| json!({key: item[key]})).collect();
    patch.insert(format!("$setElementOrder/{field}"), order.into());
    patch.insert(field.to_owned(), changes.into());
}

fn set(field: &str, lists: Lists<'_>, patch: &mut Map<String, Value>) {
    let [was, wanted, is] = lists.map(|list| list.as_array().map_or(&[][..], Vec::as_slice));
    let added: Vec<&Value> = wanted.iter().filter(|value| !is.contains(value)).collect();
    let removed: Vec<&Value> = was.iter().filter(|value| !wanted.contains(value) && is.contains(value)).collect();
    if added.is_empty() && removed.is_empty() {
        return;
    }
    patch.insert(format!("$setElementOrder/{field}"), json!(wanted));
    if !added.is_empty() {
        patch.insert(field.to_owned(), json!(added));
    }
    if !removed.is_empty() {
        patch.insert(format!("$deleteFromPrimitiveList/{field}"), json!(removed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::Document;
    use crate::resources::Resource;

    /// A kind with a list of every sort.
    fn document() -> (Document, Resource) {
        let merged = |key: &str, strategy: &str, item: &str| {
            json!({"type": "array", "items": {"allOf": [{"$ref": format!("#/components/schemas/{item}")}]},
                "x-kubernetes-patch-merge-key": key, "x-kubernetes-patch-strategy": strategy})
        };
        let text = json!({"type": "string"});
        let document = json!({"components": {"schemas": {
            "Pod": {"properties": {"spec": {"$ref": "#/components/schemas/Spec"}},
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]},
            "Spec": {"properties": {
                "containers": merged("name", "merge", "Container"),
                "volumes": merged("name", "merge,retainKeys", "Volume"),
                "finalizers": {"type": "array", "items": text, "x-kubernetes-patch-strategy": "merge"},
                "args": {"type": "array", "items": text},
                "selector": {"type": "object", "x-kubernetes-patch-strategy": "replace"},
            }},
            "Container": {"properties": {"ports": merged("containerPort", "merge", "Port")}},
            "Volume": {"properties": {"emptyDir": {"type": "object"}, "secret": {"type": "object"}}},
            "Port": {"properties": {"containerPort": {"type": "integer"}, "name": text}},
        }}});
        let resource = Resource { version: "v1".into(), kind: "Pod".into(), ..Resource::default() };
        (Document::from_value(document), resource)
    }

    fn strategic(original: Value, modified: Value, live: Value) -> Value {
        let (document, resource) = document();
        let spec = |value: Value| json!({"spec": value});
        let found = patch(&spec(original), &spec(modified), &spec(live), document.kind(&resource));
        found.map_or(Value::Null, |patch| patch["spec"].clone())
    }

    #[test]
    fn patches_hold_exactly_the_difference() {
        let containers = |containers: Value| json!({"containers": containers});
        let live = json!({"containers": [{"name": "a", "image": "x", "pullPolicy": "Always"}, {"name": "b", "image": "y"}], "dns": "d"});
        for (original, modified, wanted) in [
            // Nothing to do: defaults of the server stay.
            (
                containers(json!([{"name": "a", "image": "x"}])),
                containers(json!([{"name": "a", "image": "x"}])),
                Value::Null,
            ),
            // One field of one container.
            (
                containers(json!([])),
                containers(json!([{"name": "a", "image": "z"}])),
                json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "image": "z"}]}),
            ),
            // A container that was applied and no longer is.
            (
                containers(json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}])),
                containers(json!([{"name": "a", "image": "x"}])),
                json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"$patch": "delete", "name": "b"}]}),
            ),
            // A field that was applied and no longer is.
            (json!({"dns": "d"}), json!({}), json!({"dns": null})),
        ] {
            assert_eq!(strategic(original, modified.clone(), live.clone()), wanted, "{modified}");
        }
    }

    #[test]
    fn each_list_and_map_is_patched_by_its_own_rule() {
        for (original, modified, live, wanted) in [
            // Ports are told apart by containerPort, at any depth.
            (
                json!({}),
                json!({"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}),
                json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}),
                Value::Null,
            ),
            // A volume becomes one of another type: only what is named stays.
            (
                json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
                json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
                json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
                json!({"$setElementOrder/volumes": [{"name": "v"}],
                    "volumes": [{"name": "v", "emptyDir": null, "secret": {"secretName": "s"}, "$retainKeys": ["name", "secret"]}]}),
            ),
            // Values of others stay in a merged list of values.
            (
                json!({"finalizers": ["a/b", "a/c"]}),
                json!({"finalizers": ["a/c", "a/d"]}),
                json!({"finalizers": ["a/b", "other", "a/c"]}),
                json!({"$setElementOrder/finalizers": ["a/c", "a/d"], "finalizers": ["a/d"], "$deleteFromPrimitiveList/finalizers": ["a/b"]}),
            ),
            // Other lists, and maps that replace, are one value.
            (json!({}), json!({"args": ["x"]}), json!({"args": ["x", "y"]}), json!({"args": ["x"]})),
            (
                json!({}),
                json!({"selector": {"a": "b"}}),
                json!({"selector": {"c": "d"}}),
                json!({"selector": {"a": "b"}}),
            ),
        ] {
            assert_eq!(strategic(original, modified.clone(), live), wanted, "{modified}");
        }
    }

    #[test]
    fn custom_resources_replace_lists() {
        let (modified, live) = (json!({"containers": [{"name": "a"}]}), json!({"containers": [{"name": "a", "x": 1}]}));
        assert_eq!(patch(&json!({}), &modified, &live, None), Some(modified));
    }
}
