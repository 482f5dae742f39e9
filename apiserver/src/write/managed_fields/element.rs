//! The elements of which paths of fields are made, as canonical text: `f:name`, `k:{"name":"x"}`, `v:"x"`; and how messages show them.

use std::borrow::Cow;

use api::field::go_quote;
use serde_json::{Map, Value};

use super::shape::{List, ListRule};

/// The element of a field of a map or struct.
pub fn of_name(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push_str("f:");
    text.push_str(name);
    text
}

/// Whether this kind of element is known.
pub fn is_known(element: &str) -> bool {
    matches!(element.get(..2), Some("f:" | "k:" | "v:" | "i:"))
}

/// An element that somebody else wrote, in canonical form; none if it is malformed.
pub fn canonical(element: String) -> Option<String> {
    match element.get(..2) {
        Some("k:") => {
            let keys: Map<String, Value> = serde_json::from_str(&element[2..]).ok()?;
            let mut pairs: Vec<(&str, Cow<'_, Value>)> =
                keys.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value))).collect();
            Some(of_keys(&mut pairs))
        }
        Some("v:") => Some(of_value(&serde_json::from_str(&element[2..]).ok()?)),
        _ => Some(element),
    }
}

/// The element of a list's item, or why it has none.
pub fn of_item(list: &List<'_>, item: &Value) -> Result<String, String> {
    match list.rule {
        ListRule::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        ListRule::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(of_value(scalar)),
        },
        ListRule::Keys(names) => {
            let fields = match item {
                Value::Object(fields) => fields,
                Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
                _ => return Err("associative list with keys may not have non-map elements".to_owned()),
            };
            let mut pairs = Vec::with_capacity(2);
            for name in names.iter() {
                let value = match fields.get(name) {
                    Some(value) => Cow::Borrowed(value),
                    None => Cow::Owned(list.item.default_of(name).ok_or_else(|| omitted(name))?),
                };
                pairs.push((name, value));
            }
            Ok(of_keys(&mut pairs))
        }
    }
}

fn omitted(name: &str) -> String {
    let name = go_quote(name);
    format!("associative list with keys has an element that omits key field {name} (and doesn't have default value)")
}

fn of_keys(pairs: &mut [(&str, Cow<'_, Value>)]) -> String {
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    let mut text = String::with_capacity(32);
    text.push_str("k:{");
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push('"');
        text.push_str(name);
        text.push_str("\":");
        write_scalar(&mut text, value);
    }
    text.push('}');
    text
}

fn of_value(value: &Value) -> String {
    let mut text = "v:".to_owned();
    write_scalar(&mut text, value);
    text
}

fn write_scalar(text: &mut String, value: &Value) {
    match value {
        Value::Number(number) => {
            match number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15) {
                Some(float) => text.push_str(&format!("{float:.0}")),
                None => text.push_str(&number.to_string()),
            }
        }
        other => text.push_str(&other.to_string()),
    }
}

/// A path as messages show it: `.spec.containers[name="a"].image`.
pub fn show_path(path: &[&str]) -> String {
    path.iter().map(|element| show(element)).collect()
}

/// An element as messages show it.
pub fn show(element: &str) -> String {
    let (kind, text) = element.split_at_checked(2).unwrap_or(("", element));
    match kind {
        "k:" => match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(name, value)| format!("{name}={}", show_value(value))).collect();
                format!("[{}]", keys.join(","))
            }
            Err(_) => format!("[{text}]"),
        },
        "v:" => match serde_json::from_str::<Value>(text) {
            Ok(value) => format!("[={}]", show_value(&value)),
            Err(_) => format!("[={text}]"),
        },
        "i:" => format!("[{text}]"),
        _ => format!(".{text}"),
    }
}

fn show_value(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_upstream_shows_them() {
        let path = ["f:spec", "f:ports", "k:{\"port\":80,\"protocol\":\"TCP\"}", "f:name"];
        assert_eq!(show_path(&path), ".spec.ports[port=80,protocol=\"TCP\"].name");
        assert_eq!(show_path(&["f:finalizers", "v:\"a\""]), ".finalizers[=\"a\"]");
        assert_eq!(canonical("k:{ \"b\": 80.0, \"a\": true }".to_owned()).as_deref(), Some("k:{\"a\":true,\"b\":80}"));
        assert_eq!(canonical("k:x".to_owned()), None);
    }
}
