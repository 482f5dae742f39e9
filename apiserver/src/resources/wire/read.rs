//! Reading what clients send as Go's decoder does: nulls are absent fields, quantities become canonical, and a value of the wrong
//! type is refused in Go's words.

use api::quantity::Quantity;
use base64::Engine as _;
use serde_json::{Map, Value};

use super::super::schema::{self, Field, Presence, Shape, Type};
use super::{is_empty, names};
use crate::http::body::json::Ordered;

/// The one type whose time can't be absent in its typed form; there it is the one that Go writes as null.
const CONDITION: &str = "meta/v1.Condition";
const TRANSITION: &str = "lastTransitionTime";

/// Types in which empty is not absent: a schema is checked for what it says.
const SCHEMAS: &str = "apiextensions.k8s.io/";

/// Empty it is not absent, see [`remember_empty_selector`].
const SELECTOR: &str = "selector";

/// The list that says something when it is empty: who owns fields, owns them no more.
const OWNERS: &str = "managedFields";

/// Why an object can't be read; the text is what Go's decoder says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A JSON value of the wrong type.
    #[error("json: cannot unmarshal {found} into Go struct field {at} of type {wanted}")]
    Type { found: String, at: String, wanted: String },
    /// A malformed quantity.
    #[error("{0}")]
    Quantity(#[from] api::quantity::ParseError),
    /// Malformed base64.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    /// A malformed timestamp.
    #[error("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")]
    Time { text: String, layout: &'static str, rest: String, element: &'static str },
}

/// Prepares an object for typed decoding; unknown fields are left alone.
pub fn accept(api_version: &str, kind: &str, value: &mut Value) -> Result<(), DecodeError> {
    match (schema::of(api_version, kind), value) {
        (Some(ty), Value::Object(fields)) => accept_struct(ty, fields, &mut Vec::new()),
        _ => Ok(()),
    }
}

fn accept_struct(ty: &Type, fields: &mut Map<String, Value>, path: &mut Vec<&'static str>) -> Result<(), DecodeError> {
    if ty.name == CONDITION && fields.get(TRANSITION).is_none_or(Value::is_null) {
        fields.insert(TRANSITION.to_owned(), Value::from(super::ZERO_TIME));
    }
    for field in &ty.fields {
        let Some(value) = fields.get_mut(field.name) else { continue };
        if value.is_null() {
            fields.remove(field.name);
            continue;
        }
        path.push(field.name);
        accept_value(&field.shape, value, ty, path)?;
        path.pop();
        remember_empty_selector(field, value);
    }
    Ok(())
}

/// Makes absent what is empty where Go can't tell one from the other. Of a `part` of an object an empty map says nothing, unless
/// it stands in a list.
pub fn leave_out_empty(api_version: &str, kind: &str, value: &mut Value, part: bool) {
    if let (Some(ty), Value::Object(fields)) = (schema::of(api_version, kind), value) {
        without_empty(ty, fields, part);
    }
}

fn without_empty(ty: &Type, fields: &mut Map<String, Value>, part: bool) {
    for field in &ty.fields {
        let Some(value) = fields.get_mut(field.name) else { continue };
        if field.presence == Presence::Nullable && field.name == SELECTOR {
            continue;
        }
        inner_without_empty(&field.shape, value, part);
        let stays = part && value.is_object() || field.name == OWNERS || ty.name.starts_with(SCHEMAS);
        if field.presence == Presence::OmitEmpty && !stays && is_empty(value) {
            fields.remove(field.name);
        }
    }
}

fn inner_without_empty(shape: &Shape, value: &mut Value, part: bool) {
    match (shape, value) {
        (Shape::Struct(at), Value::Object(fields)) => without_empty(schema::at(*at), fields, part),
        (Shape::List(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|item| inner_without_empty(inner, item, false));
        }
        (Shape::Map(inner), Value::Object(entries)) => {
            entries.values_mut().for_each(|entry| inner_without_empty(inner, entry, part));
        }
        _ => {}
    }
}

/// The first value of a wrong type in the order of the text, which is the one that Go's decoder tells.
pub fn first_error(api_version: &str, kind: &str, value: &Value, text: &Ordered) -> Option<DecodeError> {
    first_in_struct(schema::of(api_version, kind)?, value, text, &mut Vec::new())
}

fn first_in_struct(ty: &Type, value: &Value, text: &Ordered, path: &mut Vec<&'static str>) -> Option<DecodeError> {
    let (Value::Object(fields), Ordered::Object(order)) = (value, text) else { return None };
    order.iter().find_map(|(name, text)| {
        let (field, value) = ty.field(name).zip(fields.get(name).filter(|value| !value.is_null()))?;
        path.push(field.name);
        let found = first_in_value(&field.shape, value, text, ty, path);
        path.pop();
        found
    })
}

fn first_in_value(
    shape: &Shape,
    value: &Value,
    text: &Ordered,
    owner: &Type,
    path: &mut Vec<&'static str>,
) -> Option<DecodeError> {
    match (shape, value, text) {
        (Shape::Struct(at), Value::Object(_), text) => first_in_struct(schema::at(*at), value, text, path),
        (Shape::List(inner), Value::Array(items), Ordered::List(texts)) => {
            items.iter().zip(texts).find_map(|(item, text)| first_in_value(inner, item, text, owner, path))
        }
        (Shape::Map(inner), Value::Object(entries), Ordered::Object(order)) => {
            order.iter().find_map(|(name, text)| first_in_value(inner, entries.get(name)?, text, owner, path))
        }
        (shape, value, _) => accept_item(shape, &mut value.clone(), owner, &mut path.clone()).err(),
    }
}

/// The typed form of workloads can't tell a missing selector from an empty one, and they are refused for different reasons:
/// an empty one is given an empty `matchLabels`.
fn remember_empty_selector(field: &Field, value: &mut Value) {
    if let (Presence::Nullable, SELECTOR, Value::Object(selector)) = (field.presence, field.name, value)
        && selector.is_empty()
    {
        selector.insert("matchLabels".to_owned(), Value::Object(Map::new()));
    }
}

fn accept_value(
    shape: &Shape,
    value: &mut Value,
    owner: &Type,
    path: &mut Vec<&'static str>,
) -> Result<(), DecodeError> {
    let wrong = |value: &Value, path: &[&str]| {
        let (found, at) = (found(value, shape), format!("{}.{}", owner.short_name(), path.join(".")));
        let named = path.last().and_then(|field| names::of(owner.short_name(), field));
        Err(DecodeError::Type { found, at, wanted: go_type(shape, named) })
    };
    match (shape, &mut *value) {
        (Shape::Any, _)
        | (Shape::Str, Value::String(_))
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Float, Value::Number(_)) => Ok(()),
        (Shape::Int, Value::Number(number)) if whole(number).is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
        (Shape::Long, Value::Number(number)) if whole(number).is_some() => Ok(()),
        (Shape::IntOrString, Value::String(_)) => Ok(()),
        (Shape::IntOrString, Value::Number(number)) if whole(number).is_some_and(|n| i32::try_from(n).is_ok()) => {
            Ok(())
        }
        (Shape::Quantity, Value::String(text)) => {
            *text = Quantity::canonical(text)?;
            Ok(())
        }
        (Shape::Quantity, other) => {
            // Whatever stands there is read as the text of a quantity.
            *value = Value::from(Quantity::canonical(&other.to_string())?);
            Ok(())
        }
        (Shape::Bytes, Value::String(text)) => base64_text(text),
        (Shape::Time, Value::String(text)) => time(text, TIME),
        (Shape::MicroTime, Value::String(text)) => time(text, MICRO_TIME),
        (Shape::Struct(at), Value::Object(fields)) => accept_struct(schema::at(*at), fields, path),
        (Shape::List(inner), Value::Array(items)) => {
            items.iter_mut().try_for_each(|item| accept_item(inner, item, owner, path))
        }
        (Shape::Map(inner), Value::Object(entries)) => {
            entries.values_mut().try_for_each(|entry| accept_item(inner, entry, owner, path))
        }
        (_, value) => wrong(value, path),
    }
}

/// A null in a list or a map is what Go has for nothing.
fn accept_item(
    shape: &Shape,
    value: &mut Value,
    owner: &Type,
    path: &mut Vec<&'static str>,
) -> Result<(), DecodeError> {
    if value.is_null() {
        match shape {
            Shape::Str | Shape::Bytes => *value = Value::from(""),
            Shape::Quantity => *value = Value::from("0"),
            Shape::Int | Shape::Long | Shape::Float | Shape::IntOrString => *value = Value::from(0),
            Shape::Bool => *value = Value::from(false),
            Shape::Struct(_) => *value = Value::Object(Map::new()),
            Shape::Time | Shape::MicroTime | Shape::Any | Shape::List(_) | Shape::Map(_) => return Ok(()),
        }
    }
    accept_value(shape, value, owner, path)
}

fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64()
}

/// Go shows a number only where it wanted another number.
fn found(value: &Value, wanted: &Shape) -> String {
    match value {
        Value::Number(_) if !matches!(wanted, Shape::Int | Shape::Long | Shape::Float | Shape::IntOrString) => {
            "number".to_owned()
        }
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// The name is that of the scalar or map type which the field is declared with, where it is one of its own.
fn go_type(shape: &Shape, named: Option<&'static str>) -> String {
    match shape {
        Shape::Str | Shape::Time | Shape::MicroTime => named.unwrap_or("string").to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Int | Shape::IntOrString => "int32".to_owned(),
        Shape::Long => "int64".to_owned(),
        Shape::Float => "float64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::Any => "interface {}".to_owned(),
        Shape::Struct(at) => schema::at(*at).go_name().to_owned(),
        Shape::List(inner) => format!("[]{}", go_type(inner, named)),
        Shape::Map(inner) => match (&**inner, named) {
            (Shape::Quantity, Some(named)) => named.to_owned(),
            (inner, named) => format!("map[string]{}", go_type(inner, named)),
        },
    }
}

fn base64_text(text: &str) -> Result<(), DecodeError> {
    let cleaned: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match base64::engine::general_purpose::STANDARD.decode(cleaned) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(DecodeError::Base64(at))
        }
        Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding) => {
            Err(DecodeError::Base64(text.len() - text.len() % 4))
        }
    }
}

/// A layout in Go's notation, and its elements in order.
struct Layout {
    text: &'static str,
    elements: &'static [&'static str],
}

const TIME: &Layout = &Layout {
    text: "2006-01-02T15:04:05Z07:00",
    elements: &["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", "Z07:00"],
};
const MICRO_TIME: &Layout = &Layout {
    text: "2006-01-02T15:04:05.000000Z07:00",
    elements: &["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", ".000000", "Z07:00"],
};

/// Follows the elements of the layout as Go's time.Parse does, to name the place where it stops.
fn time(text: &str, layout: &'static Layout) -> Result<(), DecodeError> {
    let mut rest = text;
    for element in layout.elements {
        let after = match *element {
            "Z07:00" => zone(rest),
            ".000000" => rest.strip_prefix('.').and_then(|rest| digits(rest, 6)),
            "05" => digits(rest, 2).map(|after| if layout.text == TIME.text { fraction(after) } else { after }),
            literal @ ("-" | "T" | ":") => rest.strip_prefix(literal),
            number => digits(rest, number.len()),
        };
        match after {
            Some(after) => rest = after,
            None => {
                return Err(DecodeError::Time {
                    text: text.to_owned(),
                    layout: layout.text,
                    rest: rest.to_owned(),
                    element,
                });
            }
        }
    }
    Ok(())
}

/// What Go's time.Parse says of a time that is none.
pub fn check_time(text: &str) -> Result<(), DecodeError> {
    time(text, TIME)
}

fn digits(text: &str, count: usize) -> Option<&str> {
    let (number, rest) = text.split_at_checked(count)?;
    number.bytes().all(|b| b.is_ascii_digit()).then_some(rest)
}

fn fraction(text: &str) -> &str {
    match text.strip_prefix('.') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            rest.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        Some(_) | None => text,
    }
}

fn zone(text: &str) -> Option<&str> {
    match text.strip_prefix('Z') {
        Some(rest) => Some(rest),
        None => digits(text.strip_prefix(['+', '-'])?, 2).and_then(|rest| digits(rest.strip_prefix(':')?, 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_values_are_refused_in_gos_words() {
        let table = [
            (
                "v1",
                "Secret",
                json!({"data": {"a": 1}}),
                "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
            ),
            (
                "v1",
                "Pod",
                json!({"spec": {"terminationGracePeriodSeconds": "thirty"}}),
                "json: cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
            ),
            (
                "v1",
                "Pod",
                json!({"spec": {"containers": {"name": "c"}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                "v1",
                "Pod",
                json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "one"}}}]}}),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "v1",
                "ResourceQuota",
                json!({"spec": {"hard": {"cpu": []}}}),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "v1",
                "Pod",
                json!({"spec": {"restartPolicy": 5}}),
                "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
            ),
            (
                "v1",
                "Pod",
                json!({"spec": {"containers": [{"resources": {"limits": []}}]}}),
                "json: cannot unmarshal array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
            ),
            (
                "v1",
                "Secret",
                json!({"data": {"a": 1}}),
                "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
            ),
            (
                "v1",
                "Service",
                json!({"spec": {"ports": [{"targetPort": 80.5}]}}),
                "json: cannot unmarshal number 80.5 into Go struct field ServicePort.spec.ports.targetPort of type int32",
            ),
            ("v1", "ConfigMap", json!({"binaryData": {"k": "%%%"}}), "illegal base64 data at input byte 0"),
            (
                "v1",
                "ConfigMap",
                json!({"metadata": {"creationTimestamp": "soon"}}),
                "parsing time \"soon\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"soon\" as \"2006\"",
            ),
            (
                "coordination.k8s.io/v1",
                "Lease",
                json!({"spec": {"renewTime": "2020-01-01T00:00:01.5Z"}}),
                "parsing time \"2020-01-01T00:00:01.5Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \".5Z\" as \".000000\"",
            ),
            (
                "coordination.k8s.io/v1",
                "Lease",
                json!({"spec": {"renewTime": "2020-01-01T00:00:05.1234567Z"}}),
                "parsing time \"2020-01-01T00:00:05.1234567Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"7Z\" as \"Z07:00\"",
            ),
        ];
        for (version, kind, mut value, message) in table {
            let error = accept(version, kind, &mut value).expect_err(message);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_first_error_of_the_text_is_told() {
        let text = r#"{"spec":{"restartPolicy":5,"nodeSelector":{"z":1,"a":true},"containers":"x"}}"#;
        let order = Ordered::parse(text.as_bytes()).expect("it is well formed");
        let value = serde_json::from_str(text).expect("it is well formed");
        let found = first_error("v1", "Pod", &value, &order).expect("three errors").to_string();
        assert!(found.ends_with("PodSpec.spec.restartPolicy of type v1.RestartPolicy"), "{found}");
        let (text, fine) = (text.replace("\"restartPolicy\":5,", ""), r#"{"spec":{"containers":[null]}}"#);
        let order = Ordered::parse(text.as_bytes()).expect("it is well formed");
        let value = serde_json::from_str(&text).expect("it is well formed");
        let found = first_error("v1", "Pod", &value, &order).expect("two errors").to_string();
        assert!(
            found.starts_with("json: cannot unmarshal number into Go struct field PodSpec.spec.nodeSelector"),
            "{found}"
        );
        let order = Ordered::parse(fine.as_bytes()).expect("it is well formed");
        assert_eq!(first_error("v1", "Pod", &serde_json::from_str(fine).expect("json"), &order), None);
    }

    #[test]
    fn what_is_empty_is_absent() {
        let mut pod = json!({"metadata": {"annotations": {}}, "spec": {"nodeName": "", "hostNetwork": false, "tolerations": [],
            "activeDeadlineSeconds": 0, "securityContext": {}, "volumes": [{"emptyDir": {}}, null],
            "containers": [null, {"env": [{"name": "A", "value": ""}], "ports": [{"hostPort": 0}]}]}});
        accept("v1", "Pod", &mut pod).expect("it is well formed");
        let mut part = json!({"metadata": {"labels": {}, "name": ""}, "spec": {"nodeSelector": {}, "volumes": [{"csi": {"volumeAttributes": {}}}]}});
        leave_out_empty("v1", "Pod", &mut part, true);
        assert_eq!(part, json!({"metadata": {"labels": {}}, "spec": {"nodeSelector": {}, "volumes": [{"csi": {}}]}}));
        leave_out_empty("v1", "Pod", &mut pod, false);
        assert_eq!(
            pod,
            json!({"metadata": {}, "spec": {"activeDeadlineSeconds": 0, "securityContext": {},
                "volumes": [{"emptyDir": {}}, {}], "containers": [{}, {"env": [{"name": "A"}], "ports": [{}]}]}})
        );
    }

    #[test]
    fn nulls_are_absent_and_quantities_canonical() {
        let mut pod = json!({"metadata": {"labels": {"a": null}, "annotations": null}, "spec": {"nodeName": null, "containers": [
            {"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": "0.1"}}}]}});
        accept("v1", "Pod", &mut pod).expect("it is well formed");
        assert_eq!(
            pod,
            json!({"metadata": {"labels": {"a": ""}}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]}})
        );
    }
}
