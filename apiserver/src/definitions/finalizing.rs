//! The end of a definition: its objects are deleted, and once the last is gone, so is the definition.
//!
//! Objects that finalizers keep are waited for; nothing new is created meanwhile.

use api::error::ApiError;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::names::date;
use super::{Definitions, Notes};
use crate::cache::Selection;
use crate::http::options::DeleteOptions;
use crate::read::storage_error;
use crate::resources::definition::{CLEANUP, condition, is_true, set_condition};
use crate::write;

const TERMINATING: &str = "Terminating";

/// Whether a definition is to be brought to its end.
pub(super) fn is_wanted(definition: &CustomResourceDefinition) -> bool {
    let finalizers = definition.metadata.finalizers.as_deref().unwrap_or_default();
    definition.metadata.deletion_timestamp.is_some() && finalizers.iter().any(|name| name == CLEANUP)
}

impl Definitions {
    /// One more step to the end; false if it must be looked at again later.
    pub(super) async fn finalize(&mut self, mut definition: CustomResourceDefinition) -> Result<bool, ApiError> {
        let now = Time(self.server.clock.now_seconds());
        let begun = condition(&definition, TERMINATING).and_then(|condition| condition.reason.as_deref());
        if begun != Some("InstanceDeletionInProgress") {
            let message = "CustomResource deletion is in progress";
            set_condition(&mut definition, TERMINATING, "True", "InstanceDeletionInProgress", message);
            date(&mut definition, &now);
            // The write that this is wakes us again.
            return self.write(definition).await.map(|_| true);
        }
        let (reason, message) = if is_true(&definition, "Established") {
            if !self.delete_instances(&definition).await? {
                return Ok(false);
            }
            ("InstanceDeletionCompleted", "removed all instances")
        } else {
            ("NeverEstablished", "resource was never established")
        };
        set_condition(&mut definition, TERMINATING, "False", reason, message);
        date(&mut definition, &now);
        let finalizers = definition.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|name| name != CLEANUP);
        if finalizers.is_empty() {
            // Whoever sees that a definition is gone finds its kinds gone.
            self.serving.end(definition.metadata.name.as_deref().unwrap_or_default());
        }
        self.write(definition).await?;
        // What is read next must know of this, or the kinds would be served again.
        self.server.cache.fresh().await.map_err(storage_error)?;
        Ok(true)
    }

    /// Deletes what there is; true if nothing is left.
    async fn delete_instances(&self, definition: &CustomResourceDefinition) -> Result<bool, ApiError> {
        let spec = &definition.spec;
        let Some(strategy) = self.server.resources.find_any_version(&spec.group, &spec.names.plural) else {
            return Ok(true);
        };
        let Some(cache) = self.server.cache.resource(&strategy.info().key_prefix()) else { return Ok(false) };
        self.server.cache.fresh().await.map_err(storage_error)?;
        let (snapshot, everything) = (cache.snapshot(), Selection::everything());
        let entries: Vec<_> = snapshot.select(&everything, None).map(std::sync::Arc::clone).collect();
        let notes = Notes::default();
        let place = self.place(strategy.as_ref(), "", "", &notes);
        let pending: Vec<_> = entries.into_iter().filter(|entry| !is_marked(entry.stored())).collect();
        write::delete_collection(&place, &pending, &DeleteOptions::default()).await?;
        self.server.cache.fresh().await.map_err(storage_error)?;
        Ok(cache.snapshot().is_empty())
    }
}

/// Whether the object waits for its finalizers already.
fn is_marked(bytes: &[u8]) -> bool {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    value.pointer("/metadata/deletionTimestamp").is_some()
}
