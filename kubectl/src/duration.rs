//! Durations: Go's notation in, kubectl's short one out.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// Reads `30s`, `1m30s`, `2h`, `500ms`, `-1s` (None: for ever), or plain seconds.
pub fn parse(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    if let Ok(seconds) = rest.parse::<f64>() {
        total = seconds;
        rest = "";
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(invalid()),
            };
        rest = &rest[unit..];
    }
    Ok(if negative { None } else { Some(Duration::from_secs_f64(total)) })
}

/// For clap.
pub fn argument(text: &str) -> Result<Limit, String> {
    parse(text).map(Limit)
}

/// A time limit; None is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit(pub Option<Duration>);

/// `12s`, `3m4s`, `5h`, `2d3h`, `7d`: as ages are printed.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - since.as_second();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ if days < 365 * 8 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        let seconds = |text| parse(text).unwrap().map(|duration| duration.as_secs_f64());
        for (text, wanted) in [
            ("30s", Some(30.0)),
            ("1m30s", Some(90.0)),
            ("500ms", Some(0.5)),
            ("2h", Some(7200.0)),
            ("-1s", None),
            ("0", Some(0.0)),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
        assert!(parse("abc").is_err() && parse("5x").is_err() && parse("").is_err());
    }

    #[test]
    fn ages_are_short() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (seconds, wanted) in [
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (700, "11m"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (800_000, "9d"),
            (-5, "0s"),
        ] {
            assert_eq!(age(at(0), at(seconds)), wanted, "{seconds}");
        }
    }
}
