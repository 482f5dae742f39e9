//! Timestamps and durations.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::conversions::mismatch;
use super::{Answer, failed};
use crate::cel::EvaluationError;
use crate::cel::value::Value;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    match (function, args) {
        ("duration", [value]) => Some(duration(value)),
        ("timestamp", [value]) => Some(timestamp(value)),
        (_, [Value::Timestamp(at)]) => part(function, &at.to_zoned(TimeZone::UTC)).map(|part| Ok(Value::Int(part))),
        (_, [Value::Timestamp(at), Value::String(zone)]) => {
            let Some(zone) = time_zone(zone) else { return failed(format!("unknown time zone {}", &**zone)) };
            part(function, &at.to_zoned(zone)).map(|part| Ok(Value::Int(part)))
        }
        (_, [Value::Duration(length)]) => {
            let whole = match function {
                "getHours" => length.as_secs() / 3600,
                "getMinutes" => length.as_secs() / 60,
                "getSeconds" => length.as_secs(),
                "getMilliseconds" => i64::try_from(length.as_millis()).unwrap_or(i64::MAX),
                _ => return None,
            };
            Some(Ok(Value::Int(whole)))
        }
        _ => None,
    }
}

fn part(function: &str, at: &Zoned) -> Option<i64> {
    Some(match function {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return None,
    })
}

/// `+02:00`, `-08:30`, `UTC` or a name of the time zone database.
fn time_zone(name: &str) -> Option<TimeZone> {
    let (sign, rest) = match name.split_at_checked(1) {
        Some(("-", rest)) => (-1, rest),
        Some(("+", rest)) => (1, rest),
        _ => (1, name),
    };
    if let Some((hours, minutes)) = rest.split_once(':') {
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        return Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().map(TimeZone::fixed);
    }
    if matches!(name, "" | "UTC") { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
}

fn duration<'a>(value: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::Int(nanoseconds) => Ok(Value::Duration(SignedDuration::from_nanos(*nanoseconds))),
        Value::String(text) => match parse_duration(text) {
            Some(length) => Ok(Value::Duration(length)),
            None => Err(EvaluationError::new(mismatch(value, "google.protobuf.Duration"))),
        },
        _ => Err(super::no_such_overload()),
    }
}

fn timestamp<'a>(value: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => Timestamp::from_second(*seconds)
            .map(Value::Timestamp)
            .map_err(|_| EvaluationError::new("timestamp overflow")),
        Value::String(text) => match parse_timestamp(text) {
            Some(at) => Ok(Value::Timestamp(at)),
            None => Err(EvaluationError::new(mismatch(value, "google.protobuf.Timestamp"))),
        },
        _ => Err(super::no_such_overload()),
    }
}

/// A point in time of RFC 3339: date, `T`, time, and a zone.
pub(in crate::cel) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let zoned =
        bytes.len() >= 20 && bytes[10] == b'T' && (text.ends_with('Z') || bytes[bytes.len() - 6..].contains(&b':'));
    if zoned { text.parse().ok() } else { None }
}

/// A duration of Go: `1h30m`, `-1.5s`, `0`.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let nanoseconds: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(18)];
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        total += whole * nanoseconds + part * nanoseconds / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        rest = after;
    }
    let signed = if negative { -total } else { total };
    i64::try_from(signed).ok().map(SignedDuration::from_nanos)
}

/// A duration as seconds: `5400s`, `1.5s`.
pub(in crate::cel) fn print_duration(length: SignedDuration) -> String {
    let nanoseconds = length.as_nanos();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, rest) = (nanoseconds.abs() / 1_000_000_000, nanoseconds.abs() % 1_000_000_000);
    let fraction = format!("{rest:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{seconds}s"),
        fraction => format!("{sign}{seconds}.{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let cases = [
            ("1h30m", Some("5400s")),
            ("-1.5s", Some("-1.5s")),
            ("0", Some("0s")),
            ("1d", None),
            ("", None),
            ("5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text).map(print_duration).as_deref(), expected, "{text}");
        }
    }
}
