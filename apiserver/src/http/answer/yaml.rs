//! YAML out, as sigs.k8s.io/yaml writes it: keys sorted, strings plain where they stay strings, else double-quoted. Entry point:
//! [`write`].

use libyaml_safer::{Emitter, Encoding, Event, MappingStyle, ScalarStyle, SequenceStyle};
use serde_json::Value;

use crate::http::body::yaml::resolve;

/// The value as a YAML document.
pub fn write(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    let mut emitter = Emitter::new();
    emitter.set_output_string(&mut text);
    emitter.set_unicode(true);
    // Emitting to memory fails only on malformed event sequences, which the recursion below cannot make.
    let _ = emit_document(&mut emitter, value);
    drop(emitter);
    text
}

fn emit_document(emitter: &mut Emitter<'_>, value: &Value) -> libyaml_safer::Result<()> {
    emitter.emit(Event::stream_start(Encoding::Utf8))?;
    emitter.emit(Event::document_start(None, &[], true))?;
    emit(emitter, value)?;
    emitter.emit(Event::document_end(true))?;
    emitter.emit(Event::stream_end())?;
    emitter.flush()
}

fn emit(emitter: &mut Emitter<'_>, value: &Value) -> libyaml_safer::Result<()> {
    match value {
        Value::Null => plain(emitter, "null"),
        Value::Bool(set) => plain(emitter, if *set { "true" } else { "false" }),
        Value::Number(number) => plain(emitter, &number.to_string()),
        Value::String(text) => string(emitter, text),
        Value::Array(items) => {
            let style = if items.is_empty() { SequenceStyle::Flow } else { SequenceStyle::Block };
            emitter.emit(Event::sequence_start(None, None, true, style))?;
            items.iter().try_for_each(|item| emit(emitter, item))?;
            emitter.emit(Event::sequence_end())
        }
        Value::Object(fields) => {
            let style = if fields.is_empty() { MappingStyle::Flow } else { MappingStyle::Block };
            emitter.emit(Event::mapping_start(None, None, true, style))?;
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_by(|a, b| natural(a, b));
            for name in names {
                string(emitter, name)?;
                emit(emitter, &fields[name])?;
            }
            emitter.emit(Event::mapping_end())
        }
    }
}

fn plain(emitter: &mut Emitter<'_>, text: &str) -> libyaml_safer::Result<()> {
    emitter.emit(Event::scalar(None, None, text, true, false, ScalarStyle::Plain))
}

fn string(emitter: &mut Emitter<'_>, text: &str) -> libyaml_safer::Result<()> {
    let style = if text.contains('\n') {
        ScalarStyle::Literal
    } else if stays_string(text) {
        ScalarStyle::Plain
    } else {
        ScalarStyle::DoubleQuoted
    };
    emitter.emit(Event::scalar(None, None, text, true, true, style))
}

/// Whether a plain scalar of this text reads as a string again, also for YAML 1.1's timestamps and base-60 numbers.
fn stays_string(text: &str) -> bool {
    resolve(text).is_string() && text != "<<" && text != "=" && !looks_like_timestamp(text) && !looks_like_base_60(text)
}

fn looks_like_timestamp(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits == 4 && text.as_bytes().get(4) == Some(&b'-') && text[5..].starts_with(|c: char| c.is_ascii_digit()) && {
        let rest = &text[5..];
        rest.bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'T' | b't' | b'Z' | b'z' | b' ' | b'+'))
            && rest.contains('-')
    }
}

fn looks_like_base_60(text: &str) -> bool {
    let body = text.trim_start_matches(['+', '-']);
    let mut parts = body.split(':');
    let first = parts.next().is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit() || b == b'_'));
    let mut more = 0;
    let rest = parts.all(|part| {
        more += 1;
        let (whole, _) = part.split_once('.').unwrap_or((part, ""));
        whole.parse::<u8>().is_ok_and(|n| n < 60)
    });
    first && rest && more > 0
}

/// go-yaml's order of keys: numbers inside by value, letters before other characters.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    let mut i = 0;
    while i < left.len() && i < right.len() {
        if left[i] == right[i] {
            digits = left[i].is_ascii_digit();
            i += 1;
            continue;
        }
        let (l, r) = (left[i], right[i]);
        match (l.is_alphabetic(), r.is_alphabetic()) {
            (true, true) => return l.cmp(&r),
            (true, false) => return if digits { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater },
            (false, true) => return if digits { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less },
            (false, false) => {}
        }
        let run = |text: &[char]| text[i..].iter().take_while(|c| c.is_ascii_digit()).count();
        let (lengths, none) = ((run(&left), run(&right)), (0, 0));
        if lengths != none && lengths.0 != lengths.1 {
            return lengths.0.cmp(&lengths.1);
        }
        return l.cmp(&r);
    }
    left.len().cmp(&right.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_look_like_kubernetes_writes_them() {
        let value = json!({"kind": "X", "items": [{"a": "1", "b": "text: with colon"}], "empty": {}, "none": [],
            "time": "2026-11-22T03:00:00Z", "multi": "one\ntwo\n", "bool": "yes", "f:data": {".": {}}, "count": 3});
        let expected = "bool: \"yes\"\ncount: 3\nempty: {}\nf:data:\n  .: {}\nitems:\n- a: \"1\"\n  b: 'text: with colon'\nkind: X\nmulti: |\n  one\n  two\nnone: []\ntime: \"2026-11-22T03:00:00Z\"\n";
        assert_eq!(String::from_utf8(write(&value)).unwrap(), expected);
    }
}
