//! The config maps and secrets that the node's pods refer to, each followed by a watch of its own.
//!
//! Entry: [`References::hold`] and [`References::release`]. Invariants: only what a pod here refers to is read (a node
//! may not read more); an object is followed as long as some pod refers to it; a change wakes exactly those pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ObjectKey;
use client::{Informers, Store, WatchConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{Api, Client};
use process::Rng;

use crate::env::Objects;
use crate::volumes::references;

/// How long a pod waits for the first answer about an object before its start is tried again.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the objects of a pod are not known.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("failed to sync {0} cache: timed out waiting for the condition")]
    Timeout(&'static str),
}

/// Called with the uid of a pod whose objects changed.
pub type Wake = Arc<dyn Fn(&str) + Send + Sync>;

struct Followed<K: 'static> {
    store: Store<K>,
    users: Arc<Mutex<BTreeSet<String>>>,
    _informers: Informers,
}

/// Followers of one kind, by namespace and name.
struct Kind<K: 'static> {
    name: &'static str,
    followed: Mutex<BTreeMap<ObjectKey, Followed<K>>>,
}

/// Everything that the pods of one node refer to.
pub struct References {
    client: Client,
    rng: Rng,
    wake: Wake,
    config_maps: Kind<ConfigMap>,
    secrets: Kind<Secret>,
}

impl References {
    /// Nothing is followed yet.
    pub fn new(client: Client, rng: Rng, wake: Wake) -> Self {
        let config_maps = Kind { name: "configmap", followed: Mutex::default() };
        let secrets = Kind { name: "secret", followed: Mutex::default() };
        Self { client, rng, wake, config_maps, secrets }
    }

    /// Follows everything that a pod refers to, and answers what of it exists.
    pub async fn hold(&self, pod: &Pod) -> Result<Objects, ReferenceError> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let (maps, secrets) = references(pod);
        let mut objects = Objects::default();
        for name in maps {
            let key = ObjectKey { namespace: Some(namespace.clone()), name: name.clone() };
            let found = self.one(&self.config_maps, &key, &uid).await?;
            objects.config_maps.extend(found.map(|found| (name, found)));
        }
        for name in secrets {
            let key = ObjectKey { namespace: Some(namespace.clone()), name: name.clone() };
            let found = self.one(&self.secrets, &key, &uid).await?;
            objects.secrets.extend(found.map(|found| (name, found)));
        }
        Ok(objects)
    }

    /// The pod is gone: what only it referred to is not followed any more.
    pub fn release(&self, uid: &str) {
        drop_user(&self.config_maps, uid);
        drop_user(&self.secrets, uid);
    }

    async fn one<K>(&self, kind: &Kind<K>, key: &ObjectKey, uid: &str) -> Result<Option<Arc<K>>, ReferenceError>
    where
        K: client::Object + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let store = {
            let mut followed = kind.followed.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = followed.entry(key.clone()).or_insert_with(|| self.follow(key));
            entry.users.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
            entry.store.clone()
        };
        let synced = tokio::time::timeout(SYNC_TIMEOUT, store.synced()).await;
        synced.map_err(|_| ReferenceError::Timeout(kind.name))?;
        Ok(store.get(key))
    }

    fn follow<K>(&self, key: &ObjectKey) -> Followed<K>
    where
        K: client::Object + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let api = Api::<K>::namespaced(self.client.clone(), key.namespace.as_deref().unwrap_or_default());
        let config = WatchConfig::default().fields(&format!("metadata.name={}", key.name));
        let mut informers = Informers::new(self.rng.fork());
        let store = informers.start(api, config, Vec::new());
        let users: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (concerned, wake) = (users.clone(), self.wake.clone());
        store.on_change(move |_| {
            let uids = concerned.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for uid in &uids {
                wake(uid);
            }
        });
        Followed { store, users, _informers: informers }
    }
}

fn drop_user<K>(kind: &Kind<K>, uid: &str) {
    kind.followed.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, entry| {
        let mut users = entry.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.remove(uid);
        !users.is_empty()
    });
}
