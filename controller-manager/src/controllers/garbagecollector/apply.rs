//! Carries out what was planned for an object: finalizers, owner references, deletions.

use api::well_known::finalizers::{FOREGROUND, ORPHAN};
use client::{Error, Outcome};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, Preconditions, PropagationPolicy};
use serde_json::json;

use super::graph::{Identity, Work};
use super::plan::{Plan, Policy};
use super::{Collector, Look};
use crate::context::patching;

/// How many dependents are let go at once.
const DEPENDENTS_IN_FLIGHT: usize = 20;

impl Collector {
    pub(super) async fn apply(&self, identity: &Identity, meta: &ObjectMeta, plan: Plan) -> Result<(), Error> {
        match plan {
            Plan::Nothing => Ok(()),
            Plan::AwaitDependents(dependents) => {
                self.add(dependents.into_iter().map(Work::Delete).collect());
                Ok(())
            }
            Plan::DropForegroundFinalizer => self.drop_finalizer(identity, meta, FOREGROUND).await,
            Plan::DropOwners(uids) => {
                let left: Vec<_> = owners_of(meta).iter().filter(|owner| !uids.contains(&owner.uid)).collect();
                self.patch(identity, meta, json!({"ownerReferences": left})).await.map(drop)
            }
            Plan::Delete { policy, unblock } => {
                let mut version = meta.resource_version.clone();
                if unblock {
                    let free =
                        |owner: &OwnerReference| OwnerReference { block_owner_deletion: Some(false), ..owner.clone() };
                    let owners: Vec<_> = owners_of(meta).iter().map(free).collect();
                    version = self.patch(identity, meta, json!({"ownerReferences": owners})).await?;
                }
                self.delete(identity, version, policy).await
            }
        }
    }

    async fn delete(&self, identity: &Identity, version: Option<String>, policy: Policy) -> Result<(), Error> {
        let Some(kind) = self.inventory.kind(&identity.api_version, &identity.kind) else { return Ok(()) };
        let params = DeleteParams {
            propagation_policy: Some(match policy {
                Policy::Background => PropagationPolicy::Background,
                Policy::Foreground => PropagationPolicy::Foreground,
                Policy::Orphan => PropagationPolicy::Orphan,
            }),
            preconditions: Some(Preconditions { uid: Some(identity.uid.clone()), resource_version: version }),
            ..DeleteParams::default()
        };
        let api = kind.api(&self.client, &identity.namespace);
        match api.delete(&identity.name, &params).await.map_err(Error::from) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => {
                self.gone(&identity.uid);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn drop_finalizer(&self, identity: &Identity, meta: &ObjectMeta, finalizer: &str) -> Result<(), Error> {
        let left: Vec<_> = meta.finalizers.iter().flatten().filter(|name| *name != finalizer).collect();
        self.patch(identity, meta, json!({"finalizers": left})).await.map(drop)
    }

    /// Changes the metadata of exactly the object that was looked at; answers its new version.
    async fn patch(
        &self,
        identity: &Identity,
        meta: &ObjectMeta,
        mut metadata: serde_json::Value,
    ) -> Result<Option<String>, Error> {
        let Some(kind) = self.inventory.kind(&identity.api_version, &identity.kind) else { return Ok(None) };
        metadata["uid"] = json!(identity.uid);
        metadata["resourceVersion"] = json!(meta.resource_version);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let api = kind.api(&self.client, &identity.namespace);
        match api.patch_metadata(&identity.name, &patching(), &patch).await.map_err(Error::from) {
            Ok(new) => Ok(new.metadata.resource_version),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets all dependents go, then the object itself.
    pub(super) async fn orphan_dependents(&self, uid: &str) -> Result<Outcome, Error> {
        let (owner, dependents) = {
            let graph = self.graph();
            let Some(owner) = graph.get(uid).cloned() else { return Ok(Outcome::Done) };
            (owner, graph.dependents(uid).into_iter().map(|node| node.identity.clone()).collect::<Vec<_>>())
        };
        let releases: Vec<_> = dependents.iter().map(|dependent| self.release(dependent, uid)).collect();
        let results: Vec<Result<(), Error>> = stream::iter(releases).buffered(DEPENDENTS_IN_FLIGHT).collect().await;
        results.into_iter().collect::<Result<(), Error>>()?;
        if let Look::Found(meta) = self.look(&owner.identity).await?
            && meta.finalizers.iter().flatten().any(|finalizer| finalizer == ORPHAN)
        {
            self.drop_finalizer(&owner.identity, &meta, ORPHAN).await?;
        }
        Ok(Outcome::Done)
    }

    async fn release(&self, dependent: &Identity, owner: &str) -> Result<(), Error> {
        match self.look(dependent).await? {
            Look::Found(meta) if owners_of(&meta).iter().any(|reference| reference.uid == owner) => {
                let left: Vec<_> = owners_of(&meta).iter().filter(|reference| reference.uid != owner).collect();
                self.patch(dependent, &meta, json!({"ownerReferences": left})).await.map(drop)
            }
            Look::Found(_) | Look::Gone | Look::Unknown => Ok(()),
        }
    }
}

fn owners_of(meta: &ObjectMeta) -> &[OwnerReference] {
    meta.owner_references.as_deref().unwrap_or_default()
}
