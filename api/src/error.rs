//! The one error type that crosses the API: what a `Status` of Kubernetes says.
//!
//! Constructors word each error exactly as kube-apiserver does. Invariant: `from_status(to_status())` is the identity.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::field::{FieldErrors, go_quote};
use crate::names::{GroupKind, GroupResource};

/// Why a conflicting write must be repeated on the newest object.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// A failure as the API reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason; empty for errors that upstream leaves unclassified.
    pub reason: String,
    /// The text for people.
    pub message: String,
    /// Object, causes and time to wait, where known.
    pub details: Option<Box<StatusDetails>>,
}

impl ApiError {
    fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = some(group);
        details.kind = some(kind);
        details.name = some(name);
        self
    }

    fn about_resource(self, resource: &GroupResource, name: &str) -> Self {
        self.about(&resource.group, &resource.resource, name)
    }

    /// 404: the object does not exist.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {} not found", go_quote(name))).about_resource(resource, name)
    }

    /// 404: there is nothing at this path.
    pub fn path_not_found() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(Box::default());
        error
    }

    /// 409: an object of this name exists.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} {} already exists", go_quote(name)))
            .about_resource(resource, name)
    }

    /// 409: a precondition does not hold. `why` is [`MODIFIED`] for a stale resourceVersion.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", go_quote(name));
        Self::new(409, "Conflict", message).about_resource(resource, name)
    }

    /// 422: the object breaks rules of its kind.
    pub fn invalid(kind: &GroupKind, name: &str, errors: FieldErrors) -> Self {
        let message = if errors.is_empty() {
            format!("{kind} {} is invalid", go_quote(name))
        } else {
            format!("{kind} {} is invalid: {errors}", go_quote(name))
        };
        let mut error = Self::new(422, "Invalid", message).about(&kind.group, &kind.kind, name);
        error.details.get_or_insert_default().causes = Some(errors.causes());
        error
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403; an empty name is left out of the message.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {} is forbidden: {why}", go_quote(name)),
        };
        Self::new(403, "Forbidden", message).about_resource(resource, name)
    }

    /// 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let mut error =
            Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        error.details = Some(Box::default());
        error
    }

    /// 405: the resource is there, but this can't be done with it.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {}", go_quote(&resource.to_string()));
        Self::new(405, "MethodNotAllowed", message).about_resource(resource, "")
    }

    /// 406.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413.
    pub fn request_entity_too_large(message: impl fmt::Display) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// 410: the revision or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 504: not done in time; the client may try again after so many seconds.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    /// 504: a read asked for a revision that the server has not reached.
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        Self::timeout(format_args!("Too large resource version: {wanted}, current: {current}"), 1).with_cause(
            "ResourceVersionTooLarge",
            "Too large resource version",
            "",
        )
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500 with upstream's preamble and the text as a cause.
    pub fn internal(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self::new(500, "InternalError", format!("Internal error occurred: {message}")).with_cause("", &message, "")
    }

    /// 500 without a reason: how upstream answers errors it never classified.
    pub fn unclassified(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// Adds a cause; empty parts are left out.
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let cause = StatusCause { field: some(field), message: some(message), reason: some(reason) };
        self.details.get_or_insert_default().causes.get_or_insert_default().push(cause);
        self
    }

    /// Says when to try again; 0 says nothing.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        if seconds > 0 {
            self.details.get_or_insert_default().retry_after_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        }
        self
    }

    /// After how many seconds the server asks to try again.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        let seconds = self.details.as_ref()?.retry_after_seconds?;
        u32::try_from(seconds).ok().filter(|s| *s > 0)
    }

    /// Whether one of the causes has this reason.
    pub fn has_cause(&self, reason: &str) -> bool {
        let causes = self.details.as_ref().and_then(|d| d.causes.as_ref());
        causes.is_some_and(|causes| causes.iter().any(|c| c.reason.as_deref() == Some(reason)))
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound" || self.code == 404
    }

    /// Whether an object of the name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// Whether a precondition failed; not the same as [`Self::is_already_exists`], which is 409 too.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict" || (self.code == 409 && self.reason.is_empty())
    }

    /// Whether a watch or list must start anew.
    pub fn is_expired(&self) -> bool {
        self.reason == "Expired" || self.reason == "Gone" || self.code == 410
    }

    /// Whether the caller may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.reason == "Forbidden" || self.code == 403
    }

    /// Whether the object breaks rules of its kind.
    pub fn is_invalid(&self) -> bool {
        self.reason == "Invalid" || self.code == 422
    }

    /// The Status that a client receives.
    pub fn to_status(&self) -> Status {
        Status {
            code: Some(i32::from(self.code)),
            details: self.details.as_deref().cloned(),
            message: some(&self.message),
            reason: some(&self.reason),
            status: Some("Failure".to_owned()),
            ..Status::default()
        }
    }

    /// The error that a received Status means.
    pub fn from_status(status: &Status) -> Self {
        Self {
            code: status.code.and_then(|code| u16::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(500),
            reason: status.reason.clone().unwrap_or_default(),
            message: status.message.clone().unwrap_or_default(),
            details: status.details.clone().map(Box::new),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{FieldError, FieldPath};

    #[test]
    fn messages_are_upstreams() {
        let pods = GroupResource::new("", "pods");
        let deployments = GroupResource::new("apps", "deployments");
        let table = [
            (ApiError::not_found(&pods, "x"), 404, "NotFound", "pods \"x\" not found"),
            (ApiError::not_found(&deployments, "x"), 404, "NotFound", "deployments.apps \"x\" not found"),
            (ApiError::already_exists(&pods, "x"), 409, "AlreadyExists", "pods \"x\" already exists"),
            (
                ApiError::conflict(&pods, "x", MODIFIED),
                409,
                "Conflict",
                "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again",
            ),
            (ApiError::forbidden(&pods, "", "why"), 403, "Forbidden", "pods is forbidden: why"),
            (ApiError::forbidden(&pods, "x", "why"), 403, "Forbidden", "pods \"x\" is forbidden: why"),
            (ApiError::forbidden(&GroupResource::new("", ""), "", "why"), 403, "Forbidden", "forbidden: why"),
            (
                ApiError::too_large_resource_version(5, 3),
                504,
                "Timeout",
                "Timeout: Too large resource version: 5, current: 3",
            ),
        ];
        for (error, code, reason, message) in table {
            assert_eq!((error.code, error.reason.as_str(), error.message.as_str()), (code, reason, message));
            assert_eq!(ApiError::from_status(&error.to_status()), error);
        }
    }

    #[test]
    fn invalid_lists_every_cause() {
        let spec = FieldPath::root("spec");
        let mut errors = FieldErrors::new();
        errors.push(FieldError::required(&spec.child("a"), ""));
        errors.push(FieldError::invalid(&spec.child("b"), "v", "detail"));
        let error = ApiError::invalid(&GroupKind::new("", "Pod"), "x", errors);
        assert_eq!(
            error.message,
            "Pod \"x\" is invalid: [spec.a: Required value, spec.b: Invalid value: \"v\": detail]"
        );
        let details = error.details.expect("an invalid object has details");
        assert_eq!((details.kind.as_deref(), details.name.as_deref()), (Some("Pod"), Some("x")));
        assert_eq!(details.causes.expect("one cause per error").len(), 2);
    }
}
