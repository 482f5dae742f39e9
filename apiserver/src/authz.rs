//! Authorization: the ordered table of authorizers (Node, then RBAC). The first that allows decides; reasons of the others are kept.

use crate::authn::User;

/// What is to be decided; one for each request, and for each access review.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Who asks.
    pub user: User,
    /// get, list, watch, create, update, patch, delete, deletecollection, or the lower-case HTTP method for non-resource paths.
    pub verb: String,
    /// What is asked for.
    pub target: Target,
}

/// A resource or a plain path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An API object or collection.
    Resource { group: String, version: String, resource: String, subresource: String, namespace: String, name: String },
    /// Any other path, for example `/healthz`.
    Path(String),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, with the reason that access reviews report.
    Allow(String),
    /// No one allowed it; the reasons joined.
    NoOpinion(String),
}
