//! Putting a configuration over an object without asking who owns what: what a mutating admission policy does. Entry point:
//! [`overlay`]. What is one value as a whole may not be touched, so that nobody clears fields by leaving them out.

use serde_json::Value;

use super::{check, merge};
use crate::write::managed_fields::Node;
use crate::write::managed_fields::shape::{Form, ListRule};

/// The object with the configuration over it; the error is upstream's.
pub fn overlay(node: Node<'_>, live: &Value, config: &Value) -> Result<Value, String> {
    let problems = check::problems(node, config);
    if !problems.is_empty() {
        return Err(format!("failed to convert patch object to typed object: {}", check::show(&problems)));
    }
    let mut atomics = Vec::new();
    find_atomics(node, config, "", &mut atomics);
    if !atomics.is_empty() {
        let paths = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {paths}"));
    }
    Ok(merge::merge(node, Some(live), Some(config)).unwrap_or(Value::Null))
}

fn find_atomics(node: Node<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (node.form(Some(value)), value) {
        (Form::Map(map), Value::Object(fields)) => {
            if map.atomic {
                found.push(path.to_owned());
            }
            for (name, value) in fields {
                if let Some(node) = map.field(name) {
                    find_atomics(node, value, &format!("{path}.{name}"), found);
                }
            }
        }
        (Form::List(list), Value::Array(items)) => {
            if matches!(list.rule, ListRule::Atomic) {
                found.push(path.to_owned());
            }
            for (i, item) in items.iter().enumerate() {
                find_atomics(list.item, item, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;
    use serde_json::json;

    #[test]
    fn lists_are_merged_by_keys_and_atomic_values_are_left_alone() {
        let node = || Node::Type(schema::of("v1", "Pod").expect("a known type"));
        let live = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let config = json!({"metadata": {"labels": {"l": "1"}}, "spec": {"containers": [{"name": "a", "tty": true}]}});
        let merged = overlay(node(), &live, &config);
        let expected = json!({"metadata": {"labels": {"l": "1"}},
            "spec": {"containers": [{"name": "a", "image": "x", "tty": true}]}});
        assert_eq!(merged, Ok(expected));
        let atomic = json!({"spec": {"containers": [{"name": "a", "command": ["x"]}]}});
        let error = overlay(node(), &live, &atomic).expect_err("refused");
        assert!(
            error.ends_with("may not mutate atomic arrays, maps or structs: .spec.containers[0].command"),
            "{error}"
        );
    }
}
