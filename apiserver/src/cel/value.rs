//! Values of expressions. JSON is not copied: a list, a map or an object of the outside is a reference with, for custom
//! resources, the [`Shape`](super::Shape) that says how to read it.
//!
//! Equality is CEL's: numbers compare across their types, lists of type set or map compare without order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use super::EvaluationError;
use super::library::opaque::Opaque;
use super::shape::{Form, Order, Shape};
use crate::resources::custom::check::go_float;

/// A text: borrowed from outside or made by the expression.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Of the outside.
    Borrowed(&'a str),
    /// Made by the expression.
    Made(Arc<str>),
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `double`
    Double(f64),
    /// `string`
    String(Text<'a>),
    /// `bytes`
    Bytes(Arc<[u8]>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A length of time.
    Duration(SignedDuration),
    /// `list`
    List(List<'a>),
    /// `map`
    Map(Map<'a>),
    /// An object with declared fields: JSON read by its shape.
    Object(&'a serde_json::Map<String, Json>, &'a Shape),
    /// An object that the expression made: `Object{…}`.
    Struct(Arc<Struct<'a>>),
    /// `optional_type`
    Optional(Option<Arc<Value<'a>>>),
    /// A type.
    Type(Arc<str>),
    /// A value of a library: quantity, address, version, authorizer …
    Opaque(Arc<Opaque>),
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Of the outside, its items without declared type.
    Json(&'a [Json]),
    /// Of the outside, read by a shape (of the list).
    Shaped(&'a [Json], &'a Shape),
    /// Made by the expression.
    Made(Arc<Vec<Value<'a>>>),
}

/// A map.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Of the outside, its values without declared type.
    Json(&'a serde_json::Map<String, Json>),
    /// Of the outside, its values read by a shape (of the values).
    Shaped(&'a serde_json::Map<String, Json>, &'a Shape),
    /// Made by the expression.
    Made(Arc<BTreeMap<Key, Value<'a>>>),
    /// Values that may have failed to be computed; the failure is that of whoever reads them.
    Computed(Arc<BTreeMap<String, Result<Value<'a>, EvaluationError>>>),
}

/// A key of a map. Whole numbers are one key in every numeric type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that only uint holds.
    Uint(u64),
    /// A text.
    String(Arc<str>),
}

/// An object that the expression made.
#[derive(Clone, Debug)]
pub struct Struct<'a> {
    /// Name of its type.
    pub name: String,
    /// What was set.
    pub fields: BTreeMap<String, Value<'a>>,
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl<'a> Value<'a> {
    /// A value of the outside of which no type is known.
    pub fn json(value: &'a Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Self::Int(value),
                (None, value) => Self::Double(value.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(items) => Self::List(List::Json(items)),
            Json::Object(fields) => Self::Map(Map::Json(fields)),
        }
    }

    /// A value of the outside, read by its shape. What does not fit the shape is taken as it is.
    pub fn shaped(value: &'a Json, shape: &'a Shape) -> Self {
        match (&shape.form, value) {
            (Form::Double, Json::Number(number)) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            (Form::Int, Json::Number(number)) => Self::Int(number.as_i64().unwrap_or_default()),
            (Form::Text(format), Json::String(text)) => format.read(text),
            (Form::List { .. }, Json::Array(items)) => Self::List(List::Shaped(items, shape)),
            (Form::Map(values), Json::Object(fields)) => Self::Map(Map::Shaped(fields, values)),
            (Form::Object { .. }, Json::Object(fields)) => Self::Object(fields, shape),
            _ => Self::json(value),
        }
    }

    /// A text that the expression made.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Made(text.into()))
    }

    /// A list that the expression made.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(Arc::new(items)))
    }

    /// An optional.
    pub fn optional(value: Option<Value<'a>>) -> Self {
        Self::Optional(value.map(Arc::new))
    }

    /// The value, if it is a bool.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The value, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(_, shape) => shape.name(),
            Self::Struct(object) => &object.name,
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Opaque(opaque) => opaque.type_name(),
        }
    }

    /// Bytes, characters, items or entries; none for what has no size.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::String(text) => Some(text.chars().count()),
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::List(list) => Some(list.len()),
            Self::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// A member of a map, an object or an optional of one; none if it is absent.
    pub fn field(&self, name: &str) -> Result<Option<Value<'a>>, EvaluationError> {
        match self {
            Self::Map(Map::Json(fields)) => Ok(fields.get(name).map(Value::json)),
            Self::Map(Map::Shaped(fields, shape)) => Ok(fields.get(name).map(|value| Value::shaped(value, shape))),
            Self::Map(map) => map.get(&Key::String(name.into())),
            Self::Object(fields, shape) => Ok(shape.field(fields, name)),
            Self::Struct(object) => Ok(object.fields.get(name).cloned()),
            _ => Ok(None),
        }
    }

    /// The value as a key of a map, if it can be one.
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::Bool(value) => Some(Key::Bool(*value)),
            Self::Int(value) => Some(Key::Int(*value)),
            Self::Uint(value) => Some(i64::try_from(*value).map_or(Key::Uint(*value), Key::Int)),
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
            Self::Double(value) if value.fract() == 0.0 && value.abs() < 9e18 => Some(Key::Int(*value as i64)),
            Self::String(Text::Made(text)) => Some(Key::String(text.clone())),
            Self::String(text) => Some(Key::String(text.deref().into())),
            _ => None,
        }
    }

    /// Order of two values of comparable types.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::String(one), Self::String(two)) => Some(one.as_bytes().cmp(two.as_bytes())),
            (Self::Bytes(one), Self::Bytes(two)) => Some(one.cmp(two)),
            (Self::Timestamp(one), Self::Timestamp(two)) => Some(one.cmp(two)),
            (Self::Duration(one), Self::Duration(two)) => Some(one.cmp(two)),
            (Self::Int(one), Self::Int(two)) => Some(one.cmp(two)),
            (Self::Uint(one), Self::Uint(two)) => Some(one.cmp(two)),
            (Self::Int(one), Self::Uint(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
            (Self::Uint(one), Self::Int(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
            (Self::Double(one), Self::Double(two)) => one.partial_cmp(two),
            (Self::Double(one), _) => other.whole().and_then(|two| compare_double(*one, two)),
            (_, Self::Double(two)) => self.whole().and_then(|one| compare_double(*two, one)).map(Ordering::reverse),
            _ => None,
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(i128::from(*value)),
            Self::Uint(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    /// Equality; values of different types are not equal.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(one), Self::List(two)) => one.equals(two),
            (Self::Map(_) | Self::Object(..) | Self::Struct(_), Self::Map(_) | Self::Object(..) | Self::Struct(_)) => {
                let (one, two) = (self.entries(), other.entries());
                one.len() == two.len()
                    && one.iter().all(|(key, value)| {
                        two.binary_search_by(|(candidate, _)| candidate.cmp(key))
                            .is_ok_and(|at| value.equals(&two[at].1))
                    })
            }
            (Self::Optional(one), Self::Optional(two)) => match (one, two) {
                (None, None) => true,
                (Some(one), Some(two)) => one.equals(two),
                _ => false,
            },
            (Self::Type(one), Self::Type(two)) => one == two,
            (Self::Opaque(one), Self::Opaque(two)) => one.equals(two),
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }

    /// Keys and values in the order of the keys.
    pub fn entries(&self) -> Vec<(Key, Value<'a>)> {
        match self {
            Self::Map(map) => map.entries(),
            Self::Object(fields, shape) => shape.entries(fields),
            Self::Struct(object) => {
                object.fields.iter().map(|(name, value)| (Key::String(name.as_str().into()), value.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The value as JSON; none where there is no such thing (a type, a value of a library).
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Uint(value) => (*value).into(),
            Self::Double(value) => serde_json::Number::from_f64(*value).map(Json::Number)?,
            Self::String(text) => Json::String(text.to_string()),
            Self::Bytes(bytes) => {
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.encode(bytes).into()
            }
            Self::Timestamp(at) => at.to_string().into(),
            Self::Duration(length) => super::library::time::print_duration(*length).into(),
            Self::List(list) => Json::Array(list.iter().map(|item| item.to_json()).collect::<Option<_>>()?),
            Self::Object(fields, _) => Json::Object((*fields).clone()),
            Self::Map(_) | Self::Struct(_) => {
                let entries = self.entries().into_iter();
                Json::Object(
                    entries
                        .map(|(key, value)| Some((key.value().to_string(), value.to_json()?)))
                        .collect::<Option<_>>()?,
                )
            }
            Self::Optional(inner) => inner.as_ref()?.to_json()?,
            Self::Type(_) | Self::Opaque(_) => return None,
        })
    }

    /// Whether this is what its type is when nothing is set.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::Duration(value) => value.is_zero(),
            Self::Object(fields, _) => fields.is_empty(),
            Self::Struct(object) => object.fields.is_empty(),
            Self::Optional(value) => value.is_none(),
            other => other.size() == Some(0),
        }
    }
}

/// Compares a double with a whole number without losing digits.
fn compare_double(one: f64, two: i128) -> Option<Ordering> {
    if one.is_nan() {
        return None;
    }
    if one.abs() >= 1e20 {
        return Some(if one > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    #[expect(clippy::cast_possible_truncation, reason = "its magnitude is below 1e20")]
    let whole = one.trunc() as i128;
    Some(whole.cmp(&two).then_with(|| one.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal)))
}

impl<'a> List<'a> {
    /// How many items.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items) | Self::Shaped(items, _) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One item.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items) => items.get(index).map(Value::json),
            Self::Shaped(items, shape) => items.get(index).map(|item| shape.item(item)),
            Self::Made(items) => items.get(index).cloned(),
        }
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Whether an item equals the value.
    pub fn contains(&self, value: &Value<'_>) -> bool {
        self.iter().any(|item| item.equals(value))
    }

    fn order(&self) -> &Order {
        match self {
            Self::Shaped(_, shape) => shape.order(),
            Self::Json(_) | Self::Made(_) => &Order::Atomic,
        }
    }

    fn equals(&self, other: &List<'_>) -> bool {
        if self.len() != other.len() {
            return false;
        }
        match (self.order(), other.order()) {
            (Order::Atomic, Order::Atomic) => self.iter().zip(other.iter()).all(|(one, two)| one.equals(&two)),
            _ => self.iter().all(|item| other.contains(&item)),
        }
    }

    /// `self + other`: appended; a set or a map of the outside takes in what is new and replaces what has the same keys.
    pub fn joined(&self, other: &List<'a>) -> Vec<Value<'a>> {
        let mut items: Vec<Value<'a>> = self.iter().collect();
        match self.order() {
            Order::Atomic => items.extend(other.iter()),
            Order::Set => {
                for item in other.iter() {
                    if !items.iter().any(|known| known.equals(&item)) {
                        items.push(item);
                    }
                }
            }
            Order::Map(keys) => {
                for item in other.iter() {
                    let same = |known: &Value<'a>| {
                        keys.iter().all(|key| match (known.field(key), item.field(key)) {
                            (Ok(Some(one)), Ok(Some(two))) => one.equals(&two),
                            (Ok(None), Ok(None)) => true,
                            _ => false,
                        })
                    };
                    match items.iter().position(same) {
                        Some(at) => items[at] = item,
                        None => items.push(item),
                    }
                }
            }
        }
        items
    }
}

impl<'a> Map<'a> {
    /// How many entries.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(fields) | Self::Shaped(fields, _) => fields.len(),
            Self::Made(entries) => entries.len(),
            Self::Computed(entries) => entries.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One value.
    pub fn get(&self, key: &Key) -> Result<Option<Value<'a>>, EvaluationError> {
        if let Self::Made(entries) = self {
            return Ok(entries.get(key).cloned());
        }
        let Key::String(name) = key else { return Ok(None) };
        match self {
            Self::Json(fields) => Ok(fields.get(&**name).map(Value::json)),
            Self::Shaped(fields, shape) => Ok(fields.get(&**name).map(|value| Value::shaped(value, shape))),
            Self::Computed(entries) => entries.get(&**name).cloned().transpose(),
            Self::Made(_) => Ok(None),
        }
    }

    /// Keys and values in the order of the keys.
    pub fn entries(&self) -> Vec<(Key, Value<'a>)> {
        let key = |name: &String| Key::String(name.as_str().into());
        let mut entries: Vec<(Key, Value<'a>)> = match self {
            Self::Json(fields) => fields.iter().map(|(name, value)| (key(name), Value::json(value))).collect(),
            Self::Shaped(fields, shape) => {
                fields.iter().map(|(name, value)| (key(name), Value::shaped(value, shape))).collect()
            }
            Self::Made(entries) => return entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            Self::Computed(entries) => {
                entries.iter().filter_map(|(name, value)| Some((key(name), value.clone().ok()?))).collect()
            }
        };
        entries.sort_by(|(one, _), (two, _)| one.cmp(two));
        entries
    }
}

impl Key {
    /// The key as a value.
    pub fn value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::String(Text::Made(text.clone())),
        }
    }
}

impl fmt::Display for Value<'_> {
    /// As messages name a key or an index.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            Self::Double(value) => f.write_str(&go_float(*value)),
            Self::String(text) => f.write_str(text),
            other => f.write_str(other.type_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_compare_across_types() {
        assert!(Value::Int(1).equals(&Value::Double(1.0)));
        assert!(Value::Uint(u64::MAX).compare(&Value::Int(-1)) == Some(Ordering::Greater));
        assert!(Value::Double(1.5).compare(&Value::Int(1)) == Some(Ordering::Greater));
        assert!(Value::Int(1).compare(&Value::Double(1.5)) == Some(Ordering::Less));
        assert!(Value::Double(f64::NAN).compare(&Value::Int(1)).is_none());
        assert!(!Value::Int(1).equals(&Value::text("1")));
        assert_eq!(Value::Double(2.0).key(), Value::Uint(2).key());
    }

    #[test]
    fn json_equals_what_an_expression_makes() {
        let outside = json!({"a": [1, "x"], "b": null});
        let made = BTreeMap::from([
            (Key::String("b".into()), Value::Null),
            (Key::String("a".into()), Value::list(vec![Value::Uint(1), Value::text("x")])),
        ]);
        assert!(Value::json(&outside).equals(&Value::Map(Map::Made(Arc::new(made)))));
    }
}
