//! Semantic versions: <https://pkg.go.dev/k8s.io/apiserver/pkg/cel/library#SemverLib>.

use std::sync::Arc;

use semver::Version;

use super::opaque::Opaque;
use super::{Answer, failed};
use crate::cel::value::Value;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    let (version, rest) = match args {
        [Value::String(text), rest @ ..] if matches!(function, "semver" | "isSemver") => {
            let normalize = matches!(rest, [Value::Bool(true)]);
            let text = if normalize { normalized(text) } else { text.to_string() };
            return match (function, Version::parse(&text)) {
                ("isSemver", parsed) => Some(Ok(Value::Bool(parsed.is_ok()))),
                (_, Ok(version)) => Some(Ok(Value::Opaque(Arc::new(Opaque::Semver(version))))),
                (_, Err(_)) => failed(why(&text)),
            };
        }
        [Value::Opaque(opaque), rest @ ..] => match &**opaque {
            Opaque::Semver(version) => (version, rest),
            _ => return None,
        },
        _ => return None,
    };
    let part = |part: u64| Some(Ok(Value::Int(i64::try_from(part).unwrap_or(i64::MAX))));
    match (function, rest) {
        ("major", []) => part(version.major),
        ("minor", []) => part(version.minor),
        ("patch", []) => part(version.patch),
        (_, [Value::Opaque(other)]) => {
            let Opaque::Semver(other) = &**other else { return None };
            let order = version.cmp_precedence(other);
            match function {
                "isGreaterThan" => Some(Ok(Value::Bool(order.is_gt()))),
                "isLessThan" => Some(Ok(Value::Bool(order.is_lt()))),
                "compareTo" => Some(Ok(Value::Int(order as i64))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Without the leading `v`, leading zeros, and with all three parts.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut parts: Vec<&str> = numbers
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            trimmed => trimmed,
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0");
    }
    parts.join(".") + rest
}

/// Why a text is no version.
fn why(text: &str) -> String {
    if text.is_empty() {
        return "Version string empty".to_owned();
    }
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    if parts.len() != 3 {
        return "No Major.Minor.Patch elements found".to_owned();
    }
    let end = parts[2].find(['-', '+']).unwrap_or(parts[2].len());
    for (name, part) in [("major", parts[0]), ("minor", parts[1]), ("patch", &parts[2][..end])] {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            let capital = name[..1].to_uppercase() + &name[1..];
            return format!(
                "Invalid character(s) found in {} number {part:?}",
                if name == "patch" { &capital } else { name }
            );
        }
        if part.len() > 1 && part.starts_with('0') {
            let capital = name[..1].to_uppercase() + &name[1..];
            return format!("{capital} number must not contain leading zeroes {part:?}");
        }
    }
    format!("Invalid version {text:?}")
}
