//! The options of a log request: validated as PodLogOptions, then in the kubelet's spelling. Entry point: [`read`].

use api::ApiError;
use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::GroupKind;

use super::super::query::Query;
use super::target::encode;
use crate::resources::wire;

/// The query for the kubelet.
pub(super) fn read(query: &Query, pod: &str) -> Result<String, ApiError> {
    let number = |name: &str| query.integer(name);
    let (tail, limit, since) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let since_time = query.first("sinceTime").filter(|time| !time.is_empty());
    since_time.map_or(Ok(()), wire::check_time).map_err(|why| ApiError::bad_request(why.to_string()))?;
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
            &FieldPath::unnamed(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        )),
        (since, _) => at_least("sinceSeconds", since, 1, "must be greater than 0"),
    }
    let stream = query.first("stream").filter(|stream| !stream.is_empty());
    if stream.is_some() {
        // Upstream's feature for it is off by default.
        errors.push(FieldError::forbidden(&FieldPath::root("stream"), "may not be specified"));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(&GroupKind::new("", "PodLogOptions"), pod, errors));
    }
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
    ];
    let pairs = pairs.into_iter().flatten().map(|(name, value)| format!("{name}={}", encode(&value)));
    Ok(pairs.collect::<Vec<_>>().join("&"))
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
                "sinceSeconds=1&sinceTime=2024-01-02T03:04:05Z&stream=All",
                "PodLogOptions \"a\" is invalid: [[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified, stream: Forbidden: may not be specified]",
            ),
            ("sinceTime=x", "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\""),
            ("tailLines=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ];
        for (asked, message) in table {
            assert_eq!(read(&Query::parse(asked), "a").expect_err(asked).message, message);
        }
    }
}
