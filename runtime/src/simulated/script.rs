//! What a simulated container is told to do, by annotations of its pod. Pure.
//!
//! `simulated.kubelab.io/exit-after: 10s` holds for every container of the pod, `simulated.kubelab.io/exit-after.app`
//! for the container `app` only; the container's own annotations come before the pod's.

use std::collections::BTreeMap;
use std::time::Duration;

const PREFIX: &str = "simulated.kubelab.io/";

/// How long things take when nothing is said.
const START: Duration = Duration::from_millis(3);
const STOP: Duration = Duration::from_millis(2);
const PULL: Duration = Duration::from_millis(5);
const SANDBOX: Duration = Duration::from_millis(2);

/// Why an annotation is not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("annotation {key}: {value:?} is not {expected}")]
pub struct ScriptError {
    key: String,
    value: String,
    expected: &'static str,
}

/// What one container will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// From StartContainer to running.
    pub start_delay: Duration,
    /// If set, starting fails with this message.
    pub start_error: Option<String>,
    /// It ends by itself so long after its start.
    pub exit_after: Option<Duration>,
    /// With this code.
    pub exit_code: i32,
    /// It is killed for lack of memory so long after its start.
    pub oom_after: Option<Duration>,
    /// From the stop signal to its end.
    pub stop_delay: Duration,
    /// From its start until its exec probes succeed.
    pub ready_delay: Duration,
}

impl Script {
    /// Reads the annotations of a container and of its pod.
    pub fn of_container(
        name: &str,
        container: &BTreeMap<String, String>,
        pod: &BTreeMap<String, String>,
    ) -> Result<Self, ScriptError> {
        let find = |key| find(key, Some(name), &[container, pod]);
        Ok(Self {
            start_delay: duration(find("start-delay"))?.unwrap_or(START),
            start_error: find("start-error").map(|(_, message)| message.to_owned()),
            exit_after: duration(find("exit-after"))?,
            exit_code: number(find("exit-code"))?.unwrap_or(0),
            oom_after: duration(find("oom-after"))?,
            stop_delay: duration(find("stop-delay"))?.unwrap_or(STOP),
            ready_delay: duration(find("ready-delay"))?.unwrap_or_default(),
        })
    }
}

/// How long pulling an image takes, or with what message it fails.
pub fn pull(pod: &BTreeMap<String, String>) -> Result<(Duration, Option<String>), ScriptError> {
    let delay = duration(find("pull-delay", None, &[pod]))?.unwrap_or(PULL);
    Ok((delay, find("pull-error", None, &[pod]).map(|(_, message)| message.to_owned())))
}

/// How long making the sandbox takes.
pub fn sandbox(pod: &BTreeMap<String, String>) -> Result<Duration, ScriptError> {
    Ok(duration(find("sandbox-delay", None, &[pod]))?.unwrap_or(SANDBOX))
}

fn find<'a>(key: &str, name: Option<&str>, places: &[&'a BTreeMap<String, String>]) -> Option<(String, &'a str)> {
    let general = format!("{PREFIX}{key}");
    let special = name.map(|name| format!("{general}.{name}"));
    let keys = special.into_iter().chain([general]);
    keys.flat_map(|key| places.iter().map(move |place| (key.clone(), *place)))
        .find_map(|(key, place)| place.get(&key).map(|value| (key, value.as_str())))
}

fn duration(found: Option<(String, &str)>) -> Result<Option<Duration>, ScriptError> {
    let Some((key, value)) = found else { return Ok(None) };
    parse_duration(value).map(Some).ok_or_else(|| ScriptError {
        key,
        value: value.to_owned(),
        expected: "a duration such as 500ms, 2s or 1m30s",
    })
}

fn number(found: Option<(String, &str)>) -> Result<Option<i32>, ScriptError> {
    let Some((key, value)) = found else { return Ok(None) };
    match value.parse::<u8>() {
        Ok(code) => Ok(Some(i32::from(code))),
        Err(_) => Err(ScriptError { key, value: value.to_owned(), expected: "an exit code from 0 to 255" }),
    }
}

/// Durations as Go writes them: `1m30s`, `1.5s`, `20ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(value * unit).ok()?)?;
        rest = &rest[unit_end..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned())).collect()
    }

    #[test]
    fn durations() {
        for (text, millis) in [("2s", Some(2000)), ("1m30s", Some(90_000)), ("20ms", Some(20)), ("1.5s", Some(1500))] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
        for text in ["", "2", "s", "-1s", "1x", "1..2s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_nearest_annotation_counts() {
        let pod = annotations(&[("exit-after", "10s"), ("exit-after.app", "5s"), ("exit-code", "3")]);
        let script = |name| Script::of_container(name, &BTreeMap::new(), &pod).expect("valid");
        assert_eq!(script("app").exit_after, Some(Duration::from_secs(5)));
        assert_eq!(script("other").exit_after, Some(Duration::from_secs(10)));
        assert_eq!(script("other").exit_code, 3);
        assert_eq!(script("other").oom_after, None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = Script::of_container("a", &BTreeMap::new(), &annotations(&[("exit-code", "500")]));
        assert_eq!(
            error.expect_err("out of range").to_string(),
            "annotation simulated.kubelab.io/exit-code: \"500\" is not an exit code from 0 to 255"
        );
    }
}
