//! JSON patch (RFC 6902) with the liberties that kube-apiserver's library takes: `add` without a value adds null, negative
//! indices count from the end, and what an object does not have can be replaced, and copied as null. Entry point: [`apply`].

use serde_json::{Map, Value};

use crate::http::body::bounds::{Budget, MAX_DEPTH, TOO_DEEP, is_too_deep};

/// Why operations can't be carried out, in the words of the library that upstream uses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// What a `test` asks for is not there.
    #[error("testing value {0} failed: test failed")]
    Test(String),
    /// A step can't be done.
    #[error("{0}")]
    Step(String),
}

impl From<String> for PatchError {
    fn from(why: String) -> Self {
        Self::Step(why)
    }
}

/// Applies all operations or none; the error says which step can't be done.
pub fn apply(document: &mut Value, operations: &[Value]) -> Result<(), PatchError> {
    let mut patched = document.clone();
    let mut copies = Budget::default();
    for operation in operations {
        step(&mut patched, operation, &mut copies)?;
    }
    *document = patched;
    Ok(())
}

/// Why operations do not have the types of their fields.
pub fn ill_typed(operations: &[Value]) -> Option<String> {
    for operation in operations {
        match operation {
            Value::Null => {}
            Value::Object(fields) => {
                for name in ["op", "path", "from"] {
                    if let Some(value) = fields.get(name).filter(|value| !value.is_string() && !value.is_null()) {
                        return Some(cannot_unmarshal(
                            value,
                            &format!("struct field jsonPatchOp.{name} of type string"),
                        ));
                    }
                }
            }
            other => return Some(cannot_unmarshal(other, "value of type handlers.jsonPatchOp")),
        }
    }
    None
}

/// What Go's decoder says of a value that does not fit.
pub fn cannot_unmarshal(value: &Value, into: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go {into}")
}

fn step(document: &mut Value, operation: &Value, copies: &mut Budget) -> Result<(), PatchError> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let path = text("path").ok_or_else(|| "missing path".to_owned())?;
    let from = || text("from").ok_or_else(|| "missing from".to_owned());
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match text("op").unwrap_or_default() {
        "add" => add("add", document, path, value())?,
        "remove" => drop(remove("remove", document, path)?),
        "replace" => replace(document, path, value())?,
        "move" => {
            let moved = remove("move", document, from()?)?;
            add("move", document, path, moved)?;
        }
        "copy" => {
            let source = from()?;
            let copied = value_at("copy", document, source)?.unwrap_or(&Value::Null);
            if !copies.spend(copied) {
                return Err("the accumulated size increase of copy exceeds the limit".to_owned().into());
            }
            let copied = copied.clone();
            add("copy", document, path, copied)?;
        }
        "test" => {
            let found = if path.is_empty() { Some(&*document) } else { value_at("test", document, path)? };
            if *found.unwrap_or(&Value::Null) != value() {
                return Err(PatchError::Test(path.to_owned()));
            }
        }
        other => return Err(format!("Unexpected kind: {other}").into()),
    }
    Ok(())
}

/// In the words of the library that upstream uses.
fn missing(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: \"{path}\": missing value")
}

/// The unescaped steps of a pointer; whatever stands before its first slash does not count.
fn steps(path: &str) -> Option<Vec<String>> {
    match path {
        "" => Some(Vec::new()),
        path => {
            let (_, steps) = path.split_once('/')?;
            Some(steps.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
        }
    }
}

fn index(text: &str, length: usize) -> Option<usize> {
    let number: i64 = text.parse().ok()?;
    let at = if number < 0 { number + i64::try_from(length).ok()? } else { number };
    usize::try_from(at).ok()
}

fn child<'a>(value: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(fields) => fields.get_mut(step),
        Value::Array(items) => {
            let at = index(step, items.len())?;
            items.get_mut(at)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// What stands at the path; what an object does not have is nothing, but no error.
fn value_at<'a>(operation: &str, document: &'a mut Value, path: &str) -> Result<Option<&'a Value>, String> {
    let (container, last) = parent(operation, document, path)?;
    match container {
        Value::Object(fields) => Ok(fields.get(&last)),
        other => child(other, &last).map(|value| Some(&*value)).ok_or_else(|| missing(operation, path)),
    }
}

/// In an object `replace` adds what is not there.
fn replace(document: &mut Value, path: &str, new: Value) -> Result<(), String> {
    check_depth(path, &new)?;
    if path.is_empty() {
        if !(new.is_object() || new.is_array()) {
            return Err("replace operation value must be object or array".to_owned());
        }
        *document = new;
        return Ok(());
    }
    let (container, last) = parent("replace", document, path)?;
    match container {
        Value::Object(fields) => drop(fields.insert(last, new)),
        other => *child(other, &last).ok_or_else(|| missing("replace", path))? = new,
    }
    Ok(())
}

/// The container that a path ends in, and the last step.
fn parent<'a>(operation: &str, document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let mut steps = steps(path).ok_or_else(|| missing(operation, path))?;
    let last = steps.pop().ok_or_else(|| missing(operation, path))?;
    let container = steps.iter().try_fold(document, |value, step| child(value, step));
    let container = container.filter(|container| container.is_object() || container.is_array());
    container.map(|container| (container, last)).ok_or_else(|| missing(operation, path))
}

/// Steps that each nest something make no document that is too deep.
fn check_depth(path: &str, value: &Value) -> Result<(), String> {
    let above = path.matches('/').count();
    if above > MAX_DEPTH || is_too_deep(value, MAX_DEPTH - above) {
        return Err(TOO_DEEP.to_owned());
    }
    Ok(())
}

fn add(operation: &str, document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    check_depth(path, &value)?;
    let (container, last) = parent(operation, document, path)?;
    match container {
        Value::Object(fields) => drop(fields.insert(last, value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let length = items.len();
            let negative = last.starts_with('-');
            let at = index(&last, length + usize::from(negative))
                .filter(|at| *at <= length)
                .ok_or_else(|| missing(operation, path))?;
            items.insert(at, value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(missing(operation, path)),
    }
    Ok(())
}

fn remove(operation: &str, document: &mut Value, path: &str) -> Result<Value, String> {
    let (container, last) = parent(operation, document, path)?;
    let removed = match container {
        Value::Object(fields) => fields.remove(&last),
        Value::Array(items) => index(&last, items.len()).filter(|at| *at < items.len()).map(|at| items.remove(at)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    removed.ok_or_else(|| {
        format!("error in remove for path: '{path}': Unable to remove nonexistent key: {last}: missing value")
    })
}

/// JSON merge patch (RFC 7386).
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations() {
        let document = json!({"a": {"b": 1}, "l": [1, 2, 3], "x/y": 0});
        let table = [
            (
                json!([{"op": "add", "path": "/a/c", "value": 2}]),
                Some(json!({"a": {"b": 1, "c": 2}, "l": [1, 2, 3], "x/y": 0})),
            ),
            (
                json!([{"op": "add", "path": "/l/-", "value": 4}]),
                Some(json!({"a": {"b": 1}, "l": [1, 2, 3, 4], "x/y": 0})),
            ),
            (
                json!([{"op": "add", "path": "/l/1", "value": 9}]),
                Some(json!({"a": {"b": 1}, "l": [1, 9, 2, 3], "x/y": 0})),
            ),
            (json!([{"op": "remove", "path": "/l/-1"}]), Some(json!({"a": {"b": 1}, "l": [1, 2], "x/y": 0}))),
            (
                json!([{"op": "replace", "path": "/x~1y", "value": 1}]),
                Some(json!({"a": {"b": 1}, "l": [1, 2, 3], "x/y": 1})),
            ),
            (
                json!([{"op": "move", "from": "/a/b", "path": "/z"}]),
                Some(json!({"a": {}, "l": [1, 2, 3], "x/y": 0, "z": 1})),
            ),
            (json!([{"op": "add", "path": "/z"}]), Some(json!({"a": {"b": 1}, "l": [1, 2, 3], "x/y": 0, "z": null}))),
            (json!([{"op": "remove", "path": "ignored/a"}]), Some(json!({"l": [1, 2, 3], "x/y": 0}))),
            (json!([{"op": "replace", "path": "", "value": {"n": 1}}]), Some(json!({"n": 1}))),
            (json!([{"op": "replace", "path": "", "value": "n"}]), None),
            (json!([{"op": "add", "path": "", "value": {}}]), None),
            (json!([{"op": "remove", "path": "a"}]), None),
            (json!([{"op": "remove", "path": "/none"}]), None),
            (json!([{"op": "replace", "path": "/l/7", "value": 1}]), None),
            (json!([{"op": "test", "path": "/a/b", "value": 2}]), None),
            (json!([{"op": "test", "path": "/a/none", "value": null}]), Some(document.clone())),
            (json!([{"op": "test", "path": "/none/x", "value": null}]), None),
            (json!([{"op": "test", "path": "/l/7", "value": null}]), None),
            (
                json!([{"op": "replace", "path": "/a/none", "value": 1}]),
                Some(json!({"a": {"b": 1, "none": 1}, "l": [1, 2, 3], "x/y": 0})),
            ),
            (json!([{"op": "replace", "path": "/none/x", "value": 1}]), None),
            (
                json!([{"op": "copy", "from": "/a/none", "path": "/z"}]),
                Some(json!({"a": {"b": 1}, "l": [1, 2, 3], "x/y": 0, "z": null})),
            ),
            (json!([{"op": "copy", "from": "/none/x", "path": "/z"}]), None),
            (json!([{"op": "move", "from": "/a/none", "path": "/z"}]), None),
            (json!([{"op": "add", "path": "/n/m", "value": 2}]), None),
            (json!([{"op": "wish", "path": "/a"}]), None),
            (json!([{"op": "add", "value": 1}]), None),
        ];
        for (patch, expected) in table {
            let mut patched = document.clone();
            let done = apply(&mut patched, patch.as_array().unwrap());
            assert_eq!(done.ok().map(|()| patched), expected, "{patch}");
        }
    }

    #[test]
    fn operations_have_typed_fields() {
        let table = [
            (json!([{"op": "add", "path": "/a", "value": 1}, null]), None),
            (
                json!([{"op": 1}]),
                Some("json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
            ),
            (json!(["x"]), Some("json: cannot unmarshal string into Go value of type handlers.jsonPatchOp")),
        ];
        for (operations, why) in table {
            assert_eq!(ill_typed(operations.as_array().unwrap()).as_deref(), why, "{operations}");
        }
    }

    #[test]
    fn merge_patches() {
        let mut document = json!({"a": {"b": 1, "c": 2}, "l": [1]});
        merge(&mut document, &json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [2, null]}));
        assert_eq!(document, json!({"a": {"c": 2, "d": {"f": 1}}, "l": [2, null]}));
    }
}
