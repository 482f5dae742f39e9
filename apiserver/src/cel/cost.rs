//! What a call costs when it runs, in units of about one step: <https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints>.

use super::value::Value;

/// Passing once over a text, per character.
const TRAVERSAL: f64 = 0.1;
/// A pattern, per character of it.
const PATTERN: f64 = 0.25;

/// Before the call.
pub(super) fn of_call(function: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, size);
    match function {
        "check" => 350_000,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR" | "quantity"
        | "isQuantity" | "semver" | "isSemver" => passes(size(0), TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => passes(size(0), 2.0 * TRAVERSAL),
        "ip" if args[0].as_str().is_some() => passes(size(0), TRAVERSAL),
        "find" | "findAll" | "matches" => passes(size(0) + 1, TRAVERSAL).saturating_mul(passes(size(1), PATTERN)),
        "contains" => passes(size(0), TRAVERSAL).saturating_mul(passes(size(1), TRAVERSAL)),
        "startsWith" | "endsWith" => passes(size(1), TRAVERSAL),
        "@in" => {
            if matches!(args.get(1), Some(Value::List(_))) {
                size(1)
            } else {
                1
            }
        }
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => passes(size(0).min(size(1)), TRAVERSAL).max(1),
        "_+_" => {
            if matches!(args.first(), Some(Value::String(_) | Value::Bytes(_))) {
                passes(size(0) + size(1), TRAVERSAL)
            } else {
                1
            }
        }
        "slice" | "flatten" | "reverse" | "sort" | "@sortByAssociatedKeys" => size(0).max(1),
        "distinct" => size(0).saturating_mul(size(0)).max(1),
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)).max(1),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2).max(1),
        _ => 1,
    }
}

/// After the call, for what is only known then.
pub(super) fn of_result(function: &str, result: &Value<'_>) -> u64 {
    match function {
        "lists.range" => size(result),
        "join" | "format" => passes(size(result), 2.0 * TRAVERSAL),
        _ => 0,
    }
}

fn size(value: &Value<'_>) -> u64 {
    value.size().map_or(1, |size| size as u64)
}

fn traversal(list: &Value<'_>) -> u64 {
    match list {
        Value::List(list) => list.iter().map(|item| passes(size(&item), TRAVERSAL).max(1)).sum(),
        other => passes(size(other), TRAVERSAL),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a count of steps"
)]
fn passes(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}
