//! Which fields differ between two states of an object. Entry point: [`compare`].

use std::collections::BTreeMap;

use serde_json::{Map as Entries, Value};

use super::element;
use super::fields::Fields;
use super::shape::{Form, List, ListRule, Map, Node};

/// The fields that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Only the new state has them.
    pub added: Fields,
    /// Both have them, with other values.
    pub modified: Fields,
    /// Only the old state has them.
    pub removed: Fields,
}

impl Changes {
    /// Leaves fields and all below them out of account.
    pub fn ignore(&mut self, ignored: &Fields, only: &[&str]) {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.subtract_trees(ignored);
            if !only.is_empty() {
                set.keep_paths(only);
            }
        }
    }

    /// The fields that the new state brought.
    pub fn brought(self) -> Fields {
        let mut brought = self.added;
        brought.union(self.modified);
        brought
    }

    fn insert_child(&mut self, element: &str, child: Changes) {
        self.added.insert_child(element, child.added);
        self.modified.insert_child(element, child.modified);
        self.removed.insert_child(element, child.removed);
    }

    fn union(&mut self, other: Changes) {
        self.added.union(other.added);
        self.modified.union(other.modified);
        self.removed.union(other.removed);
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Compares two values of a type; none is a value that is not there.
pub fn compare(node: Node<'_>, old: Option<&Value>, new: Option<&Value>) -> Changes {
    if old == new {
        return Changes::default();
    }
    match (old, new) {
        (Some(_), Some(_)) if node.is_open() => {
            let (was, is) = (node.form(old), node.form(new));
            if std::mem::discriminant(&was) == std::mem::discriminant(&is) {
                return compare_form(is, old, new).0;
            }
            let mut changes = compare_form(was, old, new).0;
            changes.union(compare_form(is, old, new).0);
            changes
        }
        _ => {
            let (mut changes, leaf) = compare_form(node.form(new.or(old)), old, new);
            match (old, new) {
                (None, _) if !leaf => changes.added.insert_self(),
                (_, None) if !leaf => changes.removed.insert_self(),
                _ => {}
            }
            changes
        }
    }
}

/// The changes, and whether the value counts as one.
fn compare_form(form: Form<'_>, old: Option<&Value>, new: Option<&Value>) -> (Changes, bool) {
    match form {
        Form::Scalar(_) => (leaf(old, new), true),
        Form::Map(map) => {
            let (was, is) = (entries(old), entries(new));
            if map.atomic || (was.is_none_or(Entries::is_empty) && is.is_none_or(Entries::is_empty)) {
                return (leaf(old, new), true);
            }
            (compare_maps(map, was, is), false)
        }
        Form::List(list) => {
            let (was, is) = (items(old), items(new));
            if matches!(list.rule, ListRule::Atomic) || (was.is_empty() && is.is_empty()) {
                return (leaf(old, new), true);
            }
            (compare_lists(list, was, is), false)
        }
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Changes {
    let mut changes = Changes::default();
    match (old, new) {
        (None, _) => changes.added.insert_self(),
        (_, None) => changes.removed.insert_self(),
        (Some(old), Some(new)) if old != new => changes.modified.insert_self(),
        (Some(_), Some(_)) => {}
    }
    changes
}

fn entries(value: Option<&Value>) -> Option<&Entries<String, Value>> {
    value.and_then(Value::as_object)
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn compare_maps(map: Map<'_>, old: Option<&Entries<String, Value>>, new: Option<&Entries<String, Value>>) -> Changes {
    let mut changes = Changes::default();
    let mut visit = |name: &str, was: Option<&Value>, is: Option<&Value>| {
        if was == is {
            return;
        }
        if let Some(node) = map.field(name) {
            let child = compare(node, was, is);
            if !child.is_empty() {
                changes.insert_child(&element::of_name(name), child);
            }
        }
    };
    for (name, was) in old.into_iter().flatten() {
        visit(name, Some(was), new.and_then(|new| new.get(name)));
    }
    for (name, is) in new.into_iter().flatten() {
        if old.is_none_or(|old| !old.contains_key(name)) {
            visit(name, None, Some(is));
        }
    }
    changes
}

#[derive(Default)]
struct Both<'v> {
    old: Vec<&'v Value>,
    new: Vec<&'v Value>,
}

fn compare_lists(list: List<'_>, old: &[Value], new: &[Value]) -> Changes {
    let mut known: BTreeMap<String, Both<'_>> = BTreeMap::new();
    for item in old {
        if let Ok(element) = element::of_item(&list, item) {
            known.entry(element).or_default().old.push(item);
        }
    }
    for item in new {
        if let Ok(element) = element::of_item(&list, item) {
            known.entry(element).or_default().new.push(item);
        }
    }
    let mut changes = Changes::default();
    for (element, both) in known {
        let child = compare_items(list, &both.old, &both.new);
        if !child.is_empty() {
            changes.insert_child(&element, child);
        }
    }
    changes
}

/// Items of one key. Several of them, which only older versions let in, count as one value.
fn compare_items(list: List<'_>, old: &[&Value], new: &[&Value]) -> Changes {
    let mut changes = Changes::default();
    match (old, new) {
        ([] | [_], [] | [_]) => return compare(list.item, old.first().copied(), new.first().copied()),
        ([_, _, ..], [_, _, ..]) => {
            if old != new {
                changes.modified.insert_self();
            }
        }
        ([_, _, ..], _) => {
            if let Some(only) = new.first() {
                changes = compare(list.item, None, Some(only));
            }
            changes.removed.insert_self();
        }
        (_, [_, _, ..]) => {
            if let Some(only) = old.first() {
                changes = compare(list.item, Some(only), None);
            }
            changes.added.insert_self();
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;
    use serde_json::json;

    fn changes(kind: &str, old: Value, new: Value) -> [Value; 3] {
        let node = Node::Type(schema::of("v1", kind).expect("the type is known"));
        let changes = compare(node, Some(&old), Some(&new));
        [changes.added, changes.modified, changes.removed].map(Fields::into_json)
    }

    #[test]
    fn leaves_maps_and_lists_differ_as_their_types_say() {
        let table = [
            (
                "ConfigMap",
                json!({"data": {"a": "1", "b": "2"}}),
                json!({"data": {"a": "9", "c": "3"}}),
                [json!({"f:data": {"f:c": {}}}), json!({"f:data": {"f:a": {}}}), json!({"f:data": {"f:b": {}}})],
            ),
            (
                "ConfigMap",
                json!({}),
                json!({"data": {"a": "1"}}),
                [json!({"f:data": {".": {}, "f:a": {}}}), json!({}), json!({})],
            ),
            (
                "Pod",
                json!({"spec": {"containers": null}}),
                json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}),
                [
                    json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:ports": {".": {},
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}),
                    json!({}),
                    json!({}),
                ],
            ),
            (
                "Pod",
                json!({"spec": {"tolerations": [{"key": "a"}]}}),
                json!({"spec": {"tolerations": [{"key": "b"}]}}),
                [json!({}), json!({"f:spec": {"f:tolerations": {}}}), json!({})],
            ),
            (
                "Service",
                json!({"spec": {"selector": {"a": "b"}}}),
                json!({"spec": {"selector": {"c": "d"}}}),
                [json!({}), json!({"f:spec": {"f:selector": {}}}), json!({})],
            ),
            (
                "Pod",
                json!({"metadata": {"finalizers": ["a", "b"]}}),
                json!({"metadata": {"finalizers": ["b", "c"]}}),
                [
                    json!({"f:metadata": {"f:finalizers": {"v:\"c\"": {}}}}),
                    json!({}),
                    json!({"f:metadata": {"f:finalizers": {"v:\"a\"": {}}}}),
                ],
            ),
            (
                "ConfigMap",
                json!({"data": {"a": "1"}}),
                json!({}),
                [json!({}), json!({}), json!({"f:data": {".": {}, "f:a": {}}})],
            ),
        ];
        for (kind, old, new, expected) in table {
            assert_eq!(changes(kind, old.clone(), new.clone()), expected, "{old} -> {new}");
        }
    }

    #[test]
    fn repeated_keys_count_as_one_value() {
        let one = json!({"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}});
        let two = json!({"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}]}});
        let path = |below: Value| json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:env": {"k:{\"name\":\"A\"}": below}}}}});
        let all = path(json!({".": {}, "f:name": {}, "f:value": {}}));
        assert_eq!(changes("Pod", one.clone(), two.clone()), [path(json!({})), json!({}), all.clone()]);
        assert_eq!(changes("Pod", two, one), [all, json!({}), path(json!({}))]);
    }
}
