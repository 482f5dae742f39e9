//! Whether a configuration fits its type. Apply is always strict: unknown fields, wrong types and repeated keys are errors, in the
//! words of upstream, which prints values as Go does.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::write::managed_fields::element;
use crate::write::managed_fields::shape::{Form, List, ListRule, Map, Node, Scalar};

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    path: String,
    message: String,
}

/// All problems as one message.
pub(super) fn show(problems: &[Problem]) -> String {
    let one = |problem: &Problem| match problem.path.as_str() {
        "" => problem.message.clone(),
        path => format!("{path}: {}", problem.message),
    };
    match problems {
        [only] => one(only),
        several => {
            let lines: Vec<String> = several.iter().map(|problem| format!("  {}", one(problem))).collect();
            format!("errors:\n{}", lines.join("\n"))
        }
    }
}

/// Everything that does not fit.
pub(super) fn problems(node: Node<'_>, value: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    walk(node, value, "", &mut found);
    found
}

fn walk(node: Node<'_>, value: &Value, path: &str, found: &mut Vec<Problem>) {
    if value.is_null() {
        return;
    }
    let mut wrong = |message: String| found.push(Problem { path: path.to_owned(), message });
    match (node.form(Some(value)), value) {
        (Form::Map(map), Value::Object(fields)) => walk_map(map, fields, path, found),
        (Form::Map(_), other) => wrong(format!("expected map, got &{{{}}}", plain(other))),
        (Form::List(list), Value::Array(items)) => walk_list(list, items, path, found),
        (Form::List(_), other) => wrong(format!("expected list, got &{{{}}}", plain(other))),
        (Form::Scalar(scalar), other) => {
            if let Some(message) = scalar_problem(scalar, other) {
                wrong(message);
            }
        }
    }
}

fn walk_map(map: Map<'_>, fields: &serde_json::Map<String, Value>, path: &str, found: &mut Vec<Problem>) {
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match map.field(name) {
            Some(node) => walk(node, value, &path, found),
            None => {
                found.push(Problem { path, message: "field not declared in schema".to_owned() });
                return;
            }
        }
    }
}

fn walk_list(list: List<'_>, items: &[Value], path: &str, found: &mut Vec<Problem>) {
    let mut known = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let shown = match list.rule {
            ListRule::Atomic => format!("[{at}]"),
            ListRule::Set | ListRule::Keys(_) => match element::of_item(&list, item) {
                Ok(element) => {
                    let shown = element::show(&element);
                    if !known.insert(element) {
                        found.push(Problem {
                            path: path.to_owned(),
                            message: format!("duplicate entries for key {shown}"),
                        });
                    }
                    shown
                }
                Err(why) => {
                    found.push(Problem { path: path.to_owned(), message: format!("element {at}: {why}") });
                    return;
                }
            },
        };
        walk(list.item, item, &format!("{path}{shown}"), found);
    }
}

fn scalar_problem(scalar: Scalar, value: &Value) -> Option<String> {
    match (scalar, value) {
        (Scalar::String, Value::String(_)) | (Scalar::Number, Value::Number(_)) | (Scalar::Bool, Value::Bool(_)) => {
            None
        }
        (Scalar::Any, Value::String(_) | Value::Number(_) | Value::Bool(_)) => None,
        (Scalar::String, other) => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", syntax(other)))
        }
        (Scalar::Number, other) => Some(format!("expected numeric (int or float), got {}", type_name(other))),
        (Scalar::Bool, other) => Some(format!("expected boolean, got &{{{}}}", plain(other))),
        (Scalar::Any, other) => Some(format!("expected any scalar, got &{{{}}}", plain(other))),
    }
}

/// Go's `%v`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// Go's `%#v`.
fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => api::field::go_quote(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{}:{}", api::field::go_quote(name), syntax(value)));
            format!("map[string]interface {{}}{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Go's `%T`.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;
    use serde_json::json;

    #[test]
    fn what_does_not_fit_is_said_in_upstreams_words() {
        let spec = |spec: Value| json!({"spec": spec});
        let table = [
            (json!({"extra": 1}), ".extra: field not declared in schema"),
            (
                json!({"metadata": {"name": true}}),
                ".metadata.name: expected string, got &value.valueUnstructured{Value:true}",
            ),
            (spec(json!({"containers": "x"})), ".spec.containers: expected list, got &{x}"),
            (
                spec(json!({"containers": [{"name": "d"}, {"name": "d"}]})),
                ".spec.containers: duplicate entries for key [name=\"d\"]",
            ),
            (
                spec(json!({"containers": [{"name": "d", "env": [{"name": "e", "valu": "x"}]}]})),
                ".spec.containers[name=\"d\"].env[name=\"e\"].valu: field not declared in schema",
            ),
            (
                spec(json!({"tolerations": [{"key": {"a": 1}}]})),
                ".spec.tolerations[0].key: expected string, got &value.valueUnstructured{Value:map[string]interface {}{\"a\":1}}",
            ),
            (
                spec(json!({"priority": "x", "hostIPC": "y", "overhead": {"cpu": ["z"]}})),
                "errors:\n  .spec.hostIPC: expected boolean, got &{y}\n  .spec.overhead.cpu: expected any scalar, got &{[z]}\n  \
              .spec.priority: expected numeric (int or float), got string",
            ),
            (
                json!({"metadata": {"finalizers": [{}]}}),
                ".metadata.finalizers: element 0: associative list without keys has an element that's a map type",
            ),
        ];
        let node = Node::Type(schema::of("v1", "Pod").expect("pods are known"));
        for (value, message) in table {
            assert_eq!(show(&problems(node, &value)), message);
        }
        assert_eq!(problems(node, &json!({"spec": {"containers": [{"image": "i"}], "tolerations": null}})), []);
    }
}
