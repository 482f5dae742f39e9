//! Requests that the audit log tells of. Entry points: [`admitted`], and [`refused`] for those of nobody known.

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;

use super::{Arrived, is_stream};
use crate::ApiServer;
use crate::audit::{Answered, Recording};
use crate::authn::User;
use crate::http::media::Accepted;
use crate::http::request_info::RequestInfo;

/// As [`super::admitted`], recorded.
pub(super) async fn admitted(recording: Recording, arrived: Arrived, body: Body, form: Accepted) -> Response {
    let stream = arrived.info.resource.as_ref().is_some_and(|at| is_stream(&arrived.info, at));
    let arrived = Arrived { record: Some(recording.record.clone()), ..arrived };
    let response = super::admitted(arrived, body, form).await;
    recording.end(if stream { Answered::Stream(response) } else { Answered::Whole(response) }).await
}

/// The answer to somebody who did not prove to be anybody.
pub(super) async fn refused(server: &ApiServer, parts: &Parts, info: &RequestInfo, response: Response) -> Response {
    let Some(audit) = &server.audit else { return response };
    match audit.begin(parts, info, &User::default()).await {
        Some(recording) => recording.end(Answered::Whole(response)).await,
        None => response,
    }
}
