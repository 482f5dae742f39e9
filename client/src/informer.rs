//! Keeps stores up to date: list once, then watch, and list again when the watch cannot go on.
//!
//! Entry point: [`Informers::start`]. On kube's `Api::list` and `Api::watch` rather than its `watcher`, because that one
//! keeps bookmarks and the revision of lists to itself, and read-your-writes needs both. Invariant: after any break
//! the store ends up equal to the API, and every difference has been reported to the handlers.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use api::{ObjectKey, Revision};
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{ListParams, VersionMatch, WatchEvent, WatchParams};
use kube::core::{ObjectList, PartialObjectMeta};
use kube::runtime::watcher::{Config, InitialListStrategy, ListSemantic};
use kube::{Api, Resource};
use process::Rng;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::error::from_kube_status;
use crate::{Error, Index, Store};

/// What can be kept in a store.
pub trait Object: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static {}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Object for K {}

/// The first wait after a failure; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// This many failures in a row are worth a line that everybody sees.
const LOUD_AFTER: u32 = 3;
/// How long the server lets a watch run, and how much longer we wait for its end before we call it dead.
const WATCH_SECONDS: u32 = 290;
const WATCH_GRACE: Duration = Duration::from_secs(5);

type Events<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

/// Owns the tasks that keep stores up to date; dropping it stops them.
#[derive(Debug)]
pub struct Informers {
    tasks: JoinSet<()>,
    rng: Rng,
}

impl Informers {
    /// None yet.
    pub fn new(rng: Rng) -> Self {
        Self { tasks: JoinSet::new(), rng }
    }

    /// Follows the objects that the configuration selects. The store is empty until [`Store::synced`].
    pub fn start<K: Object>(&mut self, api: Api<K>, config: Config, indexes: Vec<Index<K>>) -> Store<K> {
        self.follow(Full(api), config, indexes)
    }

    /// Follows only the metadata of the objects, for those who need no more.
    pub fn start_metadata<K>(
        &mut self,
        api: Api<K>,
        config: Config,
        indexes: Vec<Index<PartialObjectMeta<K>>>,
    ) -> Store<PartialObjectMeta<K>>
    where
        K: Object,
        PartialObjectMeta<K>: Object,
    {
        self.follow(MetadataOnly(api), config, indexes)
    }

    fn follow<S: Source>(&mut self, source: S, config: Config, indexes: Vec<Index<S::Object>>) -> Store<S::Object> {
        let store = Store::new(indexes);
        let asked = store.progress().asked();
        let informer = Informer { source, config, store: store.clone(), asked, rng: self.rng.fork() };
        self.tasks.spawn(informer.run());
        store
    }
}

/// Where an informer gets its objects.
trait Source: Send + Sync + 'static {
    type Object: Object;
    fn list(&self, params: &ListParams) -> impl Future<Output = kube::Result<ObjectList<Self::Object>>> + Send;
    fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> impl Future<Output = kube::Result<Events<Self::Object>>> + Send;
}

struct Full<K>(Api<K>);

impl<K: Object> Source for Full<K> {
    type Object = K;

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<K>> {
        self.0.list(params).await
    }

    async fn watch(&self, params: &WatchParams, version: &str) -> kube::Result<Events<K>> {
        Ok(self.0.watch(params, version).await?.boxed())
    }
}

struct MetadataOnly<K>(Api<K>);

impl<K: Object> Source for MetadataOnly<K>
where
    PartialObjectMeta<K>: Object,
{
    type Object = PartialObjectMeta<K>;

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<Self::Object>> {
        self.0.list_metadata(params).await
    }

    async fn watch(&self, params: &WatchParams, version: &str) -> kube::Result<Events<Self::Object>> {
        Ok(self.0.watch_metadata(params, version).await?.boxed())
    }
}

struct Informer<S: Source> {
    source: S,
    config: Config,
    store: Store<S::Object>,
    asked: watch::Receiver<u64>,
    rng: Rng,
}

/// Why a watch is over.
enum End {
    /// The server closed it in good order: go on where it stopped.
    Closed,
    /// It was silent for too long or broke: go on where it stopped, after a while.
    Broken(Error),
    /// The server no longer knows where we were, or somebody asked: list again.
    Relist,
}

impl<S: Source> Informer<S> {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.fill().await {
                Ok(watching) => {
                    failures = 0;
                    self.follow(watching).await;
                }
                Err(error) => {
                    self.report("list", &error, failures);
                    self.wait(&mut failures).await;
                }
            }
        }
    }

    /// Fills the store; a watch-list goes on as the watch.
    async fn fill(&mut self) -> Result<Option<Events<S::Object>>, Error> {
        let answering = *self.asked.borrow_and_update();
        match self.config.initial_list_strategy {
            InitialListStrategy::ListWatch => {
                let (objects, revision) = self.list().await?;
                self.store.fill(objects, revision, answering);
                Ok(None)
            }
            InitialListStrategy::StreamingList => {
                let mut events = self.source.watch(&self.watch_params(true), "").await?;
                let (objects, revision) = initial_events(&mut events).await?;
                self.store.fill(objects, revision, answering);
                Ok(Some(events))
            }
        }
    }

    async fn list(&self) -> Result<(Vec<S::Object>, Revision), Error> {
        let mut params = self.list_params();
        let mut objects = Vec::new();
        loop {
            let page = self.source.list(&params).await?;
            objects.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => {
                    params.continue_token = Some(token);
                    // A continued list takes its revision from the token.
                    (params.resource_version, params.version_match) = (None, None);
                }
                None => {
                    let version = page.metadata.resource_version.unwrap_or_default();
                    let revision = Revision::parse(&version)
                        .ok_or_else(|| Error::Undecided("a list without resourceVersion".to_owned()))?;
                    return Ok((objects, revision));
                }
            }
        }
    }

    /// Watches, again and again, until the store must be filled anew.
    async fn follow(&mut self, mut open: Option<Events<S::Object>>) {
        let mut failures = 0;
        loop {
            let started = tokio::time::Instant::now();
            let end = match open.take() {
                Some(events) => self.watch(events).await,
                None => {
                    let version = self.store.revision().to_string();
                    match self.source.watch(&self.watch_params(false), &version).await {
                        Ok(events) => self.watch(events).await,
                        Err(error) => broken(Error::from(error)),
                    }
                }
            };
            if started.elapsed() >= FIRST_RETRY {
                failures = 0;
            }
            match end {
                End::Relist => return,
                End::Closed if started.elapsed() >= FIRST_RETRY => {}
                End::Closed => self.wait(&mut failures).await,
                End::Broken(error) => {
                    self.report("watch", &error, failures);
                    self.wait(&mut failures).await;
                }
            }
        }
    }

    async fn watch(&mut self, mut events: Events<S::Object>) -> End {
        let silence = Duration::from_secs(u64::from(self.config.timeout.unwrap_or(WATCH_SECONDS))) + WATCH_GRACE;
        loop {
            let next = tokio::select! {
                biased;
                _ = self.asked.changed() => return End::Relist,
                next = timeout(silence, events.next()) => next,
            };
            match next {
                Err(_) => return End::Broken(Error::Undecided("the watch was silent for too long".to_owned())),
                Ok(None) => return End::Closed,
                Ok(Some(Err(error))) => return broken(error.into()),
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => self.store.upsert(object),
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => {
                    self.store.delete(&ObjectKey::of(object.meta()), Revision::of(object.meta()));
                }
                Ok(Some(Ok(WatchEvent::Bookmark(mark)))) => {
                    self.store.advance(Revision::parse(&mark.metadata.resource_version).unwrap_or_default());
                }
                Ok(Some(Ok(WatchEvent::Error(status)))) => return broken(from_kube_status(&status).into()),
            }
        }
    }

    async fn wait(&self, failures: &mut u32) {
        let pause = FIRST_RETRY.saturating_mul(1 << (*failures).min(16)).min(LAST_RETRY);
        *failures = failures.saturating_add(1);
        sleep(self.rng.jitter(pause, 0.5)).await;
    }

    /// One break is normal; several in a row are said once, loudly.
    fn report(&self, what: &'static str, error: &Error, failures: u32) {
        let kind = std::any::type_name::<S::Object>().rsplit("::").next().unwrap_or_default();
        if failures == LOUD_AFTER {
            tracing::warn!(kind, %error, "{what} keeps failing");
        } else {
            tracing::debug!(kind, %error, failures, "{what} broke off");
        }
    }

    fn list_params(&self) -> ListParams {
        let (resource_version, version_match) = match self.config.list_semantic {
            ListSemantic::Any => (Some("0".to_owned()), Some(VersionMatch::NotOlderThan)),
            ListSemantic::MostRecent => (None, None),
        };
        ListParams {
            label_selector: self.config.label_selector.clone(),
            field_selector: self.config.field_selector.clone(),
            limit: self.config.page_size,
            resource_version,
            version_match,
            ..ListParams::default()
        }
    }

    fn watch_params(&self, initial: bool) -> WatchParams {
        WatchParams {
            label_selector: self.config.label_selector.clone(),
            field_selector: self.config.field_selector.clone(),
            timeout: Some(self.config.timeout.unwrap_or(WATCH_SECONDS)),
            bookmarks: true,
            send_initial_events: initial,
        }
    }
}

async fn initial_events<K: Object>(events: &mut Events<K>) -> Result<(Vec<K>, Revision), Error> {
    let mut objects = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => objects.push(object),
            WatchEvent::Deleted(object) => {
                let gone = ObjectKey::of(object.meta());
                objects.retain(|o: &K| ObjectKey::of(o.meta()) != gone);
            }
            WatchEvent::Bookmark(mark) => {
                if mark.metadata.annotations.contains_key(api::well_known::annotations::INITIAL_EVENTS_END) {
                    let revision = Revision::parse(&mark.metadata.resource_version).unwrap_or_default();
                    return Ok((objects, revision));
                }
            }
            WatchEvent::Error(status) => return Err(from_kube_status(&status).into()),
        }
    }
    Err(Error::Undecided("the watch ended before its initial events did".to_owned()))
}

fn broken(error: Error) -> End {
    if error.is_expired() { End::Relist } else { End::Broken(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;
    use k8s_openapi::api::core::v1::ConfigMap;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    type Script<T> = Arc<Mutex<VecDeque<kube::Result<T>>>>;

    /// Answers in the order of its script; when that is empty it is silent.
    #[derive(Clone, Default)]
    struct Scripted {
        lists: Script<ObjectList<ConfigMap>>,
        watches: Script<Vec<kube::Result<WatchEvent<ConfigMap>>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Source for Scripted {
        type Object = ConfigMap;

        async fn list(&self, _: &ListParams) -> kube::Result<ObjectList<ConfigMap>> {
            self.asked.lock().expect("not poisoned").push("list".to_owned());
            let next = self.lists.lock().expect("not poisoned").pop_front();
            match next {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }

        async fn watch(&self, _: &WatchParams, version: &str) -> kube::Result<Events<ConfigMap>> {
            self.asked.lock().expect("not poisoned").push(format!("watch {version}"));
            let next = self.watches.lock().expect("not poisoned").pop_front();
            Ok(match next {
                Some(answer) => futures::stream::iter(answer?).boxed(),
                None => futures::stream::pending().boxed(),
            })
        }
    }

    fn object(name: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.uid = Some(name.to_owned());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    fn list(objects: &[(&str, u64)], revision: u64) -> kube::Result<ObjectList<ConfigMap>> {
        let items: Vec<_> = objects.iter().map(|(name, revision)| object(name, *revision)).collect();
        Ok(serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": {"resourceVersion": revision.to_string()}, "items": items,
        }))
        .expect("a list"))
    }

    fn bookmark(revision: u64) -> kube::Result<WatchEvent<ConfigMap>> {
        Ok(serde_json::from_value(serde_json::json!({
            "type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"resourceVersion": revision.to_string()}},
        }))
        .expect("a bookmark"))
    }

    fn expired() -> kube::core::Status {
        kube::core::Status { code: 410, ..kube::core::Status::failure("too old", "Expired") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_missed_while_the_watch_was_broken_is_reported() {
        let source = Scripted::default();
        source.lists.lock().expect("not poisoned").extend([
            Err(kube::Error::Api(kube::core::Status::failure("no", "ServiceUnavailable").boxed())),
            list(&[("a", 1), ("b", 2)], 5),
            list(&[("b", 2), ("c", 8)], 9),
        ]);
        source.watches.lock().expect("not poisoned").extend([
            Ok(vec![Ok(WatchEvent::Modified(object("a", 6))), bookmark(7)]),
            Ok(vec![Ok(WatchEvent::Error(expired().boxed()))]),
        ]);
        let mut informers = Informers::new(Rng::seeded(1));
        let store = informers.follow(source.clone(), Config::default(), Vec::new());
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        store.on_change(move |change: Change<ConfigMap>| {
            let name = change.object().metadata.name.clone().unwrap_or_default();
            let gone = matches!(change, Change::Delete { .. });
            seen.lock().expect("not poisoned").push(format!("{}{name}", if gone { "-" } else { "+" }));
        });
        store.reached(Revision(9)).await;
        assert_eq!(*log.lock().expect("not poisoned"), ["+a", "+b", "+a", "-a", "+c"]);
        let asked = source.asked.lock().expect("not poisoned").clone();
        assert_eq!(asked[..5], ["list", "list", "watch 5", "watch 7", "list"]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_know_what_happened_gets_a_new_list() {
        let source = Scripted::default();
        source.lists.lock().expect("not poisoned").extend([list(&[], 1), list(&[("a", 2)], 2)]);
        let mut informers = Informers::new(Rng::seeded(1));
        let store = informers.follow(source, Config::default(), Vec::new());
        store.synced().await;
        assert!(store.is_empty());
        store.progress().relisted().await;
        assert_eq!(store.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_list_fills_the_store_and_goes_on() {
        let source = Scripted::default();
        let end = serde_json::json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"resourceVersion": "4", "annotations": {"k8s.io/initial-events-end": "true"}}}});
        source.watches.lock().expect("not poisoned").push_back(Ok(vec![
            Ok(WatchEvent::Added(object("a", 3))),
            Ok(serde_json::from_value(end).expect("a bookmark")),
            Ok(WatchEvent::Deleted(object("a", 5))),
        ]));
        let mut informers = Informers::new(Rng::seeded(1));
        let store = informers.follow(source, Config::default().streaming_lists(), Vec::new());
        store.synced().await;
        store.reached(Revision(5)).await;
        assert!(store.is_empty());
    }
}
