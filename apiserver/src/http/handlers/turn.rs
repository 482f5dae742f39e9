//! A request waits its turn. Entry points: [`take`], [`refused`].
//!
//! Streams to nodes last as long as somebody listens and take no turn; a watch takes one until it has begun.

use axum::http::HeaderValue;
use axum::http::header::{RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;

use super::super::query::Query;
use super::super::request_info::{RequestInfo, ResourcePath};
use super::answer;
use crate::ApiServer;
use crate::authn::User;
use crate::flow_control::Verdict;
use crate::view::prefix;

/// So many objects of a list take a seat.
const OBJECTS_PER_SEAT: usize = 100;
/// The most seats that a list takes, if its priority level does not say fewer.
const MOST_SEATS: u32 = 10;

/// Waits until the request may run; none if it takes no turn.
pub(super) async fn take(server: &ApiServer, user: &User, query: &Query, info: &RequestInfo) -> Option<Verdict> {
    if info.resource.as_ref().is_some_and(is_endless) {
        return None;
    }
    Some(server.flow_control.admit(user, info, |widest| width(server, query, info, widest.min(MOST_SEATS))).await)
}

/// What lasts as long as somebody listens, watches aside.
pub(super) fn is_endless(at: &ResourcePath) -> bool {
    matches!(at.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// How many seats a request takes: one, but lists more by the number of objects that are looked at.
fn width(server: &ApiServer, query: &Query, info: &RequestInfo, most: u32) -> u32 {
    let Some(at) = &info.resource else { return 1 };
    let lists = info.verb == "list" || (info.verb == "watch" && query.boolean("sendInitialEvents"));
    if !lists || !at.name.is_empty() {
        return 1;
    }
    let Some(found) = server.cache.resource(&prefix(&at.group, &at.resource, "")) else { return 1 };
    let seats = found.snapshot().len().div_ceil(OBJECTS_PER_SEAT);
    u32::try_from(seats).unwrap_or(u32::MAX).clamp(1, most.max(1))
}

/// The answer to a request that may not run now, as Go's `http.Error` writes it.
pub(super) fn refused() -> Response {
    let mut response = answer::text(429, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_words_of_a_refusal() {
        let response = refused();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        let body = axum::body::to_bytes(response.into_body(), 100).await.expect("a body");
        assert_eq!(body, "Too many requests, please try again later.\n");
    }
}
