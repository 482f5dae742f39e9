//! The audit log: who asked for what, and what came of it, as upstream's `audit.k8s.io/v1` events, one JSON line each.
//!
//! Off unless the server was given a policy and a path; a request then begins a [`Recording`] that is finished with its answer.
//! Lines are written by a thread of their own; requests wait while [`QUEUE`] events are not written yet, so that none is lost,
//! and [`Audit::finish`] writes what is left when the server ends.
//! Reference: <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>.

mod annotations;
mod event;
mod policy;
mod recording;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::request::Parts;
use k8s_openapi::jiff::Timestamp;
use process::{Clock, Rng};
use serde::{Deserialize, Serialize};

pub use annotations::Annotations;
pub use policy::{Policy, PolicyError};
pub use recording::{Answered, Record, Recording};

use crate::authn::User;
use crate::http::request_info::RequestInfo;
use writer::Writer;

/// Events that may wait to be written.
const QUEUE: usize = 10_000;
/// The longest id that a client may give its request.
const MAX_ID: usize = 64;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when; no bodies.
    #[default]
    Metadata,
    /// And what was sent.
    Request,
    /// And what was answered.
    RequestResponse,
}

/// Where a request is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// It came in.
    RequestReceived,
    /// The head of the answer to a long request is on its way.
    ResponseStarted,
    /// It is answered.
    ResponseComplete,
    /// The server failed over it.
    Panic,
}

/// What the server is to log, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// What is recorded.
    pub policy: Policy,
}

/// Why the log can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("can't write the audit log {0}")]
pub struct AuditError(PathBuf, #[source] std::io::Error);

/// See the module.
pub struct Audit {
    policy: Policy,
    writer: Writer,
    clock: Clock,
    rng: Rng,
}

impl Audit {
    /// Opens the log.
    pub fn open(config: &AuditConfig, clock: Clock, rng: Rng) -> Result<Arc<Self>, AuditError> {
        let writer = Writer::open(&config.path).map_err(|error| AuditError(config.path.clone(), error))?;
        Ok(Arc::new(Self { policy: config.policy.clone(), writer, clock, rng }))
    }

    /// Begins to record a request, if the policy wants that; notes that it came in.
    pub async fn begin(self: &Arc<Self>, parts: &Parts, info: &RequestInfo, user: &User) -> Option<Recording> {
        let rule = self.policy.rule(user, info)?;
        let received = self.clock.now();
        let recording =
            Recording::new(self, rule, event::Event::of(parts, info, user, rule.level, self.id(parts), received));
        recording.note(Stage::RequestReceived, received).await;
        Some(recording)
    }

    /// The client's own id for the request, or a new one.
    fn id(&self, parts: &Parts) -> String {
        let given = parts.headers.get("audit-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if given.is_empty() || given.len() > MAX_ID { self.rng.uuid() } else { given.to_owned() }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes what is left; what comes later is not recorded.
    pub async fn finish(&self) {
        self.writer.finish().await;
    }
}
