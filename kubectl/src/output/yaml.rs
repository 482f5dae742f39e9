//! YAML as Go's encoder writes it, which is what kubectl prints: quotes where a YAML 1.1 reader would see no text, literal blocks for
//! lines, lists not indented below their key. Entry point: [`render`].

use serde_json::Value;

/// The value as a YAML document.
pub fn render(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => write(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => write(&mut out, value, 0),
        other => out += &(scalar(other, 0) + "\n"),
    }
    out
}

/// Writes a map or list that is not empty, each line indented.
fn write(out: &mut String, value: &Value, depth: usize) {
    let space = " ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                *out += &format!("{space}{}:", text(name, depth));
                follow(out, value, depth, depth + 2);
            }
        }
        Value::Array(items) => {
            for item in items {
                *out += &space;
                *out += "-";
                match item {
                    // The first field stands beside the dash.
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut inner = String::new();
                        write(&mut inner, item, depth + 2);
                        *out += &format!(" {}", &inner[depth + 2..]);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        let mut inner = String::new();
                        write(&mut inner, item, depth + 2);
                        *out += &format!(" {}", &inner[depth + 2..]);
                    }
                    item => follow(out, item, depth + 2, depth + 2),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What comes after `name:` or `-`.
fn follow(out: &mut String, value: &Value, list_depth: usize, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            *out += "\n";
            write(out, value, depth);
        }
        Value::Array(items) if !items.is_empty() => {
            *out += "\n";
            write(out, value, list_depth);
        }
        other => *out += &format!(" {}\n", scalar(other, depth)),
    }
}

fn scalar(value: &Value, depth: usize) -> String {
    match value {
        Value::String(string) => text(string, depth),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

fn text(string: &str, depth: usize) -> String {
    let special = |c: char| (c.is_control() && c != '\n') || c == '\u{feff}' || c == '\u{2028}' || c == '\u{2029}';
    if string.is_empty() || is_other_type(string) || string.contains(special) {
        return double_quoted(string);
    }
    if string.contains('\n') {
        return match string.ends_with(' ') || string.trim().is_empty() {
            true => double_quoted(string),
            false => literal(string, depth),
        };
    }
    if needs_quotes(string) { format!("'{}'", string.replace('\'', "''")) } else { string.to_owned() }
}

/// Whether a reader of YAML 1.1 would take the plain text for something else than text.
fn is_other_type(string: &str) -> bool {
    const WORDS: [&str; 14] =
        ["~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", ".inf", "+.inf", "-.inf"];
    // Only `y`, `Yes` and `YES` are words of YAML, `yEs` is text.
    let lower = string.to_lowercase();
    let mut rest = string.chars().skip(usize::from(!lower.starts_with('.')));
    let one_case = string == lower || string == string.to_uppercase() || rest.all(|c| c.is_lowercase());
    if (WORDS.contains(&lower.as_str()) && one_case) || string == "<<" {
        return true;
    }
    is_number(string) || is_time(string)
}

fn is_number(string: &str) -> bool {
    let plain = string.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let of_base = |prefix: &str, base: u32| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(base)))
    };
    if of_base("0x", 16) || of_base("0o", 8) || of_base("0b", 2) {
        return true;
    }
    // Numbers of base 60, as YAML 1.1 reads times.
    let parts: Vec<&str> = unsigned.split(':').collect();
    if parts.len() > 1 && parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit())) {
        return parts[1..].iter().all(|part| part.len() <= 2);
    }
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c))
        && unsigned.parse::<f64>().is_ok()
}

/// `2026-01-02` or `2026-01-02T03:04:05Z`.
fn is_time(string: &str) -> bool {
    let (date, time) = string.split_at_checked(10).unwrap_or((string, ""));
    let digits = |at: std::ops::Range<usize>| date.get(at).is_some_and(|part| part.chars().all(|c| c.is_ascii_digit()));
    let is_date =
        digits(0..4) && digits(5..7) && digits(8..10) && date.get(4..5) == Some("-") && date.get(7..8) == Some("-");
    is_date
        && (time.is_empty()
            || (time.starts_with(['T', 't', ' '])
                && time[1..].starts_with(|c: char| c.is_ascii_digit())
                && time.contains(':')))
}

fn needs_quotes(string: &str) -> bool {
    let mut chars = string.chars();
    let (first, second) = (chars.next().unwrap_or(' '), chars.next());
    let alone = second.is_none_or(|c| c == ' ');
    ",[]{}#&*!|>'\"%@`".contains(first)
        || ("-?:".contains(first) && alone)
        || string.starts_with(' ')
        || string.ends_with(' ')
        || string.starts_with("---")
        || string.starts_with("...")
        || string.contains(": ")
        || string.contains(" #")
        || string.ends_with(':')
}

fn double_quoted(string: &str) -> String {
    let mut out = String::from("\"");
    for c in string.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            '\u{7}' => out += "\\a",
            '\u{8}' => out += "\\b",
            '\u{b}' => out += "\\v",
            '\u{c}' => out += "\\f",
            '\u{1b}' => out += "\\e",
            '\0' => out += "\\0",
            c if c.is_control() && u32::from(c) < 256 => out += &format!("\\x{:02X}", u32::from(c)),
            '\u{feff}' | '\u{2028}' | '\u{2029}' => out += &format!("\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// `|` with the lines below it; the sign says how many line ends are kept.
fn literal(string: &str, depth: usize) -> String {
    let body = string.trim_end_matches('\n');
    let chomping = match string.len() - body.len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let indentation = if string.starts_with([' ', '\n']) { "2" } else { "" };
    let kept = if chomping == "+" { &string[..string.len() - 1] } else { body };
    let space = " ".repeat(depth.max(2));
    let lines: Vec<String> =
        kept.split('\n').map(|line| if line.is_empty() { String::new() } else { format!("{space}{line}") }).collect();
    format!("|{indentation}{chomping}\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_laid_out_as_gos() {
        let value = json!({"a": {"b": [], "c": {}, "d": null}, "list": [{"x": 1, "y": [1, [2]]}, "text"], "s": "one\n\ntwo\n", "t": "one\ntwo", "n": 1.5});
        let wanted = "a:\n  b: []\n  c: {}\n  d: null\nlist:\n- x: 1\n  \"y\":\n  - 1\n  - - 2\n- text\n\"n\": 1.5\ns: |\n  one\n\n  two\nt: |-\n  one\n  two\n";
        let sorted = |text: &str| text.to_owned();
        assert_eq!(
            render(&json!({"a": value["a"], "list": value["list"]})),
            wanted.split("\"n\"").next().map(sorted).unwrap()
        );
        assert_eq!(render(&json!({"s": value["s"], "t": value["t"]})), "s: |\n  one\n\n  two\nt: |-\n  one\n  two\n");
        assert_eq!(render(&json!("")), "\"\"\n");
    }

    #[test]
    fn texts_are_quoted_where_they_would_be_something_else() {
        for (string, wanted) in [
            ("plain text", "plain text"),
            ("1", "\"1\""),
            ("1.5e3", "\"1.5e3\""),
            ("0x1F", "\"0x1F\""),
            ("1:20", "\"1:20\""),
            ("v1", "v1"),
            ("1.2.3", "1.2.3"),
            ("100m", "100m"),
            ("10.96.0.1", "10.96.0.1"),
            ("true", "\"true\""),
            ("Yes", "\"Yes\""),
            ("y", "\"y\""),
            ("null", "\"null\""),
            ("2026-01-02T03:04:05Z", "\"2026-01-02T03:04:05Z\""),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("it's #1", "'it''s #1'"),
            ("[x]", "'[x]'"),
            ("*", "'*'"),
            ("-", "'-'"),
            ("-x", "-x"),
            ("a\tb", "\"a\\tb\""),
            ("", "\"\""),
        ] {
            assert_eq!(text(string, 2), wanted, "{string:?}");
        }
    }

    #[test]
    fn another_reader_reads_the_same() {
        let value =
            json!({"a b": ["x\n  y\n", " z", "multi\n\n\n", {"k": ["'", "\"", "\\", "%", "é"]}], "": {"on": "off"}});
        assert_eq!(serde_yaml::from_str::<Value>(&render(&value)).unwrap(), value);
    }
}
