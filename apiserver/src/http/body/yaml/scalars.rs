//! What a scalar of YAML 1.1 means, as go-yaml reads it, and how Go writes what has no form in JSON. Entry points:
//! [`scalar`], [`resolve`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// The floats that JSON does not have, as Go writes them.
pub fn unbounded(text: &str) -> Option<&'static str> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some("+Inf"),
        "-.inf" | "-.Inf" | "-.INF" => Some("-Inf"),
        ".nan" | ".NaN" | ".NAN" => Some("NaN"),
        _ => None,
    }
}

/// A value as Go's `%#v` writes it.
pub fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => api::field::go_quote(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let one = |(name, value): (&String, &Value)| format!("{}:{}", api::field::go_quote(name), go_syntax(value));
            let fields: Vec<String> = fields.iter().map(one).collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", fields.join(", "))
        }
    }
}

/// The value of a scalar under YAML 1.1's rules as go-yaml has them.
pub fn scalar(text: &str, tag: Option<&str>, plain: bool) -> Result<Value, String> {
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
}
