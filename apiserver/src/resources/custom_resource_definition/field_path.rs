//! Paths of fields in a schema: `.spec.colour`, `.labels['a.b/c']`. Entry point: [`resolve`].

use api::field::FieldPath;

use crate::resources::custom::schema::{Additional, Schema};

/// The path as errors name it, and the schema that it leads to; the error is upstream's text. Brackets are for maps and odd names.
pub fn resolve<'a>(path: &str, schema: &'a Schema, brackets: bool) -> Result<(FieldPath, &'a Schema), String> {
    let (mut at, mut schema) = (FieldPath::default(), schema);
    let tokens = tokens(path);
    let mut tokens = tokens.iter().map(String::as_str);
    while let Some(token) = tokens.next() {
        let step = match token {
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let inner = quoted.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
                let step = unescape(inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?)?;
                match tokens.next().ok_or("unexpected end of JSON path")? {
                    "]" => step,
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => tokens.next().ok_or("unexpected end of JSON path")?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        (at, schema) = enter(at, schema, &step)?;
    }
    Ok((at, schema))
}

fn enter<'a>(at: FieldPath, schema: &'a Schema, step: &str) -> Result<(FieldPath, &'a Schema), String> {
    let nowhere = || "does not refer to a valid field".to_owned();
    if !schema.properties.is_empty() {
        let property = schema.properties.get(step).ok_or_else(nowhere)?;
        return Ok((at.child(step), property));
    }
    match &schema.additional_properties {
        Some(Additional::Schema(schema)) => Ok((at.key(step), schema)),
        Some(Additional::Allowed(_)) | None => Err(nowhere()),
    }
}

/// Delimiters, quoted texts, and what stands between them.
fn tokens(path: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '.' | '[' | ']' => 1,
            '\'' => closing_quote(rest).unwrap_or(rest.len()),
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        tokens.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    tokens
}

fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\').map(|at| at + 1)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escaped = chars.next().unwrap_or('\\');
        out.push(match escaped {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\'' | '\\' => escaped,
            other => return Err(format!("invalid string literal: invalid escape char \\{other}")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_schemas() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"a.b": {"type": "string"}, "n": {"type": "integer"}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}}}))
        .unwrap();
        let found = |path: &str, brackets| {
            resolve(path, &schema, brackets).map(|(at, schema)| format!("{at} {}", schema.type_name))
        };
        assert_eq!(found(".spec.n", false), Ok("spec.n integer".to_owned()));
        assert_eq!(found(".spec['a.b']", true), Ok("spec.a.b string".to_owned()));
        assert_eq!(found(".map['x']", true), Ok("map[x] string".to_owned()));
        assert_eq!(found(".spec['n']", false), Err("array notation is not allowed".to_owned()));
        assert_eq!(found(".spec.x", false), Err("does not refer to a valid field".to_owned()));
        assert_eq!(found("spec", false), Err("expected [ or . but got: spec".to_owned()));
        assert_eq!(found(".spec['n", true), Err("expected single quoted string but got 'n".to_owned()));
    }
}
