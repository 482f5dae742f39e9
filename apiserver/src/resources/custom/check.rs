//! Whether a value is what its schema asks for, in the words of kube-openapi. Entry points: [`check`] for a resource, [`check_part`] for
//! a value inside one (a default).
//!
//! On updates errors are ratcheted: what did not change and was wrong before may stay wrong. Reference: KEP-4008.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath, go_quote};
use serde_json::{Map, Value};

use super::format::Format;
use super::schema::{Additional, Schema};

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
        if self.schema.map_type.as_deref() == Some("atomic") {
            return None;
        }
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

/// One thing that is wrong.
#[derive(Clone, Debug)]
struct Problem {
    kind: FieldErrorKind,
    /// Where, below the value that is checked; none is nowhere in particular.
    path: Option<String>,
    value: Option<Value>,
    text: String,
}

impl Problem {
    fn into_error(self, base: &FieldPath) -> FieldError {
        let below = self.path.as_deref().unwrap_or_default();
        let path = match below.strip_prefix('.').unwrap_or(below) {
            "" if base.as_str().is_empty() => FieldPath::nil(),
            "" => base.clone(),
            below => base.child(below),
        };
        FieldError { kind: self.kind, path, value: self.value, detail: self.text }
    }

    /// By what upstream tells errors apart.
    fn key(&self) -> (&Option<String>, &str, FieldErrorKind) {
        (&self.path, &self.text, self.kind)
    }
}

/// What a check found, and how much of the schema fitted: of several alternatives the errors of the best one are shown.
#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    fits: usize,
}

impl Found {
    fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: Problem) {
        if !self.problems.iter().any(|known| known.key() == problem.key()) {
            self.problems.push(problem);
        }
    }

    fn merge(&mut self, other: Found) {
        self.fits += other.fits;
        other.problems.into_iter().for_each(|problem| self.add(problem));
    }

    fn into_errors(self, base: &FieldPath) -> FieldErrors {
        FieldErrors(self.problems.into_iter().map(|problem| problem.into_error(base)).collect())
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
            Value::Number(number) => ("number", number.as_f64().is_some_and(|number| number.fract() == 0.0)),
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

    fn number(&self, number: &serde_json::Number) -> Found {
        let mut found = Found { fits: 1, ..Found::default() };
        let (float, whole) = (number.as_f64().unwrap_or_default(), number.as_i64());
        let shown = |bound: f64| if whole.is_some() { whole_part(bound).to_string() } else { go_float(bound) };
        let order = |bound: f64| match whole {
            Some(whole) => whole.partial_cmp(&whole_part(bound)),
            None => float.partial_cmp(&bound),
        };
        if let Some(factor) = self.schema.multiple_of
            && !is_multiple(float, whole, factor)
        {
            found.merge(self.invalid(number.clone(), &format!("should be a multiple of {}", shown(factor))));
        }
        if let Some(least) = self.schema.minimum {
            let exclusive = self.schema.exclusive_minimum;
            if order(least).is_some_and(|order| order.is_lt() || (exclusive && order.is_eq())) {
                let or_equal = if exclusive { "" } else { " or equal to" };
                found
                    .merge(self.invalid(number.clone(), &format!("should be greater than{or_equal} {}", shown(least))));
            }
        }
        if let Some(most) = self.schema.maximum {
            let exclusive = self.schema.exclusive_maximum;
            if order(most).is_some_and(|order| order.is_gt() || (exclusive && order.is_eq())) {
                let or_equal = if exclusive { "" } else { " or equal to" };
                found.merge(self.invalid(number.clone(), &format!("should be less than{or_equal} {}", shown(most))));
            }
        }
        found
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

fn is_multiple(float: f64, whole: Option<i64>, factor: f64) -> bool {
    match (whole, whole_part(factor)) {
        (Some(whole), factor) if factor != 0 => whole % factor == 0,
        _ => {
            let times = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
            (times - times.round()).abs() < 1e-9
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what Go's conversion does to the bounds of integers")]
fn whole_part(number: f64) -> i64 {
    number as i64
}

/// A number as Go's `%v` writes it.
pub fn go_float(number: f64) -> String {
    if number != 0.0 && !(1e-4..1e21).contains(&number.abs()) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(schema: Value, value: Value, old: Option<Value>) -> Vec<String> {
        let schema = Schema::parse(&schema).unwrap();
        check(&schema, &value, old.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_are_refused_in_upstreams_words() {
        let field = |schema: Value| json!({"type": "object", "properties": {"f": schema}});
        let table = [
            (
                json!({"type": "integer"}),
                json!("x"),
                "f: Invalid value: \"string\": f in body must be of type integer: \"string\"",
            ),
            (
                json!({"type": "integer"}),
                json!(1.5),
                "f: Invalid value: \"number\": f in body must be of type integer: \"number\"",
            ),
            (json!({"type": "integer"}), json!(2.0), ""),
            (
                json!({"type": "string"}),
                json!(null),
                "f: Invalid value: \"null\": f in body must be of type string: \"null\"",
            ),
            (json!({"type": "string", "nullable": true}), json!(null), ""),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                "f: Invalid value: \"boolean\": f in body must be of type integer,string: \"boolean\"",
            ),
            (
                json!({"type": "integer", "minimum": 1}),
                json!(0),
                "f: Invalid value: 0: f in body should be greater than or equal to 1",
            ),
            (
                json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
                json!(1.5),
                "f: Invalid value: 1.5: f in body should be less than 1.5",
            ),
            (
                json!({"type": "integer", "multipleOf": 3}),
                json!(4),
                "f: Invalid value: 4: f in body should be a multiple of 3",
            ),
            (
                json!({"type": "string", "minLength": 2}),
                json!("a"),
                "f: Invalid value: \"a\": f in body should be at least 2 chars long",
            ),
            (json!({"type": "string", "maxLength": 1}), json!("äö"), "f: Too long: may not be more than 1 bytes"),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("b"),
                "f: Invalid value: \"b\": f in body should match '^a+$'",
            ),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!("b"),
                "f: Invalid value: \"b\": f in body must be of type ipv4: \"b\"",
            ),
            (json!({"type": "string", "format": "strange"}), json!("b"), ""),
            (
                json!({"type": "string", "enum": ["y", "x"]}),
                json!("b"),
                "f: Unsupported value: \"b\": supported values: \"y\", \"x\"",
            ),
            (
                json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
                json!([]),
                "f: Invalid value: 0: f in body should have at least 1 items",
            ),
            (
                json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
                json!(["a", 1]),
                "f[1]: Invalid value: \"integer\": f[1] in body must be of type string: \"integer\"|f: Too many: 2: must have at most 1 item",
            ),
            (
                json!({"type": "object", "maxProperties": 1}),
                json!({"a": 1, "b": 1}),
                "f: Too many: 2: must have at most 1 item",
            ),
            (
                json!({"type": "object", "minProperties": 1}),
                json!({}),
                "f: Invalid value: 0: f in body should have at least 1 properties",
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                json!({"a": 1}),
                "f.a: Invalid value: \"integer\": f.a in body must be of type string: \"integer\"",
            ),
            (json!({"type": "object", "required": ["a"]}), json!({}), "f.a: Required value"),
            (
                json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
                json!({"a": 1, "b": 1}),
                "<nil>: Invalid value: \"\": \"f\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ),
            (
                json!({"type": "object", "oneOf": [{"required": ["a"]}]}),
                json!({}),
                "<nil>: Invalid value: \"\": \"f\" must validate one and only one schema (oneOf). Found none valid|f.a: Required value",
            ),
            (
                json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
                json!(3),
                "<nil>: Invalid value: \"\": \"f\" must validate at least one schema (anyOf)|f: Invalid value: 3: f in body should be greater than or equal to 5",
            ),
            (
                json!({"type": "integer", "allOf": [{"minimum": 5}]}),
                json!(3),
                "f: Invalid value: 3: f in body should be greater than or equal to 5|<nil>: Invalid value: \"\": \"f\" must validate all the schemas (allOf). None validated",
            ),
            (
                json!({"type": "integer", "not": {"minimum": 5}}),
                json!(6),
                "<nil>: Invalid value: \"\": \"f\" must not validate the schema (not)",
            ),
        ];
        for (schema, value, expected) in table {
            assert_eq!(
                errors(field(schema.clone()), json!({"f": value}), None).join("|"),
                expected,
                "{schema} {value}"
            );
        }
        assert_eq!(errors(json!({"type": "object", "required": ["spec"]}), json!({}), None), ["spec: Required value"]);
    }

    #[test]
    fn what_did_not_change_may_stay_wrong() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "integer", "minimum": 5}, "b": {"type": "integer", "minimum": 5},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "minimum": 5}}}},
            "p": {"type": "array", "items": {"type": "integer", "minimum": 5}}}});
        let old = json!({"a": 1, "b": 1, "l": [{"k": "x", "v": 1}, {"k": "y", "v": 1}], "p": [1]});
        let new = json!({"a": 1, "b": 2, "l": [{"k": "z", "v": 1}, {"k": "x", "v": 1}], "p": [1, 7]});
        assert_eq!(
            errors(schema, new, Some(old)),
            [
                "b: Invalid value: 2: b in body should be greater than or equal to 5",
                "l[0].v: Invalid value: 1: l[0].v in body should be greater than or equal to 5",
                "p[0]: Invalid value: 1: p[0] in body should be greater than or equal to 5"
            ]
        );
    }

    #[test]
    fn numbers_read_as_gos() {
        for (number, text) in [(1.5, "1.5"), (3.0, "3"), (1e21, "1e+21"), (1.5e-7, "1.5e-07"), (0.0, "0")] {
            assert_eq!(go_float(number), text);
        }
    }
}
