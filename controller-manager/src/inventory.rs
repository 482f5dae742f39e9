//! The metadata of every object that can be deleted, whatever its kind: what the garbage collector and the deletion of
//! namespaces need to know.
//!
//! Entry points: [`Inventory::subscribe`] before, [`Inventory::start`] to run. New kinds are found when a
//! CustomResourceDefinition changes; nothing is polled. Invariant: a kind is watched exactly once, and only if somebody subscribed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{Change, Error, Informers, Store, WatchConfig};
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope};
use kube::{Api, Client};
use process::Rng;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The metadata of one object.
pub type Metadata = PartialObjectMeta<DynamicObject>;

/// Kinds that own nothing, are owned by nobody and come in masses.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// The kind whose objects define kinds.
const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
/// The first wait after a failed discovery; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long kinds that cannot be listed may hold up the others.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);

/// A kind whose objects can be deleted.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Its group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with them.
    pub verbs: Vec<String>,
}

impl Kind {
    /// The API of this kind's objects, in that namespace if it has namespaces.
    pub fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }

    /// `pods.`, `deployments.apps`: as Kubernetes names it in conditions.
    pub fn group_resource(&self) -> String {
        format!("{}.{}", self.resource.plural, self.resource.group)
    }
}

type Subscriber = Arc<dyn Fn(&Kind, &Change<Metadata>) + Send + Sync>;

/// The inventory; clones share it.
#[derive(Clone)]
pub struct Inventory {
    client: Client,
    rng: Rng,
    shared: Arc<Shared>,
}

struct Shared {
    kinds: Mutex<BTreeMap<(String, String), Kind>>,
    subscribers: Mutex<Vec<Subscriber>>,
    synced: watch::Sender<bool>,
    /// Counts reasons to discover anew.
    asked: watch::Sender<u64>,
}

impl Inventory {
    /// An inventory that nobody has subscribed to yet.
    pub fn new(client: Client, rng: Rng) -> Self {
        let shared = Shared {
            kinds: Mutex::default(),
            subscribers: Mutex::default(),
            synced: watch::channel(false).0,
            asked: watch::channel(0).0,
        };
        Self { client, rng, shared: Arc::new(shared) }
    }

    /// Calls the function for every object and every change. It must not block. To be called before the start.
    pub fn subscribe(&self, subscriber: impl Fn(&Kind, &Change<Metadata>) + Send + Sync + 'static) {
        self.shared.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(subscriber));
    }

    /// The kind of that group (of an apiVersion) and name, if it is known.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<Kind> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds().get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    /// The first kind of which this is true.
    pub fn find(&self, is: impl Fn(&Kind) -> bool) -> Option<Kind> {
        self.kinds().values().find(|kind| is(kind)).cloned()
    }

    /// Asks for a new discovery, because somebody names a kind that is not known.
    pub fn refresh(&self) {
        self.shared.asked.send_modify(|count| *count += 1);
    }

    /// Waits until the objects of all kinds have been seen once.
    pub async fn synced(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// The task that keeps the inventory, if anybody subscribed.
    pub fn start(&self, token: CancellationToken) -> Option<impl Future<Output = ()> + Send + 'static> {
        let inventory = self.clone();
        let wanted = !self.shared.subscribers.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        wanted.then_some(async move {
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = inventory.keep() => {}
            }
        })
    }

    async fn keep(self) {
        let mut asked = self.shared.asked.subscribe();
        let mut watched: BTreeMap<(String, String), (Informers, Store<Metadata>)> = BTreeMap::new();
        let mut retry = FIRST_RETRY;
        loop {
            asked.borrow_and_update();
            match discover(&self.client).await {
                Ok(kinds) => {
                    retry = FIRST_RETRY;
                    self.follow(kinds, &mut watched);
                    let synced = watched.values().map(|(_, store)| store.synced());
                    if timeout(SYNC_PATIENCE, futures::future::join_all(synced)).await.is_err() {
                        tracing::warn!("some kinds cannot be listed; going on without them");
                    }
                    self.shared.synced.send_replace(true);
                }
                Err(error) => {
                    tracing::warn!(%error, "discovering kinds");
                    sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                    continue;
                }
            }
            if asked.changed().await.is_err() {
                return;
            }
        }
    }

    /// Begins to watch new kinds and forgets those that are gone.
    fn follow(&self, kinds: Vec<Kind>, watched: &mut BTreeMap<(String, String), (Informers, Store<Metadata>)>) {
        let by_name: BTreeMap<_, _> =
            kinds.into_iter().map(|kind| ((kind.resource.group.clone(), kind.resource.kind.clone()), kind)).collect();
        watched.retain(|name, _| by_name.contains_key(name));
        self.kinds().clone_from(&by_name);
        for (name, kind) in by_name {
            let ignored = IGNORED.contains(&(kind.resource.group.as_str(), kind.resource.plural.as_str()));
            if ignored || watched.contains_key(&name) || !kind.verbs.iter().any(|verb| verb == "watch") {
                continue;
            }
            let mut informers = Informers::new(self.rng.fork());
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.resource);
            let store = informers.start_metadata(api, WatchConfig::default(), Vec::new());
            let subscribers = self.shared.subscribers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let inventory = self.clone();
            store.on_change(move |change: Change<Metadata>| {
                for subscriber in &subscribers {
                    subscriber(&kind, &change);
                }
                if (kind.resource.group.as_str(), kind.resource.plural.as_str()) == DEFINITIONS {
                    inventory.refresh();
                }
            });
            watched.insert(name, (informers, store));
        }
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<(String, String), Kind>> {
        self.shared.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All kinds whose objects can be listed and deleted, in the order of their groups and names.
pub async fn discover(client: &Client) -> Result<Vec<Kind>, Error> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut kinds: Vec<Kind> = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .map(|(resource, ApiCapabilities { scope, operations, .. })| Kind {
            resource,
            namespaced: scope == Scope::Namespaced,
            verbs: operations,
        })
        .filter(|kind| ["list", "delete"].iter().all(|verb| kind.verbs.iter().any(|has| has == verb)))
        .collect();
    kinds.sort_by(|a, b| (&a.resource.group, &a.resource.plural).cmp(&(&b.resource.group, &b.resource.plural)));
    Ok(kinds)
}
