//! Strings and patterns: the standard functions, cel-go's strings extension and Kubernetes' regex library.

use regex::Regex;

use super::{Answer, failed, formats, no_such_overload};
use crate::cel::EvaluationError;
use crate::cel::value::{List, Value};
use crate::patterns;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    match args {
        [Value::String(text), rest @ ..] => of_text(function, text, rest),
        [Value::List(list)] if function == "join" => Some(join(list, "")),
        [Value::List(list), Value::String(separator)] if function == "join" => Some(join(list, separator)),
        _ => None,
    }
}

fn of_text<'a>(function: &str, text: &str, rest: &[Value<'a>]) -> Answer<'a> {
    let value = match (function, rest) {
        ("contains", [Value::String(part)]) => Value::Bool(text.contains(&**part)),
        ("startsWith", [Value::String(part)]) => Value::Bool(text.starts_with(&**part)),
        ("endsWith", [Value::String(part)]) => Value::Bool(text.ends_with(&**part)),
        ("matches", [Value::String(pattern)]) => {
            return Some(pattern_of("", pattern, |regex| Value::Bool(regex.is_match(text))));
        }
        ("find", [Value::String(pattern)]) => {
            let found = |regex: &Regex| Value::text(regex.find(text).map_or("", |found| found.as_str()));
            return Some(pattern_of(ILLEGAL, pattern, found));
        }
        ("findAll", [Value::String(pattern)]) => return Some(find_all(text, pattern, -1)),
        ("findAll", [Value::String(pattern), Value::Int(limit)]) => return Some(find_all(text, pattern, *limit)),
        ("charAt", [Value::Int(at)]) => return Some(char_at(text, *at)),
        ("indexOf", [Value::String(part)]) => index_of(text, part, 0),
        ("indexOf", [Value::String(part), Value::Int(from)]) => return Some(index_of_from(text, part, *from)),
        ("lastIndexOf", [Value::String(part)]) => last_index_of(text, part, usize::MAX),
        ("lastIndexOf", [Value::String(part), Value::Int(until)]) => match usize::try_from(*until) {
            Ok(until) if until < text.chars().count().max(1) => last_index_of(text, part, until),
            _ => return failed(format!("index out of range: {until}")),
        },
        ("lowerAscii", []) => Value::text(text.to_ascii_lowercase()),
        ("upperAscii", []) => Value::text(text.to_ascii_uppercase()),
        ("trim", []) => Value::text(text.trim()),
        ("replace", [Value::String(from), Value::String(to)]) => Value::text(text.replace(&**from, to)),
        ("replace", [Value::String(from), Value::String(to), Value::Int(limit)]) => match usize::try_from(*limit) {
            Ok(limit) => Value::text(text.replacen(&**from, to, limit)),
            Err(_) => Value::text(text.replace(&**from, to)),
        },
        ("split", [Value::String(separator)]) => split(text, separator, -1),
        ("split", [Value::String(separator), Value::Int(limit)]) => split(text, separator, *limit),
        ("substring", [Value::Int(from)]) => {
            return Some(substring(text, *from, i64::try_from(text.chars().count()).ok()?));
        }
        ("substring", [Value::Int(from), Value::Int(to)]) => return Some(substring(text, *from, *to)),
        ("format", [Value::List(values)]) => return Some(formats::print(text, values)),
        ("strings.quote", []) => Value::text(quote(text)),
        ("jsonpatch.escapeKey", []) => Value::text(text.replace('~', "~0").replace('/', "~1")),
        _ => return None,
    };
    Some(Ok(value))
}

/// What the regex library says before the reason.
const ILLEGAL: &str = "Illegal regex: ";

fn pattern_of<'a>(
    lead: &str,
    pattern: &str,
    work: impl FnOnce(&Regex) -> Value<'a>,
) -> Result<Value<'a>, EvaluationError> {
    match Regex::new(pattern) {
        Ok(regex) => Ok(work(&regex)),
        Err(error) => Err(EvaluationError::new(format!("{lead}{}", patterns::go_error(pattern, &error)))),
    }
}

fn find_all<'a>(text: &str, pattern: &str, limit: i64) -> Result<Value<'a>, EvaluationError> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    pattern_of(ILLEGAL, pattern, |regex| {
        Value::list(regex.find_iter(text).take(most).map(|found| Value::text(found.as_str())).collect())
    })
}

fn out_of_range(index: i64) -> EvaluationError {
    EvaluationError::new(format!("index out of range: {index}"))
}

fn char_at<'a>(text: &str, at: i64) -> Result<Value<'a>, EvaluationError> {
    let index = usize::try_from(at).map_err(|_| out_of_range(at))?;
    match text.chars().nth(index) {
        Some(character) => Ok(Value::text(character.to_string())),
        None if index == text.chars().count() => Ok(Value::text("")),
        None => Err(out_of_range(at)),
    }
}

fn characters<'a>(text: &str, bytes: usize) -> Value<'a> {
    Value::Int(i64::try_from(text[..bytes].chars().count()).unwrap_or(i64::MAX))
}

fn byte_of(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

fn index_of<'a>(text: &str, part: &str, from: usize) -> Value<'a> {
    let start = byte_of(text, from);
    text[start..].find(part).map_or(Value::Int(-1), |at| characters(text, start + at))
}

fn index_of_from<'a>(text: &str, part: &str, from: i64) -> Result<Value<'a>, EvaluationError> {
    match usize::try_from(from) {
        Ok(start) if start <= text.chars().count() => Ok(index_of(text, part, start)),
        _ => Err(out_of_range(from)),
    }
}

/// The last place, not after the character `until`.
fn last_index_of<'a>(text: &str, part: &str, until: usize) -> Value<'a> {
    let end = byte_of(text, until).saturating_add(part.len()).min(text.len());
    let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
    text[..end].rfind(part).map_or(Value::Int(-1), |at| characters(text, at))
}

fn split<'a>(text: &str, separator: &str, limit: i64) -> Value<'a> {
    let piece = |piece: &str| Value::text(piece);
    let pieces: Vec<Value<'a>> = match (usize::try_from(limit), separator) {
        (Ok(0), _) => Vec::new(),
        (limit, "") => {
            let most = limit.unwrap_or(usize::MAX);
            let end = byte_of(text, most.saturating_sub(1));
            let singles = text[..end].chars().map(|character| piece(&character.to_string()));
            singles.chain((end < text.len()).then(|| piece(&text[end..]))).collect()
        }
        (Ok(limit), _) => text.splitn(limit, separator).map(piece).collect(),
        (Err(_), _) => text.split(separator).map(piece).collect(),
    };
    Value::list(pieces)
}

fn substring<'a>(text: &str, from: i64, to: i64) -> Result<Value<'a>, EvaluationError> {
    if from > to {
        return Err(EvaluationError::new(format!("invalid substring range. start: {from}, end: {to}")));
    }
    let length = text.chars().count();
    let inside =
        |index: i64| usize::try_from(index).ok().filter(|index| *index <= length).ok_or_else(|| out_of_range(index));
    let (from, to) = (inside(from)?, inside(to)?);
    Ok(Value::text(&text[byte_of(text, from)..byte_of(text, to)]))
}

fn join<'a>(list: &List<'a>, separator: &str) -> Result<Value<'a>, EvaluationError> {
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(item.as_str().ok_or_else(no_such_overload)?);
    }
    Ok(Value::text(joined))
}

/// A text in quotes, with what is not printable escaped.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
