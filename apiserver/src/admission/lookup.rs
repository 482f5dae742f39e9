//! [`CacheLookup`]: the watch cache as admission ([`Lookup`]) and access control ([`View`]) read it.
//!
//! `Lookup` is not older than what this server has acknowledged ([`Written`]), and finds what another API server on the same store
//! has just written: an object that is not in the cache is looked for again once the cache has caught up with the store. `View`
//! never waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::error::ApiError;
use api::names::Revision;
use api::selector::{FieldSelector, LabelSelector};
use async_trait::async_trait;
use bytes::Bytes;

use super::Lookup;
use crate::cache::{Cache, ResourceCache, Selection};
use crate::view::{Item, View, prefix};

/// How long the cache may take to show what was written.
const PATIENCE: Duration = Duration::from_secs(10);

/// The revision of this server's last write to each kind, by the prefix in the store.
#[derive(Default)]
pub struct Written(Mutex<BTreeMap<String, Revision>>);

impl Written {
    /// To be called before a write is acknowledged.
    pub fn note(&self, prefix: &str, revision: Revision) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(prefix) {
            Some(last) => *last = revision.max(*last),
            None => drop(last.insert(prefix.to_owned(), revision)),
        }
    }

    fn last(&self, prefix: &str) -> Option<Revision> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(prefix).copied()
    }
}

/// See the module.
pub struct CacheLookup {
    cache: Arc<Cache>,
    written: Arc<Written>,
}

impl CacheLookup {
    /// Over this cache.
    pub fn new(cache: Arc<Cache>, written: Arc<Written>) -> Self {
        Self { cache, written }
    }

    /// Waits until the cache shows what this server has written to a kind.
    async fn settled(&self, group: &str, plural: &str) -> Result<(), ApiError> {
        let Some(resource) = self.resource(group, plural) else { return Ok(()) };
        let prefix = prefix(group, plural, "");
        let prefix = prefix.trim_start_matches("/registry/").trim_end_matches('/');
        match self.written.last(prefix) {
            Some(last) if resource.revision() < last => {
                self.cache.wait_for(last, PATIENCE).await.map_err(ApiError::internal)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn resource(&self, group: &str, plural: &str) -> Option<Arc<ResourceCache>> {
        self.cache.resource(&prefix(group, plural, ""))
    }

    fn select(&self, group: &str, plural: &str, selection: &Selection) -> Vec<Item> {
        let Some(resource) = self.resource(group, plural) else { return Vec::new() };
        let snapshot = resource.snapshot();
        let item = |entry: &Arc<crate::cache::Entry>| Item {
            key: Arc::clone(&entry.key),
            revision: entry.revision,
            bytes: entry.stored().clone(),
        };
        snapshot.select(selection, None).map(item).collect()
    }
}

impl View for CacheLookup {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Bytes> {
        let key = format!("{}{name}", prefix(group, plural, namespace));
        Some(self.resource(group, plural)?.get(&key)?.stored().clone())
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Item> {
        self.select(group, plural, &Selection::new(Some(namespace), LabelSelector::default(), FieldSelector::default()))
    }

    fn pods_on(&self, node: &str) -> Vec<Item> {
        let on_node = FieldSelector::parse(&format!("spec.nodeName={node}"));
        on_node
            .map(|fields| self.select("", "pods", &Selection::new(None, LabelSelector::default(), fields)))
            .unwrap_or_default()
    }

    fn version(&self, group: &str, plural: &str) -> u64 {
        self.resource(group, plural).map_or(0, |resource| resource.changed().0)
    }
}

#[async_trait]
impl Lookup for CacheLookup {
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<Bytes>, ApiError> {
        self.settled(group, plural).await?;
        if let Some(found) = View::get(self, group, plural, namespace, name) {
            return Ok(Some(found));
        }
        if self.resource(group, plural).is_none() {
            return Ok(None);
        }
        self.cache.fresh().await.map_err(ApiError::internal)?;
        Ok(View::get(self, group, plural, namespace, name))
    }

    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Bytes>, ApiError> {
        self.settled(group, plural).await?;
        Ok(View::list(self, group, plural, namespace).into_iter().map(|item| item.bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{ResourceSpec, SelectableField};
    use crate::storage::memory::Memory;
    use crate::storage::{Expect, Storage, Write};
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    async fn put(storage: &Memory, key: &str, value: serde_json::Value) {
        let value = Bytes::from(serde_json::to_vec(&value).unwrap());
        storage.commit(key, Expect::Absent, Write::Put { value, ttl: None }).await.expect("written");
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_have_versions_and_pods_have_nodes() {
        let storage = Arc::new(Memory::new());
        let field = SelectableField { name: "spec.nodeName".to_owned(), pointers: vec!["/spec/nodeName".to_owned()] };
        let spec = |plural: &str, fields| ResourceSpec {
            prefix: format!("/registry/{plural}/"),
            api_version: "v1".to_owned(),
            kind: "K".to_owned(),
            fields,
            shown: None,
        };
        let cache = Cache::new(storage.clone(), vec![spec("pods", vec![field]), spec("secrets", Vec::new())]);
        let token = CancellationToken::new();
        let running = tokio::spawn({
            let (cache, token) = (Arc::clone(&cache), token.clone());
            async move { cache.run(token).await }
        });
        put(
            &storage,
            "/registry/pods/n/a",
            json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "one"}}),
        )
        .await;
        cache.fresh().await.expect("fresh");
        let lookup = CacheLookup::new(Arc::clone(&cache), Arc::default());
        let (pods, secrets) = (lookup.version("", "pods"), lookup.version("", "secrets"));
        put(
            &storage,
            "/registry/pods/n/b",
            json!({"metadata": {"name": "b", "namespace": "n"}, "spec": {"nodeName": "two"}}),
        )
        .await;
        let found = Lookup::get(&lookup, "", "pods", "n", "b").await.expect("no error");
        assert!(found.is_some(), "what was acknowledged is found");
        assert_ne!(lookup.version("", "pods"), pods);
        assert_eq!(lookup.version("", "secrets"), secrets);
        let on_two: Vec<_> = lookup.pods_on("two").into_iter().map(|item| item.key.to_string()).collect();
        assert_eq!(on_two, ["/registry/pods/n/b"]);
        assert_eq!(View::list(&lookup, "", "pods", "n").len(), 2);
        token.cancel();
        running.await.expect("the cache ends");
    }
}
