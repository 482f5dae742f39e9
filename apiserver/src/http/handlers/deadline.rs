//! How long a request may take. Entry points: [`of`], [`passed`].

use std::time::Duration;

use api::ApiError;
use axum::response::Response;

use super::super::media::Accepted;
use super::super::query::Query;
use super::super::request_info::RequestInfo;
use super::{answer, turn};
use crate::cel::parse_duration;

/// What a request may take at most; the parameter `timeout` can say less.
const LIMIT: Duration = Duration::from_secs(60);

/// The time that a request may take; none for what lasts as long as somebody listens.
pub(super) fn of(query: &Query, info: &RequestInfo) -> Result<Option<Duration>, ApiError> {
    if info.verb == "watch" || info.resource.as_ref().is_some_and(turn::is_endless) {
        return Ok(None);
    }
    let text = query.text("timeout");
    if text.is_empty() {
        return Ok(Some(LIMIT));
    }
    let Some(wanted) = parse_duration(text) else {
        return Err(ApiError::bad_request(format!("invalid timeout specified in the request URL - {text}")));
    };
    // Nothing, or less than nothing, is no limit of the client's.
    let wanted = Duration::try_from(wanted).unwrap_or_default();
    Ok(Some(if wanted.is_zero() { LIMIT } else { wanted.min(LIMIT) }))
}

/// The answer to a request that took too long.
pub(super) fn passed(form: Accepted) -> Response {
    answer::error(&ApiError::timeout("request did not complete within the allotted timeout", 0), form, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let limit = |path: &str, query: &str| {
            let query = Query::parse(query);
            let info = RequestInfo::parse(&axum::http::Method::GET, path, &query);
            of(&query, &info).map(|limit| limit.map(|limit| limit.as_millis())).map_err(|error| error.message)
        };
        let pods = "/api/v1/pods";
        let table = [
            (pods, "", Ok(Some(60_000))),
            (pods, "timeout=1.5s", Ok(Some(1_500))),
            (pods, "timeout=0s", Ok(Some(60_000))),
            (pods, "timeout=-3s", Ok(Some(60_000))),
            (pods, "timeout=2m", Ok(Some(60_000))),
            (pods, "timeout=5", Err("invalid timeout specified in the request URL - 5".to_owned())),
            ("/version", "timeout=soon", Err("invalid timeout specified in the request URL - soon".to_owned())),
            (pods, "watch=1&timeout=soon", Ok(None)),
            ("/api/v1/namespaces/n/pods/p/log", "timeout=soon", Ok(None)),
        ];
        for (path, query, wanted) in table {
            assert_eq!(limit(path, query), wanted, "{path} {query}");
        }
    }
}
