//! EndpointSlices as their controllers see and write them. Entry points: [`watch`], [`apply`].

use std::sync::Arc;

use api::ObjectKey;
use client::{Change, Error, WorkQueue, WrittenRevisions};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};

use crate::context::{deleting, writing};
use crate::stores::{Stores, service_key};

/// What to write.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    /// New slices.
    pub create: Vec<EndpointSlice>,
    /// Changed slices, with the resourceVersion they were derived from.
    pub update: Vec<EndpointSlice>,
    /// Slices nobody needs any more.
    pub delete: Vec<Arc<EndpointSlice>>,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// Puts a service into the queue when one of the slices changes that this manager's label marks as its own.
pub fn watch(stores: &Stores, queue: &WorkQueue<ObjectKey>, manager: &'static str) {
    let keys = queue.clone();
    stores.slices.on_change(move |change: Change<EndpointSlice>| {
        if let Some(key) = service_key(change.object(), manager) {
            keys.add(key);
        }
    });
}

/// Writes the plan for `key`; a namespace that goes needs nothing any more.
pub async fn apply(
    client: &Client,
    stores: &Stores,
    noted: &WrittenRevisions<ObjectKey>,
    key: &ObjectKey,
    plan: &Plan,
) -> Result<(), Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), key.namespace());
    for slice in &plan.create {
        match api.create(&writing(), slice).await.map_err(Error::from) {
            Ok(written) => noted.object(key, &stores.slices, &written),
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => return Err(noted.failed(key, &stores.slices, error)),
        }
    }
    for slice in &plan.update {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        match api.replace(name, &writing(), slice).await.map_err(Error::from) {
            Ok(written) => noted.object(key, &stores.slices, &written),
            Err(error) => return Err(noted.failed(key, &stores.slices, error)),
        }
    }
    for slice in &plan.delete {
        let uid = slice.metadata.uid.clone().unwrap_or_default();
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        match api.delete(name, &deleting(&uid)).await.map_err(Error::from) {
            Ok(answer) => noted.deletion(key, &stores.slices, &ObjectKey::of(&slice.metadata), &uid, &answer),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
