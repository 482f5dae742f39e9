//! The audit log: who asked for what, and what came of it, as upstream's `audit.k8s.io/v1` events.
//!
//! What is noted along the way of a request ends up in its [`Annotations`].
//! Reference: <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>.

mod annotations;

pub use annotations::Annotations;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
