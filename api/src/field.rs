//! Where a value is wrong and why, in the words of Kubernetes.
//!
//! Validation collects [`FieldErrors`]; [`crate::ApiError::invalid`] turns them into a 422 Status with one cause per
//! error. Invariant: the text equals upstream's `field.Error`, because clients and tests parse it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::Serialize;
use serde_json::Value;

/// The path of a field inside an object, as its JSON is written: `spec.containers[0].name`, `data[key]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(String);

impl FieldPath {
    /// A path of one element.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The path of one element without a name, which upstream prints as an index.
    pub fn unnamed() -> Self {
        Self("[]".to_owned())
    }

    /// The path upstream prints as `<nil>`: an error that belongs to no field.
    pub fn nil() -> Self {
        Self("<nil>".to_owned())
    }

    /// `self.name`.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self::root(name);
        }
        Self(format!("{}.{name}", self.0))
    }

    /// `self[i]`.
    pub fn index(&self, i: usize) -> Self {
        Self(format!("{}[{i}]", self.0))
    }

    /// `self[key]`.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for FieldPath {
    fn from(path: &str) -> Self {
        Self(path.to_owned())
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// A referenced value does not exist.
    NotFound,
    /// A value is missing.
    Required,
    /// A value occurs twice where it must be unique.
    Duplicate,
    /// A value is malformed or out of range.
    Invalid,
    /// A value is not one of an enumeration.
    NotSupported,
    /// A value is fine but not allowed here.
    Forbidden,
    /// A value is too long.
    TooLong,
    /// A list has too many items.
    TooMany,
    /// Validation itself failed.
    Internal,
    /// A value has the wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where.
    pub path: FieldPath,
    /// The offending value, for the kinds that show it.
    pub value: Option<Value>,
    /// What would be right; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &FieldPath, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, path: path.clone(), value, detail: detail.into() }
    }

    /// `Required value: detail`.
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, path, None, detail)
    }

    /// `Invalid value: value: detail`.
    pub fn invalid(path: &FieldPath, value: impl Serialize, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, path, Some(json(value)), detail)
    }

    /// `Duplicate value: value`.
    pub fn duplicate(path: &FieldPath, value: impl Serialize) -> Self {
        Self::new(FieldErrorKind::Duplicate, path, Some(json(value)), "")
    }

    /// `Forbidden: detail`.
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, path, None, detail)
    }

    /// `Unsupported value: value: supported values: "a", "b"`; the supported values are shown sorted.
    pub fn not_supported(path: &FieldPath, value: impl Serialize, supported: &[&str]) -> Self {
        let mut supported = supported.iter().map(|s| go_quote(s)).collect::<Vec<_>>();
        supported.sort();
        let detail =
            if supported.is_empty() { String::new() } else { format!("supported values: {}", supported.join(", ")) };
        Self::new(FieldErrorKind::NotSupported, path, Some(json(value)), detail)
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(path: &FieldPath, max_bytes: usize) -> Self {
        Self::new(FieldErrorKind::TooLong, path, None, format!("may not be more than {max_bytes} bytes"))
    }

    /// `Too many: N: must have at most M items`.
    pub fn too_many(path: &FieldPath, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} item{}", if max == 1 { "" } else { "s" });
        Self::new(FieldErrorKind::TooMany, path, Some(json(actual)), detail)
    }

    /// `Invalid value: value: detail` with the reason FieldValueTypeInvalid.
    pub fn type_invalid(path: &FieldPath, value: impl Serialize, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, path, Some(json(value)), detail)
    }

    /// `Internal error: detail`.
    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, path, None, detail)
    }

    /// `Not found: value`.
    pub fn not_found(path: &FieldPath, value: impl Serialize) -> Self {
        Self::new(FieldErrorKind::NotFound, path, Some(json(value)), "")
    }

    /// The message without the path, as it stands in a Status cause.
    pub fn body(&self) -> String {
        let mut body = self.kind.words().to_owned();
        if let Some(value) = &self.value {
            body.push_str(": ");
            body.push_str(&show(value));
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }

    /// The error as a cause of a Status.
    pub fn to_cause(&self) -> StatusCause {
        StatusCause {
            field: Some(self.path.to_string()),
            message: Some(self.body()),
            reason: Some(self.kind.reason().to_owned()),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Everything that is wrong with an object, in the order it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// No errors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one error.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Adds all of the other's errors.
    pub fn extend(&mut self, other: FieldErrors) {
        self.0.extend(other.0);
    }

    /// Adds one `Invalid value` for each message, as `names::is_*` answers them.
    pub fn push_invalid(&mut self, path: &FieldPath, value: &str, messages: Vec<String>) {
        for message in messages {
            self.push(FieldError::invalid(path, value, message));
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many errors there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The errors in order.
    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.0.iter()
    }

    /// One Status cause per error.
    pub fn causes(&self) -> Vec<StatusCause> {
        self.0.iter().map(FieldError::to_cause).collect()
    }
}

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        Self(vec![error])
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// One error alone, several as `[a, b]`; equal ones are shown once.
impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown: Vec<String> = Vec::with_capacity(self.0.len());
        for error in &self.0 {
            let text = error.to_string();
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        match shown.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

fn json(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Strings as Go's %q, everything else as the JSON that Go's encoder writes (it escapes <, > and &).
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
    }
}

/// A string as Go's `%q` writes it.
pub fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstreams() {
        let spec = FieldPath::root("spec");
        let table = [
            (FieldError::required(&spec.child("a"), ""), "spec.a: Required value"),
            (FieldError::invalid(&spec.child("b"), "v", "detail"), "spec.b: Invalid value: \"v\": detail"),
            (FieldError::invalid(&spec.index(0).child("n"), 0, "must be 1"), "spec[0].n: Invalid value: 0: must be 1"),
            (
                FieldError::not_supported(&spec, "x", &["b", "a"]),
                "spec: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (FieldError::duplicate(&spec.key("k"), "a"), "spec[k]: Duplicate value: \"a\""),
            (FieldError::too_many(&spec, 3, 2), "spec: Too many: 3: must have at most 2 items"),
            (FieldError::too_long(&spec, 5), "spec: Too long: may not be more than 5 bytes"),
            (FieldError::forbidden(&spec, "no"), "spec: Forbidden: no"),
            (FieldError::not_found(&spec, "v"), "spec: Not found: \"v\""),
            (
                FieldError::invalid(&spec, serde_json::json!({"a": ">"}), "x"),
                "spec: Invalid value: {\"a\":\"\\u003e\"}: x",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn several_errors_stand_in_brackets_and_repeats_once() {
        let p = FieldPath::root("a");
        let mut errors = FieldErrors::from(FieldError::required(&p, ""));
        assert_eq!(errors.to_string(), "a: Required value");
        errors.push(FieldError::required(&p, ""));
        errors.push(FieldError::required(&p.child("b"), ""));
        assert_eq!(errors.to_string(), "[a: Required value, a.b: Required value]");
        assert_eq!(errors.causes().len(), 3);
    }
}
