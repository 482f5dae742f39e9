//! Whether a text is a cron schedule, and if not, why, in the words of the parser that upstream uses.

/// Why a schedule is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("expected exactly 5 fields, found {count}: [{fields}]")]
    Fields { count: usize, fields: String },
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

/// Checks a schedule.
pub fn parse(schedule: &str) -> Result<(), ScheduleError> {
    if schedule.starts_with('@') {
        let known = DESCRIPTORS.contains(&schedule) || schedule.strip_prefix("@every ").is_some_and(is_duration);
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
        ["*" | "?"] => (bounds.min, bounds.max),
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

fn is_duration(text: &str) -> bool {
    let unit = |c: char| matches!(c, 'h' | 'm' | 's' | 'u' | 'n' | '.') || c.is_ascii_digit();
    text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(['h', 'm', 's']) && text.chars().all(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ];
        for (schedule, why) in bad {
            assert_eq!(parse(schedule).map_err(|why| why.to_string()), Err(why.to_owned()), "{schedule}");
        }
    }
}
