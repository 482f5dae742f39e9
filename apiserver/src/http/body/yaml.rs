//! YAML in, as sigs.k8s.io/yaml reads it: YAML 1.1, so that `y` and `on` are booleans and `010` is eight. Entry point: [`parse`].
//!
//! Only the first document counts. Keys become strings, the last of several equal keys wins, and each repetition is noted with
//! its line. Aliases are expanded as long as there is a [`Budget`] for it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libyaml_safer::{Error, ErrorKind, Event, EventData, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

use super::bounds::{Budget, MAX_DEPTH, TOO_DEEP, is_too_deep};

/// A document and the repeated keys in it, as `line 6: key "a" already set in map`.
#[derive(Debug)]
pub struct Parsed {
    /// The document.
    pub value: Value,
    /// Repeated keys in the order of the text.
    pub duplicates: Vec<String>,
}

/// Reads the first document; the error is go-yaml's, with its `yaml: ` in front.
pub fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut input = bytes;
    let mut parser = Parser::new();
    parser.set_input_string(&mut input);
    let mut reader = Reader { parser, anchors: BTreeMap::new(), duplicates: Vec::new(), copies: Budget::default() };
    // libyaml-safer has not ported all of libyaml: a tag before a comma, for one, makes it panic.
    let read = catch_unwind(AssertUnwindSafe(|| reader.document()));
    let value = read.unwrap_or_else(|_| Err("did not find expected whitespace or line break".to_owned()));
    let value = value.map_err(|problem| format!("yaml: {problem}"))?;
    Ok(Parsed { value, duplicates: reader.duplicates })
}

struct Reader<'r, 'b> {
    parser: Parser<&'r mut &'b [u8]>,
    anchors: BTreeMap<String, Value>,
    duplicates: Vec<String>,
    copies: Budget,
}

impl Reader<'_, '_> {
    fn next(&mut self) -> Result<Event, String> {
        self.parser.parse().map_err(|error| describe(&error))
    }

    fn document(&mut self) -> Result<Value, String> {
        loop {
            let event = self.next()?;
            match event.data {
                EventData::StreamStart { .. } | EventData::DocumentStart { .. } => {}
                EventData::StreamEnd => return Ok(Value::Null),
                _ => {
                    let value = self.node(event, 0)?;
                    self.next()?;
                    return Ok(value);
                }
            }
        }
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(TOO_DEEP.to_owned());
        }
        let (anchor, value) = match event.data {
            EventData::Alias { anchor } => return self.alias(&anchor, depth),
            EventData::Scalar { anchor, tag, value, style, .. } => {
                (anchor, scalar(&value, tag.as_deref(), style == ScalarStyle::Plain)?)
            }
            EventData::SequenceStart { anchor, .. } => (anchor, self.sequence(depth)?),
            EventData::MappingStart { anchor, .. } => (anchor, self.mapping(depth)?),
            _ => return Err("did not find expected node content".to_owned()),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, self.copies.copy(&value)?);
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: &str, depth: usize) -> Result<Value, String> {
        let value = self.anchors.get(anchor).ok_or_else(|| format!("unknown anchor '{anchor}' referenced"))?;
        if is_too_deep(value, MAX_DEPTH - depth) {
            return Err(TOO_DEEP.to_owned());
        }
        self.copies.copy(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if event.data == EventData::SequenceEnd {
                return Ok(Value::Array(items));
            }
            items.push(self.node(event, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut fields = Map::new();
        let mut merged = Vec::new();
        loop {
            let event = self.next()?;
            if event.data == EventData::MappingEnd {
                break;
            }
            let line = event.start_mark.line + 1;
            let merge = is_merge(&event);
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if merge {
                merged.push(value);
            } else if fields.insert(key_text(&key), value).is_some() {
                self.duplicates
                    .push(format!("line {line}: key {} already set in map", api::field::go_quote(&key_text(&key))));
            }
        }
        merged.into_iter().for_each(|value| merge_into(&mut fields, value));
        Ok(Value::Object(fields))
    }
}

impl Budget {
    fn copy(&mut self, value: &Value) -> Result<Value, String> {
        if !self.spend(value) {
            return Err("document contains excessive aliasing".to_owned());
        }
        Ok(value.clone())
    }
}

fn is_merge(event: &Event) -> bool {
    matches!(&event.data, EventData::Scalar { value, style: ScalarStyle::Plain, .. } if value == "<<")
}

/// `<<`: fields that the mapping has itself stay.
fn merge_into(fields: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(other) => {
            for (name, value) in other {
                fields.entry(name).or_insert(value);
            }
        }
        Value::Array(items) => items.into_iter().for_each(|item| merge_into(fields, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value of a scalar under YAML 1.1's rules as go-yaml has them.
pub(super) fn scalar(text: &str, tag: Option<&str>, plain: bool) -> Result<Value, String> {
    match tag.map(|tag| tag.strip_prefix("tag:yaml.org,2002:").unwrap_or_default()) {
        None if plain => Ok(resolve(text)),
        Some("binary") => binary(text),
        Some(wanted @ ("int" | "float" | "bool" | "null")) => {
            let value = resolve(text);
            let found = type_of(text, &value);
            if found == wanted || found == "int" && wanted == "float" {
                return Ok(value);
            }
            Err(format!("cannot decode !!{found} `{text}` as a !!{wanted}"))
        }
        Some(_) | None => Ok(Value::from(text)),
    }
}

/// Bytes, of which what is no UTF-8 becomes question marks.
fn binary(text: &str) -> Result<Value, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(plain) {
        Ok(bytes) => Ok(Value::from(String::from_utf8_lossy(&bytes))),
        Err(_) => Err("!!binary value contains invalid base64 data".to_owned()),
    }
}

/// What go-yaml calls the type of a plain scalar; a float stays one where JSON writes it without a fraction.
fn type_of(text: &str, value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) if integer(&text.replace('_', "")).is_some() => "int",
        Value::Number(_) => "float",
        Value::String(_) | Value::Array(_) | Value::Object(_) => "str",
    }
}

/// What a plain scalar means.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::from(text);
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Value::Number(number);
    }
    match digits.parse::<f64>() {
        Ok(number) if looks_like_float(&digits) => {
            Number::from_f64(number).map_or_else(|| Value::from(text), whole_or_float)
        }
        _ => Value::from(text),
    }
}

/// A float without a fraction is written without one when it becomes JSON.
fn whole_or_float(number: Number) -> Value {
    match number.as_f64() {
        Some(value) if value.fract() == 0.0 && (0.0..u64::MAX as f64).contains(&value) => Value::from(value as u64),
        Some(value) if value.fract() == 0.0 && (i64::MIN as f64..0.0).contains(&value) => Value::from(value as i64),
        _ => Value::Number(number),
    }
}

fn integer(digits: &str) -> Option<Number> {
    let (negative, body) = match digits.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (radix, body) = match body.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &body[2..]),
        [b'0', b'b' | b'B', ..] => (2, &body[2..]),
        [b'0', b'o' | b'O', ..] => (8, &body[2..]),
        [b'0', _, ..] => (8, &body[1..]),
        _ => (10, body),
    };
    if body.is_empty() || !body.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(body, radix).ok()?;
    if !negative {
        return Some(Number::from(magnitude));
    }
    i64::try_from(-i128::from(magnitude)).ok().map(Number::from)
}

fn looks_like_float(text: &str) -> bool {
    let body = text.trim_start_matches(['+', '-']);
    let (mantissa, exponent) = body.split_once(['e', 'E']).map_or((body, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, ""), |(w, f)| (w, f));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let exponent_is_fine = exponent.is_none_or(|e| {
        let e = e.trim_start_matches(['+', '-']);
        !e.is_empty() && digits(e)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_is_fine
}

/// go-yaml's rule for the line it names.
fn describe(error: &Error) -> String {
    let line = match (error.problem_mark(), error.context_mark()) {
        (Some(mark), _) if mark.line != 0 => mark.line + u64::from(error.kind() == ErrorKind::Scanner),
        (_, Some(mark)) if mark.line != 0 => mark.line,
        _ => 0,
    };
    if line == 0 { error.problem().to_owned() } else { format!("line {line}: {}", error.problem()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_follow_yaml_1_1() {
        let table = [
            ("y", json!(true)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("010", json!(8)),
            ("0x1f", json!(31)),
            ("1_000", json!(1000)),
            ("-7", json!(-7)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000)),
            ("1e16", json!(10_000_000_000_000_000_u64)),
            ("-1.5e3", json!(-1500)),
            ("1.2.3", json!("1.2.3")),
            ("2001-01-01", json!("2001-01-01")),
            ("-", json!("-")),
            ("12ab", json!("12ab")),
        ];
        for (text, value) in table {
            assert_eq!(resolve(text), value, "{text}");
        }
    }

    #[test]
    fn tags_say_what_a_scalar_is() {
        let table = [
            ("!!binary aGVsbG8=", Ok(json!("hello"))),
            ("!!binary '?'", Err("yaml: !!binary value contains invalid base64 data")),
            ("!!str 5", Ok(json!("5"))),
            ("!!int '5'", Ok(json!(5))),
            ("!!float 3", Ok(json!(3))),
            ("!!int 1e3", Err("yaml: cannot decode !!float `1e3` as a !!int")),
            ("!!bool abc", Err("yaml: cannot decode !!str `abc` as a !!bool")),
        ];
        for (text, expected) in table {
            let found = parse(text.as_bytes()).map(|parsed| parsed.value);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
        assert_eq!(parse(b"!!binary |\n  aGVs\n  bG8=\n").unwrap().value, json!("hello"));
    }

    #[test]
    fn documents_anchors_and_duplicates() {
        let text = "a: &x {b: '1', c: no}\nd: *x\ne:\n- <<: *x\n  c: 2\nf: 1\nf: 2\n---\nz: 1\n";
        let parsed = parse(text.as_bytes()).unwrap();
        let x = json!({"b": "1", "c": false});
        assert_eq!(parsed.value, json!({"a": x, "d": x, "e": [{"b": "1", "c": 2}], "f": 2}));
        assert_eq!(parsed.duplicates, ["line 7: key \"f\" already set in map"]);
    }

    #[test]
    fn errors_are_go_yamls() {
        assert_eq!(parse(b"a: b: c").unwrap_err(), "yaml: mapping values are not allowed in this context");
        let tab = parse(b"apiVersion: v1\n\tkind: x\n").unwrap_err();
        assert_eq!(tab, "yaml: line 2: found a tab character that violates indentation");
    }
}
