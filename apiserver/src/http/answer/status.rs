//! An error as the JSON text of a Status, with its fields in upstream's order.

use api::ApiError;
use serde_json::{Value, json};

/// The text; compact ones end with a newline, as Go's encoder writes them.
pub fn json(error: &ApiError, page: Option<&str>, pretty: bool) -> Vec<u8> {
    let members = members(error, page);
    let mut text = String::from("{");
    for (i, (name, value)) in members.iter().enumerate() {
        let separator = if i == 0 { "" } else { "," };
        if pretty {
            let indented = serde_json::to_string_pretty(value).unwrap_or_default().replace('\n', "\n  ");
            text.push_str(&format!("{separator}\n  \"{name}\": {indented}"));
        } else {
            text.push_str(&format!("{separator}\"{name}\":{value}"));
        }
    }
    text.push_str(if pretty { "\n}" } else { "}\n" });
    text.into_bytes()
}

/// The same as a value.
pub fn value(error: &ApiError, page: Option<&str>) -> Value {
    Value::Object(members(error, page).into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn members(error: &ApiError, page: Option<&str>) -> Vec<(&'static str, Value)> {
    let mut members = vec![
        ("kind", Value::from("Status")),
        ("apiVersion", Value::from("v1")),
        ("metadata", page.map_or_else(|| json!({}), |page| json!({"continue": page}))),
        ("status", Value::from("Failure")),
        ("message", Value::from(error.message.as_str())),
    ];
    if !error.reason.is_empty() {
        members.push(("reason", Value::from(error.reason.as_str())));
    }
    if let Some(details) = &error.details {
        members.push(("details", serde_json::to_value(details).unwrap_or(Value::Null)));
    }
    members.push(("code", Value::from(error.code)));
    members
}
