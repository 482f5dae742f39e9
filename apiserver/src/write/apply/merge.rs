//! Putting a configuration over an object. Entry point: [`merge`].
//!
//! Scalars and atomic values are replaced, maps are merged field by field, lists whose items are known item by item. Items of the
//! configuration come in its order; items that only the object has keep their place between them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use serde_json::{Map as Entries, Value};

use crate::write::managed_fields::element;
use crate::write::managed_fields::shape::{Form, List, ListRule, Map, Node};

/// The merged value; what is not there is none.
pub(super) fn merge(node: Node<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (live, config) = match (live, config) {
        (Some(live), Some(config)) => (live, config),
        (one, other) => return other.or(one).cloned(),
    };
    match node.form(Some(config)) {
        Form::Scalar(_) => Some(config.clone()),
        Form::Map(map) => {
            let (was, wanted) = (entries(live), entries(config));
            if map.atomic || (was.is_none_or(Entries::is_empty) && wanted.is_none_or(Entries::is_empty)) {
                return Some(config.clone());
            }
            Some(Value::Object(merge_maps(map, was, wanted)))
        }
        Form::List(list) => {
            let (was, wanted) = (items(live), items(config));
            if matches!(list.rule, ListRule::Atomic) || (was.is_empty() && wanted.is_empty()) {
                return Some(config.clone());
            }
            Some(Value::Array(merge_lists(list, was, wanted)))
        }
    }
}

fn entries(value: &Value) -> Option<&Entries<String, Value>> {
    value.as_object()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn merge_maps(
    map: Map<'_>,
    live: Option<&Entries<String, Value>>,
    config: Option<&Entries<String, Value>>,
) -> Entries<String, Value> {
    let mut merged = live.cloned().unwrap_or_default();
    for (name, wanted) in config.into_iter().flatten() {
        let was = live.and_then(|live| live.get(name));
        let value = match map.field(name) {
            Some(node) => merge(node, was, Some(wanted)),
            None => Some(wanted.clone()),
        };
        if let Some(value) = value {
            merged.insert(name.clone(), value);
        }
    }
    merged
}

/// The items of a list with their elements; those that are not known by anything are left out.
fn indexed<'v>(list: &List<'_>, items: &'v [Value]) -> Vec<(String, &'v Value)> {
    items.iter().filter_map(|item| Some((element::of_item(list, item).ok()?, item))).collect()
}

fn merge_lists(list: List<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let (live, config) = (indexed(&list, live), indexed(&list, config));
    let wanted: BTreeSet<&str> = config.iter().map(|(element, _)| element.as_str()).collect();
    let mut was: BTreeMap<&str, Option<&Value>> = BTreeMap::new();
    for (element, item) in &live {
        // Repeated items are not merged, they are replaced.
        was.entry(element).and_modify(|item| *item = None).or_insert(Some(item));
    }
    let shared: VecDeque<&str> =
        config.iter().map(|(element, _)| element.as_str()).filter(|element| was.contains_key(element)).collect();
    let mut merging = Merging {
        list,
        was,
        wanted,
        shared,
        done: BTreeSet::new(),
        out: Vec::with_capacity(live.len().max(config.len())),
    };
    let (mut left, mut right) = (live.iter().peekable(), config.iter().peekable());
    while left.peek().is_some() || right.peek().is_some() {
        if let (Some((element, _)), Some((next, _))) = (left.peek(), right.peek())
            && element != next
            && merging.comes_later(element)
        {
            left.next();
            continue;
        }
        match (left.peek(), right.peek()) {
            // It was merged where the configuration has it.
            (Some((element, _)), None) if merging.wanted.contains(element.as_str()) => drop(left.next()),
            (Some((element, item)), _) if !merging.wanted.contains(element.as_str()) => {
                merging.out.push((*item).clone());
                left.next();
            }
            (at, Some((element, item))) => {
                if at.is_some_and(|(other, _)| other == element || merging.done.contains(other.as_str())) {
                    left.next();
                }
                merging.take(element, item);
                right.next();
            }
            (Some(_), None) | (None, None) => drop(left.next()),
        }
    }
    merging.out
}

struct Merging<'a> {
    list: List<'a>,
    was: BTreeMap<&'a str, Option<&'a Value>>,
    wanted: BTreeSet<&'a str>,
    /// Items of both that are still to come, in the order of the configuration.
    shared: VecDeque<&'a str>,
    done: BTreeSet<&'a str>,
    out: Vec<Value>,
}

impl<'a> Merging<'a> {
    /// Whether an item of the object is one of the configuration's too, but not the next of them.
    fn comes_later(&self, element: &str) -> bool {
        self.wanted.contains(element) && self.shared.front().is_some_and(|next| *next != element)
    }

    /// Takes an item of the configuration, merged with the object's.
    fn take(&mut self, element: &'a str, wanted: &Value) {
        let was = self.was.get(element).copied().flatten();
        self.out.extend(merge(self.list.item, was, Some(wanted)));
        self.done.insert(element);
        if self.shared.front() == Some(&element) {
            self.shared.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;
    use serde_json::json;

    fn order(live: &str, config: &str) -> String {
        let list = |names: &str| {
            let items: Vec<Value> = names.chars().map(|name| json!({"name": name.to_string()})).collect();
            json!({"spec": {"containers": items}})
        };
        let node = Node::Type(schema::of("v1", "Pod").expect("pods are known"));
        let merged = merge(node, Some(&list(live)), Some(&list(config))).unwrap_or_default();
        let names =
            merged["spec"]["containers"].as_array().into_iter().flatten().filter_map(|item| item["name"].as_str());
        names.collect()
    }

    #[test]
    fn items_come_in_the_configurations_order() {
        let table = [
            ("ab", "ca", "cab"),
            ("ab", "ba", "ba"),
            ("abc", "cb", "acb"),
            ("", "ab", "ab"),
            ("ab", "c", "abc"),
            ("abcd", "db", "acdb"),
            ("ab", "b", "ab"),
            ("ab", "axb", "axb"),
        ];
        for (live, config, merged) in table {
            assert_eq!(order(live, config), merged, "{live} + {config}");
        }
    }

    #[test]
    fn values_are_replaced_and_maps_merged() {
        let node = Node::Type(schema::of("v1", "Service").expect("services are known"));
        let live = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"selector": {"x": "y"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}});
        let config = json!({"metadata": {"labels": {"b": "3"}}, "spec": {"selector": {"z": "w"}, "ports": [{"port": 80, "name": "n"}], "externalIPs": null}});
        assert_eq!(
            merge(node, Some(&live), Some(&config)),
            Some(json!({"metadata": {"labels": {"a": "1", "b": "3"}}, "spec": {
            "selector": {"z": "w"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80, "name": "n"}], "externalIPs": null}}))
        );
    }
}
