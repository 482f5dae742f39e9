//! The patch of client-side apply: what the new configuration sets and the live object lacks, and what the last configuration set and
//! the new one no longer does. Entry point: [`patch`], pure. Reference:
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#how-apply-calculates-differences-and-merges-changes>.

use serde_json::{Map, Value, json};

/// How lists of objects are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// By merge key where the list has one (strategic merge patch, built-in kinds).
    Merged,
    /// As one value (JSON merge patch, custom resources).
    Replaced,
}

/// Merge keys of the built-in kinds' lists that apply meets, by field name.
/// Lists that are not here are replaced as a whole. Facts of the published OpenAPI document (`x-kubernetes-patch-merge-key`).
const MERGE_KEYS: [(&str, &str); 17] = [
    ("conditions", "type"),
    ("containers", "name"),
    ("env", "name"),
    ("ephemeralContainers", "name"),
    ("hostAliases", "ip"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ownerReferences", "uid"),
    ("podIPs", "ip"),
    ("resourceClaims", "name"),
    ("schedulingGates", "name"),
    ("secrets", "name"),
    ("topologySpreadConstraints", "topologyKey"),
    ("volumeDevices", "devicePath"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
    ("ports", "containerPort"),
];

/// The patch; None if there is nothing to change.
pub fn patch(original: &Value, modified: &Value, live: &Value, lists: Lists) -> Option<Value> {
    let patch = objects(original, modified, live, lists);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn objects(original: &Value, modified: &Value, live: &Value, lists: Lists) -> Map<String, Value> {
    let mut patch = Map::new();
    let empty = Map::new();
    let modified = modified.as_object().unwrap_or(&empty);
    for (field, wanted) in modified {
        let (was, is) = (&original[field], &live[field]);
        match (wanted, is) {
            (Value::Null, _) => {}
            (Value::Object(_), Value::Object(_)) => {
                let inner = objects(was, wanted, is, lists);
                if !inner.is_empty() {
                    patch.insert(field.clone(), Value::Object(inner));
                }
            }
            (Value::Array(items), Value::Array(_)) => {
                match merge_key(field, items).filter(|_| lists == Lists::Merged) {
                    Some(key) => merged_list(field, key, was, items, is, &mut patch),
                    None if wanted != is => drop(patch.insert(field.clone(), wanted.clone())),
                    None => {}
                }
            }
            (wanted, is) if same(wanted, is) => {}
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

fn merge_key(field: &str, items: &[Value]) -> Option<&'static str> {
    if field == "ports" && items.iter().all(|item| item.get("containerPort").is_none()) {
        return Some("port").filter(|key| items.iter().all(|item| item.get(*key).is_some()));
    }
    let key = MERGE_KEYS.iter().find(|(name, _)| *name == field)?.1;
    items.iter().all(|item| item.get(key).is_some()).then_some(key)
}

fn merged_list(field: &str, key: &str, was: &Value, items: &[Value], is: &Value, patch: &mut Map<String, Value>) {
    let find =
        |list: &Value, id: &Value| list.as_array().and_then(|list| list.iter().find(|item| item[key] == *id).cloned());
    let mut changes = Vec::new();
    for item in items {
        let id = &item[key];
        match find(is, id) {
            None => changes.push(item.clone()),
            Some(live) => {
                let mut inner = objects(&find(was, id).unwrap_or_default(), item, &live, Lists::Merged);
                if !inner.is_empty() {
                    inner.insert(key.to_owned(), id.clone());
                    changes.push(Value::Object(inner));
                }
            }
        }
    }
    for item in was.as_array().into_iter().flatten() {
        let id = &item[key];
        if !items.iter().any(|kept| kept[key] == *id) && find(is, id).is_some() {
            changes.push(json!({"$patch": "delete", key: id}));
        }
    }
    if changes.is_empty() {
        return;
    }
    let order: Vec<Value> = items.iter().map(|item| json!({key: item[key]})).collect();
    patch.insert(format!("$setElementOrder/{field}"), order.into());
    patch.insert(field.to_owned(), changes.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_hold_exactly_the_difference() {
        let spec = |containers: Value| json!({"spec": {"containers": containers}});
        let live = json!({"spec": {"containers": [{"name": "a", "image": "x", "pullPolicy": "Always"}, {"name": "b", "image": "y"}], "dns": "d"}, "status": {}});
        for (original, modified, wanted) in [
            // Nothing to do: defaults of the server stay.
            (spec(json!([{"name": "a", "image": "x"}])), spec(json!([{"name": "a", "image": "x"}])), Value::Null),
            // One field of one container.
            (
                spec(json!([])),
                spec(json!([{"name": "a", "image": "z"}])),
                json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "image": "z"}]}}),
            ),
            // A container that was applied and no longer is.
            (
                spec(json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}])),
                spec(json!([{"name": "a", "image": "x"}])),
                json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"$patch": "delete", "name": "b"}]}}),
            ),
            // A field that was applied and no longer is.
            (json!({"spec": {"dns": "d"}}), json!({"spec": {}}), json!({"spec": {"dns": null}})),
        ] {
            assert_eq!(patch(&original, &modified, &live, Lists::Merged).unwrap_or_default(), wanted, "{modified}");
        }
    }

    #[test]
    fn custom_resources_replace_lists() {
        let (modified, live) = (json!({"containers": [{"name": "a"}]}), json!({"containers": [{"name": "a", "x": 1}]}));
        assert_eq!(patch(&json!({}), &modified, &live, Lists::Replaced), Some(modified));
    }
}
