//! The part of NodeRestriction about pods: mirrors of static pods, status, eviction and deletion.

use api::error::ApiError;
use api::names::GroupResource;
use api::well_known::annotations;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{Request, find};
use crate::admission::Operation;
use crate::authz::node::{Reference, references};
use crate::object::{Object, downcast};
use crate::resources::Subresource;

impl Request<'_> {
    pub(super) async fn pods(&self) -> Result<(), ApiError> {
        match (self.attributes.subresource, self.attributes.operation) {
            (None, Operation::Create) => match self.object.and_then(downcast::<Pod>) {
                Some(pod) => self.mirror(pod).await,
                None => Ok(()),
            },
            (None, Operation::Delete) => {
                self.bound_here(self.attributes.name, "can only delete pods with spec.nodeName set to itself").await
            }
            (None, _) => {
                let why = format!(
                    "unexpected operation \"{}\", node \"{}\" can only create and delete mirror pods",
                    self.operation(),
                    self.node
                );
                Err(self.no(&why))
            }
            (Some(Subresource::Status), Operation::Update) => self.status(),
            (Some(Subresource::Eviction), Operation::Create) => {
                self.bound_here(self.object_name(), "can only evict pods with spec.nodeName set to itself").await
            }
            (Some(Subresource::Status | Subresource::Eviction), _) => {
                Err(self.no(&format!("unexpected operation \"{}\"", self.operation())))
            }
            (Some(other), _) => {
                let other = format!("{other:?}").to_lowercase();
                Err(self
                    .no(&format!("unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed")))
            }
        }
    }

    async fn bound_here(&self, name: &str, why: &str) -> Result<(), ApiError> {
        let pod = self.pod(name).await?;
        if api::pods::node_name(&pod) == Some(self.node) { Ok(()) } else { Err(self.node_may_not(why)) }
    }

    fn status(&self) -> Result<(), ApiError> {
        let old = self.attributes.old.and_then(downcast::<Pod>);
        if old.and_then(api::pods::node_name) != Some(self.node) {
            return Err(self.node_may_not("can only update pod status for pods with spec.nodeName set to itself"));
        }
        let labels = |object: Option<&dyn Object>| {
            object.and_then(|object| object.metadata().labels.clone()).unwrap_or_default()
        };
        if labels(self.object) != labels(self.attributes.old) {
            return Err(self.node_may_not("can not update labels through pod status"));
        }
        Ok(())
    }

    async fn mirror(&self, pod: &Pod) -> Result<(), ApiError> {
        let key = annotations::CONFIG_MIRROR;
        if !pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(key)) {
            return Err(self.no(&format!(
                "pod does not have \"{key}\" annotation, node \"{}\" can only create mirror pods",
                self.node
            )));
        }
        if api::pods::node_name(pod) != Some(self.node) {
            return Err(self.node_may_not("can only create pods with spec.nodeName set to itself"));
        }
        match pod.metadata.owner_references.as_deref().unwrap_or_default() {
            [owner] => self.owner(owner).await?,
            [] => return Err(self.node_may_not("can only create pods with an owner reference set to itself")),
            _ => return Err(self.node_may_not("can only create pods with a single owner reference set to itself")),
        }
        // The references of a mirror count as none; here they are what must not be there.
        match references(&Pod { metadata: Default::default(), ..pod.clone() }).first() {
            None => Ok(()),
            Some(found) => Err(self.node_may_not(&format!("can not create pods that reference {}", plural(found)))),
        }
    }

    async fn owner(&self, owner: &OwnerReference) -> Result<(), ApiError> {
        if (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str()) != ("v1", "Node", self.node) {
            return Err(self.node_may_not("can only create pods with an owner reference set to itself"));
        }
        if owner.controller != Some(true) {
            return Err(self.node_may_not("can only create pods with a controller owner reference set to itself"));
        }
        if owner.block_owner_deletion == Some(true) {
            return Err(self.node_may_not("must not set blockOwnerDeletion on an owner reference"));
        }
        let node = find::<Node>(self.lookup, "", "nodes", "", self.node).await?;
        let node = node.ok_or_else(|| ApiError::not_found(&GroupResource::new("", "nodes"), self.node))?;
        let uid = node.metadata.uid.unwrap_or_default();
        if owner.uid != uid {
            return Err(self.no(&format!("node {} UID mismatch: expected {uid} got {}", self.node, owner.uid)));
        }
        Ok(())
    }
}

fn plural(reference: &Reference) -> &'static str {
    match reference {
        Reference::Secret(..) => "secrets",
        Reference::ConfigMap(..) => "configmaps",
        Reference::ServiceAccount(..) => "a service account",
        Reference::Claim(..) => "persistentvolumeclaims",
        Reference::ResourceClaim(..) => "resourceclaims",
    }
}
