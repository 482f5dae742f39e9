//! An error as the JSON text of a Status, with its fields in upstream's order.

use api::ApiError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};
use serde_json::{Value, json};

/// JSON whose fields keep their order.
enum Ordered {
    Value(Value),
    List(Vec<Ordered>),
    Object(Vec<(&'static str, Ordered)>),
}

/// The text; compact ones end with a newline, as Go's encoder writes them.
pub fn json(error: &ApiError, page: Option<&str>, pretty: bool) -> Vec<u8> {
    let mut text = String::new();
    write(&status(error, page), pretty.then_some(0), &mut text);
    if !pretty {
        text.push('\n');
    }
    text.into_bytes()
}

/// The same as a value.
pub fn value(error: &ApiError, page: Option<&str>) -> Value {
    status(error, page).into_value()
}

impl Ordered {
    fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::List(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Self::Object(members) => {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value.into_value())).collect())
            }
        }
    }
}

fn status(error: &ApiError, page: Option<&str>) -> Ordered {
    let metadata = page.map_or_else(|| json!({}), |page| json!({"continue": page}));
    let mut members = vec![
        ("kind", text("Status")),
        ("apiVersion", text("v1")),
        ("metadata", Ordered::Value(metadata)),
        ("status", text("Failure")),
    ];
    add(&mut members, "message", Some(&error.message));
    add(&mut members, "reason", Some(&error.reason));
    if let Some(found) = &error.details {
        members.push(("details", details(found)));
    }
    members.push(("code", Ordered::Value(Value::from(error.code))));
    Ordered::Object(members)
}

fn details(details: &StatusDetails) -> Ordered {
    let mut members = Vec::new();
    add(&mut members, "name", details.name.as_ref());
    add(&mut members, "group", details.group.as_ref());
    add(&mut members, "kind", details.kind.as_ref());
    add(&mut members, "uid", details.uid.as_ref());
    if let Some(causes) = details.causes.as_ref().filter(|causes| !causes.is_empty()) {
        members.push(("causes", Ordered::List(causes.iter().map(cause).collect())));
    }
    if let Some(seconds) = details.retry_after_seconds.filter(|seconds| *seconds != 0) {
        members.push(("retryAfterSeconds", Ordered::Value(Value::from(seconds))));
    }
    Ordered::Object(members)
}

fn cause(cause: &StatusCause) -> Ordered {
    let mut members = Vec::new();
    add(&mut members, "reason", cause.reason.as_ref());
    add(&mut members, "message", cause.message.as_ref());
    add(&mut members, "field", cause.field.as_ref());
    Ordered::Object(members)
}

fn text(value: &str) -> Ordered {
    Ordered::Value(Value::from(value))
}

fn add(members: &mut Vec<(&'static str, Ordered)>, name: &'static str, value: Option<&String>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        members.push((name, text(value)));
    }
}

/// Writes compactly, or indented from a depth on.
fn write(value: &Ordered, depth: Option<usize>, out: &mut String) {
    let (open, close, count) = match value {
        Ordered::Value(value) => return out.push_str(&value.to_string()),
        Ordered::List(items) => ('[', ']', items.len()),
        Ordered::Object(members) => ('{', '}', members.len()),
    };
    let inner = depth.map(|depth| depth + 1);
    out.push(open);
    for i in 0..count {
        if i > 0 {
            out.push(',');
        }
        line(inner, out);
        match value {
            Ordered::Value(_) => {}
            Ordered::List(items) => write(&items[i], inner, out),
            Ordered::Object(members) => {
                let separator = if depth.is_some() { ": " } else { ":" };
                out.push_str(&format!("\"{}\"{separator}", members[i].0));
                write(&members[i].1, inner, out);
            }
        }
    }
    if count > 0 {
        line(depth, out);
    }
    out.push(close);
}

fn line(depth: Option<usize>, out: &mut String) {
    if let Some(depth) = depth {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::GroupResource;

    #[test]
    fn fields_stand_in_upstreams_order() {
        let error = ApiError::not_found(&GroupResource::new("", "configmaps"), "a");
        let compact = String::from_utf8(json(&error, None, false)).unwrap();
        assert_eq!(
            compact,
            "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"configmaps \\\"a\\\" not found\",\
             \"reason\":\"NotFound\",\"details\":{\"name\":\"a\",\"kind\":\"configmaps\"},\"code\":404}\n"
        );
        let pretty = String::from_utf8(json(&error, None, true)).unwrap();
        assert!(pretty.starts_with("{\n  \"kind\": \"Status\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {},\n"));
        assert!(pretty.ends_with(
            "  \"details\": {\n    \"name\": \"a\",\n    \"kind\": \"configmaps\"\n  },\n  \"code\": 404\n}"
        ));
    }
}
