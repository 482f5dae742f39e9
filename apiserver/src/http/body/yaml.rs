//! YAML in, as sigs.k8s.io/yaml reads it: YAML 1.1, so that `y` and `on` are booleans and `010` is eight. Entry point: [`parse`].
//!
//! Only the first document counts. Keys become strings, the last of several equal keys wins, and each repetition is noted with
//! its line. Aliases are expanded as long as there is a [`Budget`] for it.

mod scalars;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libyaml_safer::{Error, ErrorKind, Event, EventData, Parser, ScalarStyle};
use serde_json::{Map, Value};

pub use self::scalars::resolve;
use self::scalars::{go_syntax, scalar, unbounded};
use super::bounds::{Budget, MAX_DEPTH, TOO_DEEP, is_too_deep};

/// A document and the repeated keys in it, as `line 6: key "a" already set in map`.
#[derive(Debug)]
pub struct Parsed {
    /// The document.
    pub value: Value,
    /// Repeated keys in the order of the text.
    pub duplicates: Vec<String>,
}

/// Reads the first document; the error is go-yaml's, with its `yaml: ` in front, or that of what JSON can't say.
pub fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut input = bytes;
    let mut parser = Parser::new();
    parser.set_input_string(&mut input);
    let mut reader =
        Reader { parser, anchors: BTreeMap::new(), duplicates: Vec::new(), copies: Budget::default(), no_json: None };
    // libyaml-safer has not ported all of libyaml: a tag before a comma, for one, makes it panic.
    let read = catch_unwind(AssertUnwindSafe(|| reader.document()));
    let value = read.unwrap_or_else(|_| Err("did not find expected whitespace or line break".to_owned()));
    let value = value.map_err(|problem| format!("yaml: {problem}"))?;
    match reader.no_json {
        Some(problem) => Err(problem),
        None => Ok(Parsed { value, duplicates: reader.duplicates }),
    }
}

struct Reader<'r, 'b> {
    parser: Parser<&'r mut &'b [u8]>,
    anchors: BTreeMap<String, Value>,
    duplicates: Vec<String>,
    copies: Budget,
    /// The first thing that has no form in JSON, which matters once the whole text is read.
    no_json: Option<String>,
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
                let plain = style == ScalarStyle::Plain;
                if let Some(number) = unbounded(&value).filter(|_| plain) {
                    self.no_json.get_or_insert_with(|| format!("json: unsupported value: {number}"));
                }
                (anchor, scalar(&value, tag.as_deref(), plain)?)
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

    /// A key becomes text, which any number has.
    fn key(&mut self, event: Event, depth: usize) -> Result<Value, String> {
        let before = self.no_json.clone();
        let key = self.node(event, depth)?;
        self.no_json = before;
        if key.is_array() || key.is_object() {
            return Err(format!("invalid map key: {}", go_syntax(&key)));
        }
        Ok(key)
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
            let key = self.key(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if key.is_null() {
                let value = go_syntax(&value);
                let problem = format!("unsupported map key of type: %!s(<nil>), key: <nil>, value: {value}");
                self.no_json.get_or_insert(problem);
            }
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
    fn what_json_cannot_say() {
        let table = [
            ("a: .inf", Err("json: unsupported value: +Inf")),
            ("[-.Inf]", Err("json: unsupported value: -Inf")),
            ("{.nan: x, .inf: '.inf'}", Ok(json!({".nan": "x", ".inf": ".inf"}))),
            ("~: x", Err("unsupported map key of type: %!s(<nil>), key: <nil>, value: \"x\"")),
            ("? [x, 1]\n: y", Err("yaml: invalid map key: []interface {}{\"x\", 1}")),
            ("? {x: z}\n: y", Err("yaml: invalid map key: map[interface {}]interface {}{\"x\":\"z\"}")),
        ];
        for (text, expected) in table {
            let found = parse(text.as_bytes()).map(|parsed| parsed.value);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
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
