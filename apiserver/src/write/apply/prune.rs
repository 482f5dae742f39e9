//! Taking away what a manager no longer applies and nobody else owns. Entry points: [`prune`], [`fields_of`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map as Entries, Value};

use crate::write::managed_fields::element;
use crate::write::managed_fields::shape::{Form, List, ListRule, Map, Node};
use crate::write::managed_fields::{Entry, Fields, Managed, Write};

/// The fields that a value of a type has.
pub(super) fn fields_of(node: Node<'_>, value: &Value) -> Fields {
    match (node.form(Some(value)), value) {
        (Form::Scalar(_), _) => Fields::leaf(),
        (Form::Map(map), _) if map.atomic => Fields::leaf(),
        (Form::List(List { rule: ListRule::Atomic, .. }), _) => Fields::leaf(),
        (Form::Map(map), Value::Object(entries)) => fields_of_map(map, entries),
        (Form::List(list), Value::Array(items)) => fields_of_list(list, items),
        _ => Fields::default(),
    }
}

fn fields_of_map(map: Map<'_>, entries: &Entries<String, Value>) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in entries {
        let Some(node) = map.field(name) else { continue };
        let mut child = fields_of(node, value);
        let empty = value.is_null() || value.as_object().is_some_and(Entries::is_empty);
        if empty || !map.declares(name) {
            child.insert_self();
        }
        fields.insert_child(element::of_name(name), child);
    }
    fields
}

fn fields_of_list(list: List<'_>, items: &[Value]) -> Fields {
    let mut of_item: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in items {
        if let Ok(element) = element::of_item(&list, item) {
            of_item.entry(element).or_default().push(item);
        }
    }
    let mut fields = Fields::default();
    for (element, items) in of_item {
        let mut child = match items.as_slice() {
            [only] => fields_of(list.item, only),
            _ => Fields::default(),
        };
        child.insert_self();
        fields.insert_child(element, child);
    }
    fields
}

/// The value without these fields; null if nothing is left.
fn without(node: Node<'_>, value: &Value, gone: &Fields) -> Value {
    match (node.form(Some(value)), value) {
        (Form::Scalar(_), _) => value.clone(),
        (Form::Map(map), Value::Object(entries)) if !map.atomic => {
            let mut left = Entries::new();
            for (name, value) in entries {
                match gone.child(&element::of_name(name)) {
                    Some(child) if child.is_member() => {}
                    Some(child) => {
                        let value = map.field(name).map_or_else(|| value.clone(), |node| without(node, value, child));
                        left.insert(name.clone(), value);
                    }
                    None => drop(left.insert(name.clone(), value.clone())),
                }
            }
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        (Form::List(list), Value::Array(items)) if !matches!(list.rule, ListRule::Atomic) => {
            let mut left = Vec::with_capacity(items.len());
            for item in items {
                match element::of_item(&list, item).ok().and_then(|element| gone.child(&element)) {
                    Some(child) if child.is_member() => {}
                    Some(child) => left.push(without(list.item, item, child)),
                    None => left.push(item.clone()),
                }
            }
            if left.is_empty() { Value::Null } else { Value::Array(left) }
        }
        _ => Value::Null,
    }
}

/// Adds the fields that the type names and of which only what is below them is in the set: who owns all of a struct, owns it.
fn with_named(node: Option<Node<'_>>, fields: &Fields) -> Fields {
    let mut named = Fields::default();
    for (element, child) in fields.children() {
        let (inner, declared) = match (node.map(|node| node.form(None)), element.strip_prefix("f:")) {
            (Some(Form::Map(map)), Some(name)) => (map.field(name), map.declares(name)),
            (Some(Form::List(list)), None) => (Some(list.item), false),
            _ => (None, false),
        };
        let has_children = child.children().next().is_some();
        let mut deeper = with_named(inner, child);
        if child.is_member() || (declared && has_children) {
            deeper.insert_self();
        }
        named.insert_child(element, deeper);
    }
    named
}

/// The merged object without what `last` owned, unless somebody owns it now; `managed` has the manager's new fields already.
pub(super) fn prune(merged: Value, managed: &Managed, last: &Entry, write: &Write<'_>) -> Value {
    let kind = write.kind;
    let Some(node) = kind.node(&last.version) else { return merged };
    let Some(converted) = kind.convert(&merged, write.version, &last.version).map(Cow::into_owned) else {
        return merged;
    };
    let last_fields = with_named(Some(node), &last.fields.read());
    let pruned = without(node, &converted, &last_fields);
    let pruned = add_back_owned(&converted, pruned, managed, &last.version, write);
    // Only what the manager owned before may go.
    let mut gone = with_named(Some(node), &fields_of(node, &converted));
    gone.subtract(&with_named(Some(node), &fields_of(node, &pruned)));
    gone.intersect(&last_fields);
    let pruned = without(node, &converted, &gone);
    match kind.convert(&pruned, &last.version, write.version).map(Cow::into_owned) {
        Some(pruned) => pruned,
        None => merged,
    }
}

/// Puts back what anybody owns; the answer is in the version that came in.
fn add_back_owned(merged: &Value, pruned: Value, managed: &Managed, version: &str, write: &Write<'_>) -> Value {
    let mut owned: BTreeMap<&str, Fields> = BTreeMap::new();
    for entry in managed.entries() {
        owned.entry(&entry.version).or_default().union(entry.fields.read().into_owned());
    }
    let first = owned.remove_entry(version);
    let mut pruned = pruned;
    for (at, fields) in first.into_iter().chain(owned) {
        let converted =
            (write.kind.node(at), write.kind.convert(merged, version, at), write.kind.convert(&pruned, version, at));
        let (Some(node), Some(whole), Some(left)) = converted else { continue };
        let mut gone = with_named(Some(node), &fields_of(node, &whole));
        let mut kept = with_named(Some(node), &fields_of(node, &left));
        kept.union(with_named(Some(node), &fields));
        gone.subtract(&kept);
        let back = without(node, &whole, &gone);
        if let Some(back) = write.kind.convert(&back, at, version).map(Cow::into_owned) {
            pruned = back;
        }
    }
    pruned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;
    use serde_json::json;

    #[test]
    fn fields_of_a_configuration() {
        let node = Node::Type(schema::of("v1", "Pod").expect("pods are known"));
        let config = json!({"metadata": {"labels": {"a": "b"}, "annotations": {}}, "spec": {"containers": [
            {"name": "c", "ports": [{"containerPort": 80}], "resources": {}}], "tolerations": [], "nodeSelector": {"x": "y"}}});
        assert_eq!(
            fields_of(node, &config).into_json(),
            json!({
            "f:metadata": {"f:labels": {"f:a": {}}, "f:annotations": {}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
                "f:tolerations": {}, "f:nodeSelector": {}}})
        );
    }

    #[test]
    fn fields_are_taken_out() {
        let node = Node::Type(schema::of("v1", "Pod").expect("pods are known"));
        let pod = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["x", "y"]}, "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d"}]}});
        let gone = Fields::from_json(json!({"f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}, "k:{\"name\":\"d\"}": {}}}}))
        .unwrap_or_default();
        assert_eq!(
            without(node, &pod, &gone),
            json!({"metadata": {"labels": null, "finalizers": ["y"]}, "spec": {"containers": [{"name": "c"}]}})
        );
    }
}
