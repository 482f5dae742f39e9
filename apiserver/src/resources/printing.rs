//! Cells that many kinds print alike: ages, label lists, containers. Entry points: the column constructors and [`age`].
//!
//! Invariant: the texts equal those of kubectl's server-side printers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as MetaSelector, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{Column, Columns};

/// The column that holds the object's name.
pub const NAME: Column = Column {
    name: Cow::Borrowed("Name"),
    kind: Cow::Borrowed("string"),
    format: Cow::Borrowed("name"),
    description: Cow::Borrowed(
        "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
    ),
    priority: 0,
};

/// The column that holds the object's age.
pub const AGE: Column = Column {
    name: Cow::Borrowed("Age"),
    kind: Cow::Borrowed("string"),
    format: Cow::Borrowed(""),
    description: Cow::Borrowed(
        "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.",
    ),
    priority: 0,
};

const fn column(name: &'static str, kind: &'static str, description: &'static str, priority: i32) -> Column {
    let (name, kind) = (Cow::Borrowed(name), Cow::Borrowed(kind));
    Column { name, kind, format: Cow::Borrowed(""), description: Cow::Borrowed(description), priority }
}

/// A string column.
pub const fn text(name: &'static str, description: &'static str) -> Column {
    column(name, "string", description, 0)
}

/// A string column that only `-o wide` shows.
pub const fn wide(name: &'static str, description: &'static str) -> Column {
    column(name, "string", description, 1)
}

/// An integer column.
pub const fn integer(name: &'static str, description: &'static str) -> Column {
    column(name, "integer", description, 0)
}

/// A boolean column.
pub const fn boolean(name: &'static str, description: &'static str) -> Column {
    column(name, "boolean", description, 0)
}

/// Columns of kinds that upstream's printers do not know: name and the creation time.
pub fn name_and_created<T>() -> Columns<T>
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let created = Column { name: "Created At".into(), kind: "date".into(), ..AGE };
    Columns {
        columns: vec![NAME, created],
        cells: |object, _| {
            let meta = object.metadata();
            let created = meta.creation_timestamp.as_ref().map_or(Value::Null, |time| Value::from(seconds(time)));
            vec![name(meta), created]
        },
    }
}

/// Columns of a kind that shows name and age only.
pub fn name_and_age<T>() -> Columns<T>
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    Columns {
        columns: vec![NAME, AGE],
        cells: |object, now| {
            let meta = object.metadata();
            vec![name(meta), age(meta, now)]
        },
    }
}

/// No Table at all: clients get 406.
pub fn no_table<T>() -> Columns<T> {
    Columns { columns: Vec::new(), cells: |_, _| Vec::new() }
}

/// RFC 3339 with whole seconds.
pub fn seconds(time: &Time) -> String {
    time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The cell of [`NAME`].
pub fn name(meta: &ObjectMeta) -> Value {
    Value::from(meta.name.as_deref().unwrap_or_default())
}

/// The cell of [`AGE`].
pub fn age(meta: &ObjectMeta, now: Timestamp) -> Value {
    Value::from(since(meta.creation_timestamp.as_ref().map(|time| time.0), now))
}

/// How long ago something happened; `<unknown>` if it did not.
pub fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    match time {
        Some(time) => human_duration(now.duration_since(time).as_secs()),
        None => "<unknown>".to_owned(),
    }
}

/// A duration in at most two units, as Go's `duration.HumanDuration`.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        small => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds / MINUTE % 60, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds / HOUR % 24, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds / DAY % 365, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let mut shown = String::new();
    for (key, value) in labels.into_iter().flatten() {
        let comma = if shown.is_empty() { "" } else { "," };
        let _ = write!(shown, "{comma}{key}={value}");
    }
    or_none(&shown)
}

/// A selector in query form; `<none>` if there is none or it selects everything.
pub fn selector(selector: Option<&MetaSelector>) -> String {
    match selector.map(LabelSelector::from_meta) {
        None => "<none>".to_owned(),
        Some(Ok(selector)) => or_none(&selector.to_string()),
        Some(Err(_)) => "<error>".to_owned(),
    }
}

/// The text, or `<none>` in place of nothing.
pub fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

/// The text, or `<unknown>` in place of nothing.
pub fn or_unknown(text: &str) -> String {
    if text.is_empty() { "<unknown>".to_owned() } else { text.to_owned() }
}

/// Names and images of a template's containers, each joined by commas.
pub fn containers(spec: Option<&PodSpec>) -> (String, String) {
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let joined = |field: fn(&Container) -> &str| containers.iter().map(field).collect::<Vec<_>>().join(",");
    (joined(|c| &c.name), joined(|c| c.image.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (119, "119s"),
            (120, "2m"),
            (123, "2m3s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
            (315_360_000, "10y"),
        ];
        for (seconds, shown) in table {
            assert_eq!(human_duration(seconds), shown, "{seconds}");
        }
    }

    #[test]
    fn label_lists() {
        let map = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        assert_eq!(labels(Some(&map)), "a=1,b=2");
        assert_eq!(labels(None), "<none>");
        let meta = MetaSelector { match_labels: Some(map), match_expressions: None };
        assert_eq!(selector(Some(&meta)), "a=1,b=2");
        assert_eq!(selector(Some(&MetaSelector::default())), "<none>");
    }
}
