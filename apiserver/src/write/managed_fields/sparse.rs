//! Two states of an object without what they have in common, told from their text. Entry points: [`differing`], [`same_desired`].
//!
//! Most writes change little of an object: its members that are equal as text need not be read. Invariant: what [`super::compare`]
//! finds between the two sparse values is what it finds between the whole ones, `metadata.managedFields` and
//! `metadata.resourceVersion` left out.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::write::members::{self, Members, is_object};

/// Both states as values of the members that differ; of members that are objects themselves only what differs below. None if
/// that can't be told from the text.
pub fn differing(old: &[u8], new: &[u8]) -> Option<(Value, Value)> {
    let (old, new) = (members::of(old)?, members::of(new)?);
    // An empty list that the client sent is written as null: the text does not tell it from an absent one.
    if new.values().any(|member| member.get() == "null") {
        return None;
    }
    let mut sparse = (Map::new(), Map::new());
    for (name, was, is) in pairs(&old, &new) {
        match (was, is) {
            (Some(was), Some(is)) if is_object(was) && is_object(is) => {
                let (was, is) = below(name, was, is)?;
                sparse.0.insert(name.to_owned(), was);
                sparse.1.insert(name.to_owned(), is);
            }
            _ => put(&mut sparse, name, was, is)?,
        }
    }
    Some((Value::Object(sparse.0), Value::Object(sparse.1)))
}

fn below(name: &str, old: &RawValue, new: &RawValue) -> Option<(Value, Value)> {
    let (old, new) = (members::below(old)?, members::below(new)?);
    let mut sparse = (Map::new(), Map::new());
    for (member, was, is) in pairs(&old, &new) {
        if name == "metadata" && matches!(member, "managedFields" | "resourceVersion") {
            continue;
        }
        put(&mut sparse, member, was, is)?;
    }
    Some((Value::Object(sparse.0), Value::Object(sparse.1)))
}

/// The members that are not equal as text.
fn pairs<'a>(
    old: &'a Members<'a>,
    new: &'a Members<'a>,
) -> impl Iterator<Item = (&'a str, Option<&'a RawValue>, Option<&'a RawValue>)> {
    let changed = old.iter().map(|(name, was)| (*name, Some(*was), new.get(name).copied()));
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name)).map(|(name, is)| (*name, None, Some(*is)));
    changed.chain(added).filter(|(_, was, is)| was.map(RawValue::get) != is.map(RawValue::get))
}

fn put(
    sparse: &mut (Map<String, Value>, Map<String, Value>),
    name: &str,
    was: Option<&RawValue>,
    is: Option<&RawValue>,
) -> Option<()> {
    for (fields, raw) in [(&mut sparse.0, was), (&mut sparse.1, is)] {
        if let Some(raw) = raw {
            fields.insert(name.to_owned(), serde_json::from_str(raw.get()).ok()?);
        }
    }
    Some(())
}

/// Whether nothing differs between two states that counts for `metadata.generation`: everything but metadata and status.
pub fn same_desired(old: &[u8], new: &[u8]) -> bool {
    let (Some(old), Some(new)) = (members::of(old), members::of(new)) else { return false };
    pairs(&old, &new).all(|(name, ..)| matches!(name, "metadata" | "status"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;
    use crate::write::managed_fields::{Node, compare};
    use serde_json::json;

    #[test]
    fn what_is_left_differs_as_the_whole_does() {
        let pod = |labels: Value, spec: Value, status: Value| {
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "labels": labels, "resourceVersion": "1",
                "managedFields": [{"manager": "m"}]}, "spec": spec, "status": status})
        };
        let containers = |image: &str| json!({"containers": [{"name": "c", "image": image}], "nodeName": "n"});
        let table = [
            pod(json!({"a": "1"}), containers("x"), json!({})),
            pod(json!({"a": "2"}), containers("x"), json!({})),
            pod(json!({"b": "1"}), containers("y"), json!({"phase": "Running"})),
            pod(json!({}), json!({}), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {"nodeSelector": {"a": "b"}}}),
        ];
        let node = Node::Type(schema::of("v1", "Pod").expect("pods are known"));
        let mut found = 0;
        for old in &table {
            for new in &table {
                let (was, is) =
                    differing(old.to_string().as_bytes(), new.to_string().as_bytes()).expect("it is well formed");
                let whole = |value: &Value| {
                    let mut value = value.clone();
                    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                        meta.remove("managedFields");
                        meta.remove("resourceVersion");
                    }
                    value
                };
                let sparse = compare(node, Some(&was), Some(&is));
                assert_eq!(sparse, compare(node, Some(&whole(old)), Some(&whole(new))), "{old} -> {new}");
                found += usize::from(was != is);
            }
        }
        assert_eq!(found, 30);
        assert_eq!(differing(b"{}", br#"{"rules":null}"#), None);
    }

    #[test]
    fn metadata_and_status_are_not_desired() {
        let table = [
            (r#"{"metadata":{"a":1},"spec":{},"status":{}}"#, r#"{"metadata":{"a":2},"spec":{}}"#, true),
            (r#"{"metadata":{},"spec":{"a":1}}"#, r#"{"metadata":{},"spec":{"a":2}}"#, false),
            (r#"{"metadata":{}}"#, r#"{"metadata":{},"data":{}}"#, false),
        ];
        for (old, new, same) in table {
            assert_eq!(same_desired(old.as_bytes(), new.as_bytes()), same, "{old} -> {new}");
        }
    }
}
