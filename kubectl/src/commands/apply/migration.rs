//! From client-side to server-side apply: what `kubectl apply` owned as an update becomes the applying manager's, so that its own earlier
//! fields are no conflict and those it no longer applies go. Entry point: [`patch`], pure. Reference:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply>.

use serde_json::{Value, json};

/// The JSON patch that gives the fields of `from` to `to`; None if `from` owns none.
pub fn patch(live: &Value, from: &str, to: &str) -> Option<Value> {
    let mut entries = live["metadata"]["managedFields"].as_array()?.clone();
    let is = |entry: &Value, manager: &str, operation: &str| {
        entry["manager"] == manager
            && entry["operation"] == operation
            && entry["subresource"].as_str().is_none_or(str::is_empty)
    };
    let index = entries.iter().position(|entry| is(entry, from, "Update"))?;
    let mut old = entries.remove(index);
    match entries.iter_mut().find(|entry| is(entry, to, "Apply")) {
        Some(entry) => unite(&mut entry["fieldsV1"], &old["fieldsV1"]),
        None => {
            old["manager"] = to.into();
            old["operation"] = "Apply".into();
            entries.insert(index, old);
        }
    }
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
    ]))
}

/// Sets of fields are nested objects.
fn unite(set: &mut Value, more: &Value) {
    for (field, inner) in more.as_object().into_iter().flatten() {
        match set.get_mut(field) {
            Some(present) => unite(present, inner),
            None => set[field] = inner.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_of_the_client_become_the_appliers() {
        let entry = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let live = |entries: Value| json!({"metadata": {"resourceVersion": "7", "managedFields": entries}});
        let old = entry("old", "Update", json!({"f:data": {"f:a": {}}}));
        let wanted = |entries: Value| {
            Some(json!([{"op": "replace", "path": "/metadata/managedFields", "value": entries},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}]))
        };
        let other = entry("other", "Update", json!({"f:x": {}}));
        assert_eq!(patch(&live(json!([other])), "old", "new"), None);
        assert_eq!(
            patch(&live(json!([other, old])), "old", "new"),
            wanted(json!([other, entry("new", "Apply", json!({"f:data": {"f:a": {}}}))]))
        );
        assert_eq!(
            patch(&live(json!([old, entry("new", "Apply", json!({"f:data": {"f:b": {}}}))])), "old", "new"),
            wanted(json!([entry("new", "Apply", json!({"f:data": {"f:a": {}, "f:b": {}}}))]))
        );
    }
}
