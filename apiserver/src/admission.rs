//! Admission: the ordered table of plugins that may change or refuse a write before it is stored.
//!
//! Plugins see the decoded object after defaulting. Mutating plugins run in order, then (after defaults again) validating ones.
//! They read other objects only through [`Lookup`], which answers from the watch cache. Entry points: [`mutate`], [`validate`];
//! [`chain`] is the table.

mod certificates;
mod context;
mod default_class;
mod default_toleration_seconds;
mod escalation;
pub mod expressions;
mod limit_ranger;
pub mod lookup;
pub mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod pod_security;
mod pod_topology_labels;
pub mod policies;
mod priority;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes_by_condition;
mod webhooks;

use std::sync::Arc;

use api::error::ApiError;
use async_trait::async_trait;
use process::rng::Rng;
use serde::de::DeserializeOwned;

use crate::authn::User;
use crate::authz::Authorizers;
use crate::object::Object;
use crate::resources::{ResourceInfo, Subresource};
use crate::view::View;

use policies::mutating::MutatingAdmissionPolicies;
use policies::validating::ValidatingAdmissionPolicies;

pub use context::{Context, Other, Rounds};

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
    /// The rest of the request; none on paper, in the tables of tests.
    pub context: Option<Context<'a>>,
}

/// Reads other objects, typed, from the watch cache (not older than the last write this server acknowledged).
#[async_trait]
pub trait Lookup: Send + Sync {
    /// JSON bytes of one object: group, plural, namespace (empty for cluster scope), name.
    async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<bytes::Bytes>, ApiError>;
    /// JSON bytes of all objects of a kind in a namespace (empty: everywhere).
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<bytes::Bytes>, ApiError>;
}

/// An admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name, for example `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    /// Whether it may have something to say about a request: most have nothing to do with most requests, and those cost nothing.
    fn concerns(&self, attributes: &Attributes<'_>) -> bool;
    /// May change the object (None for Delete and Connect).
    async fn mutate(
        &self,
        _: &Attributes<'_>,
        _object: Option<&mut dyn Object>,
        _: &dyn Lookup,
    ) -> Result<(), ApiError> {
        Ok(())
    }
    /// May only refuse.
    async fn validate(&self, _: &Attributes<'_>, _object: Option<&dyn Object>, _: &dyn Lookup) -> Result<(), ApiError> {
        Ok(())
    }
}

/// All plugins, in upstream's order.
pub type Chain = Arc<Vec<Box<dyn Plugin>>>;

/// The table.
pub fn chain(rng: &Rng, authorizers: &Arc<Authorizers>, view: &Arc<dyn View>) -> Chain {
    Arc::new(vec![
        Box::new(namespace_lifecycle::NamespaceLifecycle),
        Box::new(limit_ranger::LimitRanger),
        Box::new(service_account::ServiceAccounts::new(rng.clone())),
        Box::new(node_restriction::NodeRestriction),
        Box::new(taint_nodes_by_condition::TaintNodesByCondition),
        Box::new(pod_security::PodSecurity),
        Box::new(priority::Priority),
        Box::new(default_toleration_seconds::DefaultTolerationSeconds),
        Box::new(storage::DefaultStorageClass),
        Box::new(storage::StorageObjectInUseProtection),
        Box::new(storage::PersistentVolumeClaimResize),
        Box::new(runtime_class::RuntimeClasses),
        Box::new(certificates::CertificateSigners::new(Arc::clone(authorizers))),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(default_class::DefaultIngressClass),
        Box::new(pod_topology_labels::PodTopologyLabels),
        Box::new(escalation::Escalation::new(Arc::clone(authorizers))),
        Box::new(MutatingAdmissionPolicies::new(Arc::clone(view), Arc::clone(authorizers))),
        Box::new(webhooks::MutatingAdmissionWebhook::default()),
        Box::new(ValidatingAdmissionPolicies::new(Arc::clone(view), Arc::clone(authorizers))),
        Box::new(webhooks::ValidatingAdmissionWebhook::default()),
    ])
}

/// Runs the mutating half of all plugins.
pub async fn mutate(
    chain: &Chain,
    attributes: &Attributes<'_>,
    mut object: Option<&mut dyn Object>,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    for plugin in chain.iter().filter(|plugin| plugin.concerns(attributes)) {
        // The cast shortens the life of the borrow to this call.
        let object = object.as_mut().map(|object| &mut **object as &mut dyn Object);
        plugin.mutate(attributes, object, lookup).await?;
    }
    Ok(())
}

/// Runs the validating half of all plugins.
pub async fn validate(
    chain: &Chain,
    attributes: &Attributes<'_>,
    object: Option<&dyn Object>,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    for plugin in chain.iter().filter(|plugin| plugin.concerns(attributes)) {
        plugin.validate(attributes, object, lookup).await?;
    }
    Ok(())
}

impl Attributes<'_> {
    /// Whether this is about the resource itself.
    fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_none() && self.is_any(group, plural)
    }

    /// Whether this is about the resource or one of its subresources.
    fn is_any(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// A refusal in upstream's form; an object without a name yet goes by its generateName.
    fn forbidden(&self, object: Option<&dyn Object>, why: &str) -> ApiError {
        let meta = object.map(Object::metadata);
        let of_object = || {
            let named = meta.and_then(|meta| meta.name.as_deref()).filter(|name| !name.is_empty());
            named.or_else(|| meta.and_then(|meta| meta.generate_name.as_deref()).filter(|name| !name.is_empty()))
        };
        let name = if self.name.is_empty() { of_object().unwrap_or("Unknown") } else { self.name };
        ApiError::forbidden(&self.resource.group_resource(), name, why)
    }
}

/// One object of the cache with its type.
async fn find<T: DeserializeOwned>(
    lookup: &dyn Lookup,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<T>, ApiError> {
    let bytes = lookup.get(group, plural, namespace, name).await?;
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(ApiError::internal)).transpose()
}

#[cfg(test)]
mod fixture {
    //! Requests on paper for the tables of the plugins' tests.

    use super::*;
    use crate::resources::ResourceInfo;

    /// What a plugin's test needs to know of a resource.
    pub(super) fn resource(group: &str, plural: &str, kind: &str, namespaced: bool) -> ResourceInfo {
        ResourceInfo {
            stored_group: String::new(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            namespaced,
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
            stored: true,
            storage_prefix: plural.to_owned(),
            fields: Vec::new(),
            list_kind: format!("{kind}List"),
            stored_version: "v1".to_owned(),
            custom: false,
        }
    }

    /// A create of an object called `x`.
    pub(super) fn create<'a>(resource: &'a ResourceInfo, user: &'a User, namespace: &'a str) -> Attributes<'a> {
        Attributes {
            operation: Operation::Create,
            resource,
            subresource: None,
            namespace,
            name: "x",
            user,
            old: None,
            dry_run: false,
            context: None,
        }
    }
}
