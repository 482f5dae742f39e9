//! Admission: the ordered table of plugins that may change or refuse a write before it is stored.
//!
//! Plugins see the decoded object after defaulting. Mutating plugins run in order, then (after defaults again) validating ones.
//! They read other objects only through [`Lookup`], which answers from the watch cache.

use std::sync::Arc;

use api::error::ApiError;
use async_trait::async_trait;

use crate::authn::User;
use crate::object::Object;
use crate::resources::{ResourceInfo, Subresource};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// POST, or PUT/apply that creates.
    Create,
    /// PUT, PATCH.
    Update,
    /// DELETE.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// One request as admission sees it.
pub struct Attributes<'a> {
    /// What is being done.
    pub operation: Operation,
    /// The kind.
    pub resource: &'a ResourceInfo,
    /// The subresource, if any.
    pub subresource: Option<Subresource>,
    /// Namespace of the request, empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Name of the object; empty for a create with generateName.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a User,
    /// The stored object, for Update and Delete.
    pub old: Option<&'a dyn Object>,
    /// `dryRun=All`.
    pub dry_run: bool,
}

/// Reads other objects, typed, from the watch cache (not older than the last write this server acknowledged).
#[async_trait]
pub trait Lookup: Send + Sync {
    /// JSON bytes of one object: group, plural, namespace (empty for cluster scope), name.
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<bytes::Bytes>, ApiError>;
    /// JSON bytes of all objects of a kind in a namespace (empty: everywhere).
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<bytes::Bytes>, ApiError>;
}

/// An admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name, for example `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    /// May change the object (None for Delete and Connect).
    async fn mutate(&self, _: &Attributes<'_>, _object: Option<&mut dyn Object>, _: &dyn Lookup) -> Result<(), ApiError> {
        Ok(())
    }
    /// May only refuse.
    async fn validate(&self, _: &Attributes<'_>, _object: Option<&dyn Object>, _: &dyn Lookup) -> Result<(), ApiError> {
        Ok(())
    }
}

/// All plugins, in upstream's order.
pub type Chain = Arc<Vec<Box<dyn Plugin>>>;
