//! The options of a log request: validated as PodLogOptions, then in the kubelet's spelling. Entry point: [`read`].

use api::ApiError;
use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::GroupKind;

use super::super::query::Query;
use super::target::encode;

/// The query for the kubelet.
pub(super) fn read(query: &Query, pod: &str) -> Result<String, ApiError> {
    let number = |name: &str| query.integer(name);
    let (tail, limit, since) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let since_time = query.first("sinceTime").filter(|time| !time.is_empty());
    let mut errors = FieldErrors::new();
    let mut at_least = |name: &str, value: Option<i64>, least: i64, detail: &str| {
        if let Some(value) = value.filter(|value| *value < least) {
            errors.push(FieldError::invalid(&FieldPath::root(name), value, detail));
        }
    };
    at_least("tailLines", tail, 0, "must be greater than or equal to 0");
    at_least("limitBytes", limit, 1, "must be greater than 0");
    match (since, since_time) {
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(
            &FieldPath::nil(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        )),
        (since, _) => at_least("sinceSeconds", since, 1, "must be greater than 0"),
    }
    let stream = query.first("stream").filter(|stream| !stream.is_empty());
    let time = since_time.map(str::parse::<jiff::Timestamp>).transpose();
    check_stream(&mut errors, stream, tail);
    if !errors.is_empty() {
        return Err(ApiError::invalid(&GroupKind::new("", "PodLogOptions"), pod, errors));
    }
    time.map_err(|error| ApiError::bad_request(format!("sinceTime: {error}")))?;
    let on = |name: &'static str| query.boolean(name).then(|| (name, "true".to_owned()));
    let counted = |name: &'static str, value: Option<i64>| value.map(|value| (name, value.to_string()));
    let pairs = [
        on("follow"),
        on("previous"),
        on("timestamps"),
        counted("sinceSeconds", since),
        since_time.map(|time| ("sinceTime", time.to_owned())),
        counted("tailLines", tail),
        counted("limitBytes", limit),
        stream.map(|stream| ("stream", stream.to_owned())),
    ];
    let pairs = pairs.into_iter().flatten().map(|(name, value)| format!("{name}={}", encode(&value)));
    Ok(pairs.collect::<Vec<_>>().join("&"))
}

fn check_stream(errors: &mut FieldErrors, stream: Option<&str>, tail: Option<i64>) {
    match stream {
        None | Some("All") => {}
        Some("Stdout" | "Stderr") if tail.is_none() => {}
        Some("Stdout" | "Stderr") => {
            errors.push(FieldError::forbidden(
                &FieldPath::nil(),
                "`tailLines` and specific `stream` are mutually exclusive for now",
            ));
        }
        Some(other) => {
            errors.push(FieldError::not_supported(&FieldPath::root("stream"), other, &["All", "Stderr", "Stdout"]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_the_kubelets_spelling() {
        let table = [
            ("", ""),
            ("container=c&follow=true&previous=false", "follow=true"),
            ("tailLines=0&limitBytes=10&timestamps=true", "timestamps=true&tailLines=0&limitBytes=10"),
            ("sinceTime=2024-01-02T03:04:05Z", "sinceTime=2024-01-02T03%3A04%3A05Z"),
            ("stream=Stdout", "stream=Stdout"),
        ];
        for (asked, expected) in table {
            assert_eq!(read(&Query::parse(asked), "a").as_deref(), Ok(expected), "{asked}");
        }
    }

    #[test]
    fn options_that_cannot_be() {
        let table = [
            (
                "tailLines=-5",
                "PodLogOptions \"a\" is invalid: tailLines: Invalid value: -5: must be greater than or equal to 0",
            ),
            ("limitBytes=0", "PodLogOptions \"a\" is invalid: limitBytes: Invalid value: 0: must be greater than 0"),
            (
                "sinceSeconds=0",
                "PodLogOptions \"a\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                "stream=x",
                "PodLogOptions \"a\" is invalid: stream: Unsupported value: \"x\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
            ("tailLines=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ];
        for (asked, message) in table {
            assert_eq!(read(&Query::parse(asked), "a").expect_err(asked).message, message);
        }
    }
}
