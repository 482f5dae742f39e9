//! JSON in, as Go's decoder reads it. Entry points: [`parse`], and [`Ordered::parse`] where the order of the fields matters.
//!
//! The last of several equal fields wins, and whether there were any is noted. Errors are worded as encoding/json words them.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::bounds::TOO_DEEP;

mod repair;

/// serde_json follows so many levels.
const SCANNED_DEPTH: usize = 127;

/// A document and whether a field stood twice in one of its objects.
#[derive(Debug)]
pub struct Parsed {
    /// The document.
    pub value: Value,
    /// Whether a field stood twice.
    pub duplicates: bool,
}

/// Reads one document. What is no text inside of its strings is read as U+FFFD.
pub fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    match read(bytes) {
        Ok(parsed) => Ok(parsed),
        Err(error) => match complaint(bytes) {
            Some(complaint) => Err(complaint),
            None => read(repair::repaired(bytes).as_bytes()).map_err(|_| error.to_string()),
        },
    }
}

fn read(bytes: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut duplicates = false;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = ValueSeed { duplicates: &mut duplicates }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Parsed { value, duplicates })
}

struct ValueSeed<'a> {
    duplicates: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ValueSeed { duplicates: self.duplicates })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(ValueSeed { duplicates: self.duplicates })?;
            if fields.insert(name, value).is_some() {
                *self.duplicates = true;
            }
        }
        Ok(Value::Object(fields))
    }
}

/// A document with its fields in the order of the text, repeated ones included.
#[derive(Debug)]
pub enum Ordered {
    /// Null, a boolean, a number or a string.
    Scalar,
    /// A list.
    List(Vec<Ordered>),
    /// An object.
    Object(Vec<(String, Ordered)>),
}

impl Ordered {
    /// Reads one document that is known to be well-formed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl From<&Value> for Ordered {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Self::Scalar,
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(fields) => {
                Self::Object(fields.iter().map(|(name, value)| (name.clone(), value.into())).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Scalar)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Ordered, E> {
        Ok(Ordered::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Ordered, E> {
        Ok(Ordered::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Ordered::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Ordered::Object(fields))
    }
}

/// What encoding/json's scanner would say about malformed text; none if it finds nothing wrong.
fn complaint(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { bytes, at: 0, depth: 0 };
    match scanner.document() {
        Ok(()) => None,
        Err(Wrong::Depth) => Some(TOO_DEEP.to_owned()),
        Err(Wrong::End) => Some("unexpected end of JSON input".to_owned()),
        Err(Wrong::Byte(context)) => {
            Some(format!("invalid character {} {context}", quote_byte(bytes.get(scanner.at).copied().unwrap_or(0))))
        }
    }
}

fn quote_byte(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x20..0x7f => format!("'{}'", byte as char),
        other => format!("'\\x{other:02x}'"),
    }
}

enum Wrong {
    End,
    /// Nested more deeply than any reader here follows.
    Depth,
    Byte(&'static str),
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Scanner<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn next(&self) -> Result<u8, Wrong> {
        self.bytes.get(self.at).copied().ok_or(Wrong::End)
    }

    fn document(&mut self) -> Result<(), Wrong> {
        self.value()?;
        self.space();
        match self.next() {
            Ok(_) => Err(Wrong::Byte("after top-level value")),
            Err(_) => Ok(()),
        }
    }

    fn value(&mut self) -> Result<(), Wrong> {
        self.space();
        match self.next()? {
            b'{' => self.inner(Self::object),
            b'[' => self.inner(Self::list),
            b'"' => self.string(),
            b't' => self.literal(b"true", &LITERAL_TRUE),
            b'f' => self.literal(b"false", &LITERAL_FALSE),
            b'n' => self.literal(b"null", &LITERAL_NULL),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Wrong::Byte("looking for beginning of value")),
        }
    }

    fn inner(&mut self, read: fn(&mut Self) -> Result<(), Wrong>) -> Result<(), Wrong> {
        if self.depth == SCANNED_DEPTH {
            return Err(Wrong::Depth);
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        self.space();
        if self.next()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.next()? != b'"' {
                return Err(Wrong::Byte("looking for beginning of object key string"));
            }
            self.string()?;
            self.space();
            if self.next()? != b':' {
                return Err(Wrong::Byte("after object key"));
            }
            self.at += 1;
            self.value()?;
            self.space();
            match self.next()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Wrong::Byte("after object key:value pair")),
            }
        }
    }

    fn list(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        self.space();
        if self.next()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            self.space();
            match self.next()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Wrong::Byte("after array element")),
            }
        }
    }

    fn string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            match self.next()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                byte if byte < 0x20 => return Err(Wrong::Byte("in string literal")),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        match self.next()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.next()?.is_ascii_hexdigit() {
                        return Err(Wrong::Byte("in \\u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(Wrong::Byte("in string escape code")),
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8], contexts: &[&'static str]) -> Result<(), Wrong> {
        self.at += 1;
        for (expected, context) in word[1..].iter().zip(contexts) {
            if self.next()? != *expected {
                return Err(Wrong::Byte(context));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<(), Wrong> {
        if self.next()? == b'-' {
            self.at += 1;
        }
        match self.next()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(Wrong::Byte("in numeric literal")),
        }
        if self.next().is_ok_and(|b| b == b'.') {
            self.at += 1;
            if !self.next()?.is_ascii_digit() {
                return Err(Wrong::Byte("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if self.next().is_ok_and(|b| matches!(b, b'e' | b'E')) {
            self.at += 1;
            if matches!(self.next()?, b'+' | b'-') {
                self.at += 1;
            }
            if !self.next()?.is_ascii_digit() {
                return Err(Wrong::Byte("in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(())
    }
}

const LITERAL_TRUE: [&str; 3] =
    ["in literal true (expecting 'r')", "in literal true (expecting 'u')", "in literal true (expecting 'e')"];
const LITERAL_FALSE: [&str; 4] = [
    "in literal false (expecting 'a')",
    "in literal false (expecting 'l')",
    "in literal false (expecting 's')",
    "in literal false (expecting 'e')",
];
const LITERAL_NULL: [&str; 3] =
    ["in literal null (expecting 'u')", "in literal null (expecting 'l')", "in literal null (expecting 'l')"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_text_is_described_as_go_does() {
        let table = [
            ("", "unexpected end of JSON input"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("{\"a\":1} x", "invalid character 'x' after top-level value"),
            ("{\"a\":1", "unexpected end of JSON input"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("nul!", "invalid character '!' in literal null (expecting 'l')"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
        ];
        for (text, message) in table {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        let table: [(&[u8], &str); 4] = [
            (b"\"a\xff\xe2\x82b\"", "a\u{fffd}\u{fffd}\u{fffd}b"),
            (br#""\ud800""#, "\u{fffd}"),
            (br#""\ud800\u0041\ude00\ud83d\ude00""#, "\u{fffd}A\u{fffd}\u{1f600}"),
            (br#""\\ud800\ud8""#, "bad"),
        ];
        for (text, expected) in table {
            match parse(text) {
                Ok(parsed) => assert_eq!(parsed.value, expected),
                Err(why) => assert_eq!(
                    (why.as_str(), expected),
                    (r#"invalid character '"' in \u hexadecimal character escape"#, "bad")
                ),
            }
        }
    }

    #[test]
    fn the_last_of_equal_fields_wins_and_is_noted() {
        let parsed = parse(br#"{"a":1,"b":{"c":1,"c":2}}"#).unwrap();
        assert!(parsed.duplicates);
        assert_eq!(parsed.value, serde_json::json!({"a": 1, "b": {"c": 2}}));
        assert!(!parse(br#"{"a":1,"b":1}"#).unwrap().duplicates);
    }
}
