//! Named formats (`format.dns1123Label()`), and `"%s".format([…])`.

use std::sync::Arc;

use api::names;

use super::opaque::Opaque;
use super::{Answer, no_such_overload, time};
use crate::cel::EvaluationError;
use crate::cel::value::{Key, List, Value};

/// A rule for strings with a name.
#[derive(Clone, Copy, Debug)]
pub struct NamedFormat {
    name: &'static str,
    check: fn(&str) -> Vec<String>,
}

impl PartialEq for NamedFormat {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const FORMATS: [NamedFormat; 13] = [
    NamedFormat { name: "dns1123Label", check: names::is_dns1123_label },
    NamedFormat { name: "dns1123Subdomain", check: names::is_dns1123_subdomain },
    NamedFormat { name: "dns1035Label", check: names::is_dns1035_label },
    NamedFormat { name: "qualifiedName", check: names::qualified_name },
    NamedFormat { name: "dns1123LabelPrefix", check: |text| names::is_dns1123_label(&as_prefix(text)) },
    NamedFormat { name: "dns1123SubdomainPrefix", check: |text| names::is_dns1123_subdomain(&as_prefix(text)) },
    NamedFormat { name: "dns1035LabelPrefix", check: |text| names::is_dns1035_label(&as_prefix(text)) },
    NamedFormat { name: "labelValue", check: names::label_value },
    NamedFormat {
        name: "uri",
        check: |text| {
            unless(
                super::url::call("isURL", &[Value::text(text)])
                    .is_some_and(|answer| matches!(answer, Ok(Value::Bool(true)))),
                "invalid URI for request",
            )
        },
    },
    NamedFormat {
        name: "uuid",
        check: |text| unless(uuid::Uuid::parse_str(text).is_ok() && text.len() == 36, "does not match the UUID format"),
    },
    NamedFormat { name: "byte", check: |text| unless(is_base64(text), "invalid base64") },
    NamedFormat {
        name: "date",
        check: |text| unless(time::parse_timestamp(&format!("{text}T00:00:00Z")).is_some(), "invalid date"),
    },
    NamedFormat { name: "datetime", check: |text| unless(time::parse_timestamp(text).is_some(), "invalid datetime") },
];

/// A generateName may end with a dash that more will follow.
fn as_prefix(text: &str) -> String {
    text.strip_suffix('-').filter(|stem| !stem.is_empty()).map_or_else(|| text.to_owned(), |stem| format!("{stem}a"))
}

fn unless(good: bool, why: &str) -> Vec<String> {
    if good { Vec::new() } else { vec![why.to_owned()] }
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    let value = |format: &NamedFormat| Value::Opaque(Arc::new(Opaque::Format(*format)));
    match args {
        [] => {
            let name = function.strip_prefix("format.")?;
            FORMATS.iter().find(|format| format.name == name).map(|format| Ok(value(format)))
        }
        [Value::String(name)] if function == "format.named" => {
            Some(Ok(Value::optional(FORMATS.iter().find(|format| *format.name == **name).map(value))))
        }
        [Value::Opaque(opaque), Value::String(text)] if function == "validate" => {
            let Opaque::Format(format) = &**opaque else { return None };
            let problems: Vec<Value<'a>> = (format.check)(text).into_iter().map(Value::text).collect();
            Some(Ok(Value::optional(Some(problems).filter(|problems| !problems.is_empty()).map(Value::list))))
        }
        _ => None,
    }
}

/// `"…%s…".format(values)`
pub(super) fn print<'a>(pattern: &str, values: &List<'a>) -> Result<Value<'a>, EvaluationError> {
    let mut out = String::new();
    let mut rest = pattern.chars().peekable();
    let mut next = 0;
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut precision = None;
        if rest.peek() == Some(&'.') {
            rest.next();
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            precision = digits.parse::<usize>().ok();
        }
        let verb = rest.next().ok_or_else(|| EvaluationError::new("unexpected end of string"))?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values.get(next).ok_or_else(|| EvaluationError::new(format!("index {next} out of range")))?;
        next += 1;
        out.push_str(&verb_of(verb, precision, &value)?);
    }
    Ok(Value::text(out))
}

fn verb_of(verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, EvaluationError> {
    let wrong = |allowed: &str, verb: &str| {
        let found = value.type_name();
        EvaluationError::new(format!(
            "error during formatting: {verb} clause can only be used on {allowed}, was given {found}"
        ))
    };
    match (verb, value) {
        ('s', value) => plain(value),
        ('d', Value::Int(_) | Value::Uint(_)) => Ok(value.to_string()),
        ('d', _) => Err(wrong("integers", "decimal")),
        ('f', Value::Double(number)) => Ok(format!("{number:.*}", precision.unwrap_or(6))),
        ('f', Value::Int(_) | Value::Uint(_)) => Ok(format!("{value}.{}", "0".repeat(precision.unwrap_or(6)))),
        ('f', _) => Err(wrong("doubles", "fixed-point")),
        ('e', Value::Double(number)) => Ok(scientific(*number, precision.unwrap_or(6))),
        ('e', _) => Err(wrong("doubles", "scientific")),
        ('b', Value::Int(number)) => Ok(signed(*number, |number| format!("{number:b}"))),
        ('b', Value::Uint(number)) => Ok(format!("{number:b}")),
        ('b', Value::Bool(value)) => Ok(if *value { "1" } else { "0" }.to_owned()),
        ('b', _) => Err(wrong("integers and bools", "binary")),
        ('o', Value::Int(number)) => Ok(signed(*number, |number| format!("{number:o}"))),
        ('o', Value::Uint(number)) => Ok(format!("{number:o}")),
        ('o', _) => Err(wrong("integers", "octal")),
        ('x', Value::Int(number)) => Ok(signed(*number, |number| format!("{number:x}"))),
        ('X', Value::Int(number)) => Ok(signed(*number, |number| format!("{number:X}"))),
        ('x', Value::Uint(number)) => Ok(format!("{number:x}")),
        ('X', Value::Uint(number)) => Ok(format!("{number:X}")),
        ('x' | 'X', Value::String(text)) => Ok(hex(text.as_bytes(), verb == 'X')),
        ('x' | 'X', Value::Bytes(bytes)) => Ok(hex(bytes, verb == 'X')),
        ('x' | 'X', _) => Err(wrong("integers, byte buffers, and strings", "hex")),
        (other, _) => Err(EvaluationError::new(format!(
            "could not parse formatting clause: unrecognized formatting clause \"{other}\""
        ))),
    }
}

fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
}

/// `1.5e+03`: the exponent has a sign and two digits.
fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A value as `%s` shows it; texts within lists and maps too.
fn plain(value: &Value<'_>) -> Result<String, EvaluationError> {
    Ok(match value {
        Value::String(text) => text.to_string(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => value.to_string(),
        Value::Type(name) => name.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(length) => time::print_duration(*length),
        Value::List(list) => {
            let items: Result<Vec<String>, _> = list.iter().map(|item| plain(&item)).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(_) | Value::Object(..) | Value::Struct(_) => {
            let entries = value.entries().into_iter();
            let entries: Result<Vec<String>, EvaluationError> = entries
                .map(|(key, value)| {
                    let key = match &key {
                        Key::String(text) => text.to_string(),
                        other => other.value().to_string(),
                    };
                    Ok(format!("{key}: {}", plain(&value)?))
                })
                .collect();
            format!("{{{}}}", entries?.join(", "))
        }
        _ => return Err(no_such_overload()),
    })
}
