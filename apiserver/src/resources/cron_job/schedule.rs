//! Whether a text is a cron schedule, and if not, why, in the words of the parser that upstream uses.

use k8s_openapi::jiff::tz::TimeZone;

/// Why a schedule is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("expected exactly 5 fields, found {count}: [{fields}]")]
    Fields { count: usize, fields: String },
    /// `TZ=` with something that is no zone.
    #[error("provided bad location {0}: unknown time zone {0}")]
    Location(String),
    /// `@every` with something that is no duration.
    #[error("failed to parse duration {0}: time: {1}")]
    Duration(String, String),
    /// `@something`.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// A part of a field is no number or name.
    #[error("failed to parse int from {0}: strconv.Atoi: parsing \"{0}\": invalid syntax")]
    Number(String),
    /// A number is negative.
    #[error("negative number ({0}) not allowed: {1}")]
    Negative(i64, String),
    /// Too many slashes.
    #[error("too many slashes: {0}")]
    Slashes(String),
    /// Too many hyphens.
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    /// Below the minimum.
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    Below(i64, i64, String),
    /// Above the maximum.
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    Above(i64, i64, String),
    /// The wrong way round.
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Beyond(i64, i64, String),
    /// `*/0`.
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

struct Bounds {
    min: i64,
    max: i64,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds { min: 1, max: 12, names: MONTHS },
    Bounds { min: 0, max: 6, names: DAYS },
];
const DESCRIPTORS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Whether the name is that of a time zone, letter for letter.
pub fn is_zone(name: &str) -> bool {
    let found = || TimeZone::get(name).is_ok_and(|zone| zone.iana_name() == Some(name));
    ["", "UTC", "Local"].contains(&name) || found()
}

/// Checks a schedule.
pub fn parse(schedule: &str) -> Result<(), ScheduleError> {
    let zoned = schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ="));
    let schedule = match zoned.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
        Some((zone, _)) if !is_zone(zone) => return Err(ScheduleError::Location(zone.to_owned())),
        Some((_, rest)) => rest.trim(),
        None => schedule,
    };
    if let Some(duration) = schedule.strip_prefix("@every ") {
        return duration::check(duration).map_err(|why| ScheduleError::Duration(schedule.to_owned(), why));
    }
    if schedule.starts_with('@') {
        let known = DESCRIPTORS.contains(&schedule);
        return if known { Ok(()) } else { Err(ScheduleError::Descriptor(schedule.to_owned())) };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(ScheduleError::Fields { count: fields.len(), fields: fields.join(" ") });
    }
    fields.iter().zip(&FIELDS).try_for_each(|(field, bounds)| {
        field.split(',').filter(|range| !range.is_empty()).try_for_each(|range| parse_range(range, bounds))
    })
}

fn parse_range(text: &str, bounds: &Bounds) -> Result<(), ScheduleError> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let single = ends.len() == 1;
    let (start, mut end) = match ends.as_slice() {
        ["*" | "?", ..] => (bounds.min, bounds.max),
        [only] => {
            let only = number(only, bounds)?;
            (only, only)
        }
        [start, end] => (number(start, bounds)?, number(end, bounds)?),
        _ => return Err(ScheduleError::Hyphens(text.to_owned())),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            if single {
                end = bounds.max;
            }
            number(step, &Bounds { names: &[], ..*bounds })?
        }
        _ => return Err(ScheduleError::Slashes(text.to_owned())),
    };
    if start < bounds.min {
        return Err(ScheduleError::Below(start, bounds.min, text.to_owned()));
    }
    if end > bounds.max {
        return Err(ScheduleError::Above(end, bounds.max, text.to_owned()));
    }
    if start > end {
        return Err(ScheduleError::Beyond(start, end, text.to_owned()));
    }
    if step == 0 { Err(ScheduleError::Step(text.to_owned())) } else { Ok(()) }
}

fn number(text: &str, bounds: &Bounds) -> Result<i64, ScheduleError> {
    if let Some(at) = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(i64::try_from(at).unwrap_or_default() + bounds.min);
    }
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(ScheduleError::Negative(number, text.to_owned())),
        Ok(number) => Ok(number),
        Err(_) => Err(ScheduleError::Number(text.to_owned())),
    }
}

mod duration {
    use api::field::go_quote;

    const UNITS: &[&str] = &["ns", "us", "µs", "μs", "ms", "s", "m", "h"];

    /// Why a text is no duration, in Go's words.
    pub fn check(text: &str) -> Result<(), String> {
        let invalid = || format!("invalid duration {}", go_quote(text));
        let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
        if rest == "0" {
            return Ok(());
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let is_number = |c: char| c == '.' || c.is_ascii_digit();
            let (number, tail) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
            if number.matches('.').count() > 1 || !number.contains(|c: char| c.is_ascii_digit()) {
                return Err(invalid());
            }
            let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
            if unit.is_empty() {
                return Err(format!("missing unit in duration {}", go_quote(text)));
            }
            if !UNITS.contains(&unit) {
                return Err(format!("unknown unit {} in duration {}", go_quote(unit), go_quote(text)));
            }
            rest = tail;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        let known = ["Etc/UTC", "US/Eastern", "GMT", "Zulu", "EST", "Asia/Kolkata", "Etc/GMT+5", "Europe/Berlin"];
        for (names, known) in [(&known[..], true), (&["europe/berlin", "utc", "Europe", "etc/UTC"], false)] {
            names.iter().for_each(|name| assert_eq!(is_zone(name), known, "{name}"));
        }
    }

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6 1,15 JAN-mar mon", "@hourly", "@every 1h30m", "0 0 ? * 0"] {
            assert_eq!(parse(good), Ok(()), "{good}");
        }
        let bad = [
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
            ("@every 5x", "failed to parse duration @every 5x: time: unknown unit \"x\" in duration \"5x\""),
            ("CRON_TZ=Mars * * * * *", "provided bad location Mars: unknown time zone Mars"),
        ];
        for (schedule, why) in bad {
            assert_eq!(parse(schedule).map_err(|why| why.to_string()), Err(why.to_owned()), "{schedule}");
        }
    }
}
