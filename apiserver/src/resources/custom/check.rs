//! Whether a value is what its schema asks for, in the words of kube-openapi. Entry points: [`check`] for a resource, [`check_part`] for
//! a value inside one (a default).
//!
//! On updates errors are ratcheted: what did not change and was wrong before may stay wrong. Reference: KEP-4008.

mod found;
mod number;

use api::field::{FieldErrorKind, FieldErrors, FieldPath, go_quote};
use serde_json::{Map, Value};

use self::found::{Found, Problem};
use super::format::Format;
use super::schema::{Additional, Schema};

pub use self::number::go_float;

/// Everything that is wrong with a resource; `old` is what it was before an update.
pub fn check(schema: &Schema, value: &Value, old: Option<&Value>) -> FieldErrors {
    let old = old.map(|old| Old { value: old, schema });
    let found = Node { schema, path: String::new() }.ratcheted(value, old);
    found.into_errors(&FieldPath::default())
}

/// Everything that is wrong with a value at this path.
pub fn check_part(path: &FieldPath, schema: &Schema, value: &Value) -> FieldErrors {
    Node { schema, path: String::new() }.check(value, None).into_errors(path)
}

/// What a value was before, as far as it can be told which one it was.
#[derive(Clone, Copy)]
pub struct Old<'a> {
    /// The value.
    pub value: &'a Value,
    /// Its schema.
    pub schema: &'a Schema,
}

impl<'a> Old<'a> {
    /// The field that was there under the same name.
    pub fn field(self, name: &str) -> Option<Self> {
        Some(Self { value: self.value.get(name)?, schema: self.schema.of_field(name)? })
    }

    /// The item that had the same keys.
    pub fn item(self, item: &Value) -> Option<Self> {
        let keys = &self.schema.list_map_keys;
        if !self.schema.is_list_map() || keys.is_empty() {
            return None;
        }
        let same = |old: &&Value| keys.iter().all(|key| old.get(key) == item.get(key));
        Some(Self { value: self.value.as_array()?.iter().find(same)?, schema: self.schema.items.as_deref()? })
    }
}

struct Node<'a> {
    schema: &'a Schema,
    path: String,
}

impl<'a> Node<'a> {
    fn of(&self, schema: &'a Schema) -> Self {
        Self { schema, path: self.path.clone() }
    }

    /// Errors of a value that did not change do not count.
    fn ratcheted(&self, value: &Value, old: Option<Old<'a>>) -> Found {
        let found = self.check(value, old);
        if !found.is_valid() && old.is_some_and(|old| old.value == value) {
            return Found { problems: Vec::new(), fits: found.fits };
        }
        found
    }

    fn check(&self, value: &Value, old: Option<Old<'a>>) -> Found {
        let mut found = Found::default();
        if value.is_null() {
            found.merge(self.type_of_value(value));
            found.merge(self.allowed(value));
            return found;
        }
        let mut apply = |part: Found| {
            found.merge(part);
            found.fits += 1;
        };
        if !self.types().is_empty() || self.format().is_some() {
            apply(self.type_of_value(value));
        }
        apply(self.junctors(value, old));
        match value {
            Value::String(text) => {
                apply(self.text(text));
                if let Some((name, format)) = self.format() {
                    apply(self.formatted(name, format, text));
                }
            }
            Value::Number(number) => apply(self.number(number)),
            Value::Array(items) => apply(self.list(items, old)),
            Value::Object(_) | Value::Null | Value::Bool(_) => {}
        }
        apply(self.allowed(value));
        if let Value::Object(fields) = value {
            apply(self.object(fields, old));
        }
        found.fits += 1;
        found
    }

    fn problem(&self, kind: FieldErrorKind, value: impl Into<Value>, text: String) -> Found {
        let value = Some(value.into());
        Found { problems: vec![Problem { kind, path: Some(self.path.clone()), value, text }], fits: 0 }
    }

    fn invalid(&self, value: impl Into<Value>, text: &str) -> Found {
        self.problem(FieldErrorKind::Invalid, value, format!("{} in body {text}", self.path))
    }

    fn types(&self) -> &str {
        if self.schema.int_or_string { "integer,string" } else { &self.schema.type_name }
    }

    fn is_of(&self, name: &str) -> bool {
        self.types().split(',').any(|known| known == name)
    }

    fn format(&self) -> Option<(&'a str, Format)> {
        Some((&self.schema.format, Format::of(&self.schema.format)?))
    }

    fn type_error(&self, wanted: &str, found: &str) -> Found {
        let text = format!("{} in body must be of type {wanted}: {}", self.path, go_quote(found));
        self.problem(FieldErrorKind::TypeInvalid, found, text)
    }

    fn type_of_value(&self, value: &Value) -> Found {
        let (found, is_whole) = match value {
            Value::Null if self.types().is_empty() || self.schema.nullable => {
                return Found { fits: 1, ..Found::default() };
            }
            Value::Null => return self.type_error(self.types(), "null"),
            Value::Bool(_) => ("boolean", false),
            Value::Number(number) if number.is_i64() => ("integer", true),
            Value::Number(number) => ("number", number.as_f64().is_some_and(number::is_whole)),
            Value::String(_) => ("string", false),
            Value::Array(_) => ("array", false),
            Value::Object(_) => ("object", false),
        };
        let fits = self.is_of(found)
            || (found == "number" && is_whole && self.is_of("integer"))
            || (found == "integer" && self.is_of("number"));
        let numeric = self.is_of("number") || self.is_of("integer");
        if let Some((format, _)) = self.format() {
            let text_or_list = matches!(value, Value::String(_) | Value::Array(_));
            if !text_or_list && !fits {
                let given = match found {
                    "integer" => "int64",
                    "number" => "double",
                    _ => "",
                };
                return self.type_error(format, given);
            }
            if text_or_list && !numeric {
                return Found { fits: 1, ..Found::default() };
            }
        }
        if fits { Found { fits: 1, ..Found::default() } } else { self.type_error(self.types(), found) }
    }

    fn junctors(&self, value: &Value, old: Option<Old<'a>>) -> Found {
        let mut found = Found::default();
        let nowhere = |text: String| Problem {
            kind: FieldErrorKind::Invalid,
            path: None,
            value: Some(Value::from("")),
            text: format!("{} {text}", go_quote(&self.path)),
        };
        if !self.schema.any_of.is_empty() {
            match self.best_of(&self.schema.any_of, value, old) {
                (0, best) => {
                    found.add(nowhere("must validate at least one schema (anyOf)".to_owned()));
                    found.merge(best);
                }
                (_, first) => found.merge(first),
            }
        }
        if !self.schema.one_of.is_empty() {
            match self.best_of(&self.schema.one_of, value, old) {
                (1, first) => found.merge(first),
                (0, best) => {
                    found.add(nowhere("must validate one and only one schema (oneOf). Found none valid".to_owned()));
                    found.merge(best);
                }
                (n, _) => found.add(nowhere(format!(
                    "must validate one and only one schema (oneOf). Found {n} valid alternatives"
                ))),
            }
        }
        let all = &self.schema.all_of;
        let checked: Vec<Found> = all.iter().map(|schema| self.of(schema).check(value, old)).collect();
        let valid = checked.iter().filter(|found| found.is_valid()).count();
        checked.into_iter().for_each(|part| found.merge(part));
        if valid != all.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            found.add(nowhere(format!("must validate all the schemas (allOf){none}")));
        }
        if self.schema.not.as_deref().is_some_and(|not| self.of(not).check(value, old).is_valid()) {
            found.add(nowhere("must not validate the schema (not)".to_owned()));
        }
        found.fits += 1;
        found
    }

    /// How many of the alternatives hold, and what the first that does says, or else the one that fits best.
    fn best_of(&self, schemas: &'a [Schema], value: &Value, old: Option<Old<'a>>) -> (usize, Found) {
        let (mut valid, mut best): (usize, Option<Found>) = (0, None);
        for schema in schemas {
            let found = self.of(schema).check(value, old);
            if found.is_valid() {
                valid += 1;
                if valid == 1 {
                    best = Some(found);
                }
            } else if valid == 0 && best.as_ref().is_none_or(|best| found.fits > best.fits) {
                best = Some(found);
            }
        }
        (valid, best.unwrap_or_default())
    }

    fn text(&self, text: &str) -> Found {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(most) = self.schema.max_length.filter(|most| length > *most) {
            let detail = format!("may not be more than {most} bytes");
            let problem =
                Problem { kind: FieldErrorKind::TooLong, path: Some(self.path.clone()), value: None, text: detail };
            return Found { problems: vec![problem], fits: 0 };
        }
        if let Some(least) = self.schema.min_length.filter(|least| length < *least) {
            return self.invalid(text, &format!("should be at least {least} chars long"));
        }
        match &self.schema.pattern {
            Some(pattern) if !pattern.text.is_empty() && !pattern.matches(text) => {
                self.invalid(text, &format!("should match '{}'", pattern.text))
            }
            _ => Found::default(),
        }
    }

    fn formatted(&self, name: &str, format: Format, text: &str) -> Found {
        if format.holds(text) { Found::default() } else { self.type_error(name, text) }
    }

    fn list(&self, items: &[Value], old: Option<Old<'a>>) -> Found {
        let mut found = Found { fits: 1, ..Found::default() };
        if let Some(schema) = self.schema.items.as_deref() {
            for (i, item) in items.iter().enumerate() {
                let node = Node { schema, path: format!("{}[{i}]", self.path) };
                found.merge(node.ratcheted(item, old.and_then(|old| old.item(item))));
            }
        }
        let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(least) = self.schema.min_items.filter(|least| length < *least) {
            found.merge(self.invalid(length, &format!("should have at least {least} items")));
        }
        if let Some(most) = self.schema.max_items.filter(|most| length > *most) {
            found.merge(self.too_many(length, most));
        }
        if self.schema.unique_items && (1..items.len()).any(|at| items[..at].contains(&items[at])) {
            found.merge(self.invalid("", "shouldn't contain duplicates"));
        }
        found
    }

    fn too_many(&self, length: i64, most: i64) -> Found {
        let items = if most == 1 { "item" } else { "items" };
        self.problem(FieldErrorKind::TooMany, length, format!("must have at most {most} {items}"))
    }

    fn allowed(&self, value: &Value) -> Found {
        let allowed = &self.schema.allowed;
        let same = |allowed: &Value| match (allowed, value) {
            (Value::Number(allowed), Value::Number(value)) => allowed.as_f64() == value.as_f64(),
            (allowed, value) => allowed == value,
        };
        if allowed.is_empty() || allowed.iter().any(same) {
            return Found::default();
        }
        let show = |value: &Value| match value {
            Value::String(text) => go_quote(text),
            other => go_quote(&other.to_string()),
        };
        let shown: Vec<String> = allowed.iter().map(show).collect();
        let text = format!("supported values: {}", shown.join(", "));
        self.problem(FieldErrorKind::NotSupported, value.clone(), text)
    }

    fn object(&self, fields: &Map<String, Value>, old: Option<Old<'a>>) -> Found {
        let mut found = Found::default();
        let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        if let Some(least) = self.schema.min_properties.filter(|least| count < *least) {
            found.merge(self.invalid(count, &format!("should have at least {least} properties")));
        }
        if let Some(most) = self.schema.max_properties.filter(|most| count > *most) {
            found.merge(self.too_many(count, most));
        }
        let others = fields.iter().filter(|(name, _)| !self.schema.properties.contains_key(*name));
        match &self.schema.additional_properties {
            Some(Additional::Allowed(false)) => {
                for (name, _) in others {
                    let text = format!("{}.{name} in body is a forbidden property", self.path);
                    found.merge(self.problem(FieldErrorKind::Invalid, name.as_str(), text));
                }
            }
            Some(Additional::Schema(schema)) => {
                for (name, value) in others {
                    let node = Node { schema, path: format!("{}.{name}", self.path) };
                    found.merge(node.ratcheted(value, self.old_field(old, name)));
                }
            }
            Some(Additional::Allowed(true)) | None => {}
        }
        for (name, schema) in &self.schema.properties {
            if let Some(value) = fields.get(name) {
                let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
                found.merge(Node { schema, path }.ratcheted(value, self.old_field(old, name)));
            }
        }
        for name in self.schema.required.iter().filter(|name| !fields.contains_key(*name)) {
            let path = Some(format!("{}.{name}", self.path));
            found.add(Problem { kind: FieldErrorKind::Required, path, value: None, text: String::new() });
        }
        found
    }

    /// What a field was before; the type of a resource never stays wrong.
    fn old_field(&self, old: Option<Old<'a>>, name: &str) -> Option<Old<'a>> {
        old.filter(|_| !(self.path.is_empty() && matches!(name, "apiVersion" | "kind")))?.field(name)
    }
}

#[cfg(test)]
mod tests;
