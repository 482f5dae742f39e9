//! The cache over the store in memory, on paused time: what readers and watchers see of writes.

use std::collections::BTreeMap;
use std::sync::Mutex;

use api::selector::{FieldSelector, LabelSelector};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use proptest::prelude::*;

use super::*;
use crate::storage::memory::Memory;
use crate::storage::{Expect, Outcome, Write};

const PODS: &str = "/registry/pods/";

fn spec(prefix: &str, kind: &str) -> ResourceSpec {
    let fields = vec![
        SelectableField::from(("spec.nodeName", &["/spec/nodeName"][..])),
        SelectableField::from(("status.phase", &["/status/phase"][..])),
    ];
    ResourceSpec { prefix: prefix.into(), api_version: "v1".into(), kind: kind.into(), fields, shown: None }
}

struct Fixture {
    store: Arc<dyn Storage>,
    cache: Arc<Cache>,
    token: CancellationToken,
}

impl Fixture {
    fn over(store: Arc<dyn Storage>) -> Self {
        let cache = Cache::new(Arc::clone(&store), vec![spec(PODS, "Pod"), spec("/registry/nodes/", "Node")]);
        let fixture = Self { store, cache, token: CancellationToken::new() };
        fixture.start();
        fixture
    }

    fn new() -> Self {
        Self::over(Arc::new(Memory::new()))
    }

    fn start(&self) {
        let (cache, token) = (Arc::clone(&self.cache), self.token.clone());
        tokio::spawn(async move { cache.run(token).await });
    }

    async fn commit(&self, key: &str, write: Write) -> Revision {
        let known = self.store.get(key).await.expect("get").0;
        let expect = known.map_or(Expect::Absent, |item| Expect::Revision(item.revision));
        match self.store.commit(key, expect, write).await.expect("commit") {
            Outcome::Committed(revision) => revision,
            Outcome::Conflict(found) => panic!("{found:?}"),
        }
    }

    async fn put(&self, name: &str, app: &str, node: &str) -> Revision {
        self.commit(&format!("{PODS}{name}"), Write::Put { value: pod(app, node), ttl: None }).await
    }

    async fn delete(&self, name: &str) -> Revision {
        self.commit(&format!("{PODS}{name}"), Write::Delete).await
    }

    fn pods(&self) -> Arc<ResourceCache> {
        self.cache.resource(PODS).expect("pods are cached")
    }

    async fn pods_now(&self) -> Snapshot {
        self.cache.fresh().await.expect("fresh");
        self.pods().snapshot()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

fn pod(app: &str, node: &str) -> Bytes {
    let node = if node.is_empty() { String::new() } else { format!(r#""nodeName":"{node}""#) };
    format!(r#"{{"kind":"Pod","metadata":{{"labels":{{"app":"{app}"}}}},"spec":{{{node}}}}}"#).into()
}

fn select(namespace: Option<&str>, labels: &str, fields: &str) -> Selection {
    Selection::new(
        namespace,
        LabelSelector::parse(labels).expect("labels"),
        FieldSelector::parse(fields).expect("fields"),
    )
}

fn names(snapshot: &Snapshot, selection: &Selection) -> String {
    snapshot
        .select(selection, None)
        .map(|entry| format!("{}/{}", entry.namespace(), entry.name()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The next events in short: `ADDED ns/a@3`.
async fn events(watcher: &mut Watcher, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let event = timeout(Duration::from_secs(5), watcher.next()).await.expect("no event").expect("ended");
        let entry =
            event.entry.as_ref().map_or(String::new(), |entry| format!(" {}/{}", entry.namespace(), entry.name()));
        seen.push(format!("{}{entry}@{}", event.kind.as_str(), event.revision));
    }
    seen
}

async fn assert_quiet(watcher: &mut Watcher) {
    let next = timeout(Duration::from_secs(1), watcher.next()).await;
    assert!(next.is_err(), "unexpected {next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_read_sees_what_was_acknowledged() {
    let fixture = Fixture::new();
    for n in 0..5 {
        let revision = fixture.put(&format!("ns/{n}"), "x", "").await;
        assert!(fixture.cache.fresh().await.expect("fresh") >= revision);
        let entry = fixture.pods().get(&format!("{PODS}ns/{n}")).expect("cached");
        assert_eq!(entry.revision, revision);
        assert!(
            entry.json().starts_with(
                format!(r#"{{"kind":"Pod","metadata":{{"resourceVersion":"{revision}","labels""#).as_bytes()
            )
        );
    }
    assert_eq!(fixture.pods().snapshot().len(), 5);
    assert_eq!(fixture.pods().revision(), Revision(6));
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_a_revision_only_so_long() {
    let fixture = Fixture::new();
    assert_eq!(fixture.cache.wait_for(Revision(0), Duration::from_secs(3)).await, Ok(()));
    let behind = fixture.cache.wait_for(Revision(9), Duration::from_secs(3)).await.expect_err("behind");
    assert_eq!(behind.to_string(), "Too large resource version: 9, current: 1");
    let waits = fixture.cache.wait_for(Revision(2), Duration::from_secs(3));
    let (waited, _) = tokio::join!(waits, fixture.put("ns/a", "x", ""));
    assert_eq!(waited, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_watch_replays_and_goes_on() {
    let fixture = Fixture::new();
    fixture.put("ns/a", "x", "").await;
    fixture.put("ns/b", "x", "").await;
    fixture.put("ns/a", "y", "").await;
    fixture.cache.fresh().await.expect("fresh");
    let mut watcher = fixture.pods().watch(WatchFrom::After(Revision(2)), Selection::everything()).expect("watch");
    fixture.delete("ns/a").await;
    assert_eq!(events(&mut watcher, 3).await, ["ADDED ns/b@3", "MODIFIED ns/a@4", "DELETED ns/a@5"]);
    let mut future = fixture.pods().watch(WatchFrom::After(Revision(6)), Selection::everything()).expect("watch");
    fixture.put("ns/c", "x", "").await;
    fixture.put("ns/d", "x", "").await;
    assert_eq!(events(&mut future, 1).await, ["ADDED ns/d@7"]);
    assert_eq!(events(&mut watcher, 2).await, ["ADDED ns/c@6", "ADDED ns/d@7"]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_shows_the_last_state_at_its_own_revision() {
    let fixture = Fixture::new();
    fixture.put("ns/a", "x", "n1").await;
    fixture.cache.fresh().await.expect("fresh");
    let mut watcher = fixture.pods().watch(WatchFrom::After(Revision(2)), Selection::everything()).expect("watch");
    fixture.delete("ns/a").await;
    let event = watcher.next().await.expect("event");
    let expected = r#"{"kind":"Pod","metadata":{"resourceVersion":"3","labels":{"app":"x"}},"spec":{"nodeName":"n1"}}"#;
    assert_eq!(event.object(), expected);
    assert_eq!(event.frame(), format!("{{\"type\":\"DELETED\",\"object\":{expected}}}\n"));
}

#[tokio::test(start_paused = true)]
async fn a_selector_sees_objects_come_and_go() {
    let fixture = Fixture::new();
    fixture.cache.fresh().await.expect("fresh");
    let watch = |selection| fixture.pods().watch(WatchFrom::After(Revision(1)), selection).expect("watch");
    let mut by_label = watch(select(None, "app=x", ""));
    let mut by_node = watch(select(None, "", "spec.nodeName=n1"));
    let mut without_node = watch(select(None, "", "spec.nodeName="));
    let mut by_namespace = watch(select(Some("other"), "", ""));
    let mut by_name = watch(select(Some("ns"), "", "metadata.name=b"));
    fixture.put("ns/a", "x", "").await;
    fixture.put("ns/a", "x", "n1").await;
    fixture.put("ns/a", "y", "n1").await;
    fixture.put("ns/a", "x", "n2").await;
    fixture.put("other/b", "y", "").await;
    fixture.put("ns/b", "y", "").await;
    fixture.delete("ns/a").await;
    assert_eq!(
        events(&mut by_label, 5).await,
        ["ADDED ns/a@2", "MODIFIED ns/a@3", "DELETED ns/a@4", "ADDED ns/a@5", "DELETED ns/a@8"]
    );
    assert_eq!(events(&mut by_node, 3).await, ["ADDED ns/a@3", "MODIFIED ns/a@4", "DELETED ns/a@5"]);
    assert_eq!(
        events(&mut without_node, 4).await,
        ["ADDED ns/a@2", "DELETED ns/a@3", "ADDED other/b@6", "ADDED ns/b@7"]
    );
    assert_eq!(events(&mut by_namespace, 1).await, ["ADDED other/b@6"]);
    assert_eq!(events(&mut by_name, 1).await, ["ADDED ns/b@7"]);
    for watcher in [&mut by_label, &mut by_node, &mut without_node, &mut by_namespace, &mut by_name] {
        assert_quiet(watcher).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_list_sends_the_state_then_a_marked_bookmark() {
    let fixture = Fixture::new();
    fixture.put("ns/b", "x", "").await;
    fixture.put("ns/a", "x", "").await;
    fixture.put("ns/c", "y", "").await;
    fixture.cache.fresh().await.expect("fresh");
    let mut watcher =
        fixture.pods().watch(WatchFrom::State { end_bookmark: true }, select(None, "app=x", "")).expect("watch");
    fixture.put("ns/c", "x", "").await;
    assert_eq!(events(&mut watcher, 2).await, ["ADDED ns/a@3", "ADDED ns/b@2"]);
    let end = watcher.next().await.expect("bookmark");
    let object: serde_json::Value = serde_json::from_slice(&end.object()).expect("JSON");
    assert_eq!((end.kind, end.revision, object["kind"].as_str()), (EventKind::Bookmark, Revision(4), Some("Pod")));
    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(events(&mut watcher, 1).await, ["ADDED ns/c@5"]);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_tell_how_far_a_quiet_watch_has_come() {
    let fixture = Fixture::new();
    fixture.cache.fresh().await.expect("fresh");
    let mut watcher = fixture.pods().watch(WatchFrom::After(Revision(1)), select(Some("ns"), "", "")).expect("watch");
    fixture.commit("/registry/nodes/n1", Write::Put { value: pod("x", ""), ttl: None }).await;
    fixture.cache.fresh().await.expect("fresh");
    assert_eq!(watcher.bookmark().map(|event| event.revision), Some(Revision(2)));
    fixture.put("ns/a", "x", "").await;
    fixture.cache.fresh().await.expect("fresh");
    assert!(watcher.bookmark().is_none(), "an event still waits");
    assert_eq!(events(&mut watcher, 1).await, ["ADDED ns/a@3"]);
    let bookmark = watcher.bookmark().expect("bookmark");
    assert_eq!(
        bookmark.frame(),
        "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"3\"}}}\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_does_not_read_is_ended_alone() {
    let fixture = Fixture::new();
    fixture.cache.fresh().await.expect("fresh");
    let mut slow = fixture.pods().watch(WatchFrom::After(Revision(1)), Selection::everything()).expect("watch");
    let mut quick = fixture.pods().watch(WatchFrom::After(Revision(1)), Selection::everything()).expect("watch");
    let mut elsewhere =
        fixture.pods().watch(WatchFrom::After(Revision(1)), select(Some("quiet"), "", "")).expect("watch");
    for n in 0..3000 {
        fixture.put("ns/a", &n.to_string(), "").await;
        fixture.cache.fresh().await.expect("fresh");
        quick.next().await.expect("the quick one goes on");
    }
    let mut seen = 0;
    while slow.next().await.is_some() {
        seen += 1;
    }
    assert!((1000..3000).contains(&seen), "{seen}");
    assert_eq!(fixture.pods().watching(), 2);
    fixture.put("quiet/a", "x", "").await;
    assert_eq!(events(&mut elsewhere, 1).await, ["ADDED quiet/a@3002"]);
    drop(quick);
    drop(elsewhere);
    assert_eq!(fixture.pods().watching(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_ring_has_forgotten_is_expired() {
    let fixture = Fixture::new();
    for n in 0..5000 {
        fixture.put("ns/a", &n.to_string(), "").await;
    }
    fixture.cache.fresh().await.expect("fresh");
    let expired = fixture.pods().watch(WatchFrom::After(Revision(2)), Selection::everything()).expect_err("expired");
    assert!(expired.oldest > Revision(2), "{expired}");
    assert_eq!(expired.to_string(), format!("too old resource version: 2 ({})", expired.oldest));
    let mut watcher = fixture.pods().watch(WatchFrom::After(expired.oldest), Selection::everything()).expect("watch");
    assert_eq!(watcher.next().await.expect("event").revision.0, expired.oldest.0 + 1);
}

#[tokio::test(start_paused = true)]
async fn pages_come_from_one_revision() {
    let fixture = Fixture::new();
    for name in ["ns/a", "ns/b", "ns-2/a", "ns/c"] {
        fixture.put(name, "x", "").await;
    }
    let first = fixture.pods_now().await;
    assert_eq!(names(&first, &Selection::everything()), "ns-2/a ns/a ns/b ns/c");
    fixture.delete("ns/b").await;
    fixture.put("ns/a", "y", "").await;
    fixture.put("ns/bb", "x", "").await;
    let now = fixture.pods_now().await;
    assert_eq!(names(&now, &select(Some("ns"), "", "")), "ns/a ns/bb ns/c");
    let earlier = fixture.pods().snapshot_at(first.revision).await.expect("recent");
    let everything = select(Some("ns"), "", "");
    let rest: Vec<_> =
        earlier.select(&everything, Some("/registry/pods/ns/a")).map(|entry| entry.name().to_owned()).collect();
    assert_eq!((rest.join(" "), earlier.revision), ("b c".into(), first.revision));
    assert_eq!(earlier.get("/registry/pods/ns/a").and_then(|entry| entry.labels.get("app")), Some("x"));
    let error = fixture.pods().snapshot_at(Revision(99)).await.expect_err("future");
    assert!(matches!(error, StorageError::Future { .. }));
}

#[tokio::test(start_paused = true)]
async fn pages_beyond_the_ring_come_from_the_store() {
    let fixture = Fixture::new();
    fixture.put("ns/a", "first", "").await;
    let first = fixture.pods_now().await;
    for n in 0..5000 {
        fixture.put("ns/a", &n.to_string(), "").await;
    }
    fixture.cache.fresh().await.expect("fresh");
    let earlier = fixture.pods().snapshot_at(first.revision).await.expect("from the store");
    assert_eq!(earlier.get("/registry/pods/ns/a").and_then(|entry| entry.labels.get("app")), Some("first"));
    fixture.store.compact(Revision(3000)).await.expect("compact");
    let error = fixture.pods().snapshot_at(first.revision).await.expect_err("compacted");
    assert!(matches!(error, StorageError::Compacted { .. }));
}

#[tokio::test(start_paused = true)]
async fn watches_survive_a_restart_of_the_cache() {
    let first = Fixture::new();
    first.put("ns/a", "x", "").await;
    first.put("ns/a", "y", "").await;
    first.cache.fresh().await.expect("fresh");
    let second = Fixture::over(Arc::clone(&first.store));
    second.cache.fresh().await.expect("fresh");
    let mut watcher = second.pods().watch(WatchFrom::After(Revision(2)), Selection::everything()).expect("watch");
    assert_eq!(events(&mut watcher, 1).await, ["MODIFIED ns/a@3"]);
    first.store.compact(Revision(3)).await.expect("compact");
    let third = Fixture::over(Arc::clone(&first.store));
    third.cache.fresh().await.expect("fresh");
    assert_eq!(third.pods().snapshot().len(), 1);
    let expired = third.pods().watch(WatchFrom::After(Revision(2)), Selection::everything()).expect_err("expired");
    assert_eq!(expired.oldest, Revision(3));
}

#[tokio::test(start_paused = true)]
async fn resources_come_and_go_at_run_time() {
    let fixture = Fixture::new();
    let key = "/registry/example.com/widgets/ns/a";
    fixture.commit(key, Write::Put { value: pod("x", ""), ttl: None }).await;
    fixture.cache.fresh().await.expect("fresh");
    let prefix = "/registry/example.com/widgets/";
    assert!(fixture.cache.resource(prefix).is_none());
    let widgets = fixture.cache.add_resource(spec(prefix, "Widget")).await.expect("add");
    assert!(widgets.get(key).is_some());
    let mut watcher = widgets.watch(WatchFrom::State { end_bookmark: false }, Selection::everything()).expect("watch");
    fixture.commit(key, Write::Put { value: pod("y", ""), ttl: None }).await;
    assert_eq!(events(&mut watcher, 2).await, ["ADDED ns/a@2", "MODIFIED ns/a@3"]);
    fixture.cache.remove_resource(prefix);
    assert!(watcher.next().await.is_none());
    assert!(fixture.cache.resource(prefix).is_none());
}

/// A store whose change feeds can be cut, and which can be unreachable.
struct Fragile {
    store: Memory,
    cut: Mutex<CancellationToken>,
    down: std::sync::atomic::AtomicBool,
}

impl Fragile {
    fn cut(&self) {
        let mut cut = self.cut.lock().expect("lock");
        cut.cancel();
        *cut = CancellationToken::new();
    }

    fn up(&self) -> Result<(), StorageError> {
        if self.down.load(Ordering::SeqCst) { Err(StorageError::Unavailable("down".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Storage for Fragile {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StorageError> {
        self.store.get(key).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listed, StorageError> {
        self.up()?;
        self.store.list(prefix, after, limit, at).await
    }
    async fn commit(&self, key: &str, expect: Expect, write: Write) -> Result<Outcome, StorageError> {
        self.store.commit(key, expect, write).await
    }
    async fn revision(&self) -> Result<Revision, StorageError> {
        self.up()?;
        self.store.revision().await
    }
    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Feed, StorageError>>, StorageError> {
        self.up()?;
        let cut = self.cut.lock().expect("lock").clone();
        Ok(self.store.watch(prefix, after).await?.take_until(cut.cancelled_owned()).boxed())
    }
    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        self.store.compact(revision).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_feed_is_taken_up_where_it_stopped() {
    let fragile = Arc::new(Fragile { store: Memory::new(), cut: Mutex::default(), down: false.into() });
    let fixture = Fixture::over(Arc::clone(&fragile) as Arc<dyn Storage>);
    fixture.put("ns/a", "x", "").await;
    fixture.cache.fresh().await.expect("fresh");
    let mut watcher = fixture.pods().watch(WatchFrom::After(Revision(2)), Selection::everything()).expect("watch");
    fragile.down.store(true, Ordering::SeqCst);
    fragile.cut();
    fixture.put("ns/b", "x", "").await;
    assert!(matches!(fixture.cache.fresh().await, Err(StorageError::Unavailable(_))));
    assert_quiet(&mut watcher).await;
    fragile.down.store(false, Ordering::SeqCst);
    assert_eq!(events(&mut watcher, 1).await, ["ADDED ns/b@3"]);

    fragile.down.store(true, Ordering::SeqCst);
    fragile.cut();
    fixture.delete("ns/b").await;
    fixture.put("ns/c", "x", "").await;
    fixture.store.compact(Revision(5)).await.expect("compact");
    fragile.down.store(false, Ordering::SeqCst);
    assert!(watcher.next().await.is_none(), "what was missed is gone, so the watch ends");
    assert_eq!(names(&fixture.pods_now().await, &Selection::everything()), "ns/a ns/c");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_harms_no_other() {
    let fixture = Fixture::new();
    fixture.put("ns/a", "x", "").await;
    fixture.commit(&format!("{PODS}ns/b"), Write::Put { value: Bytes::from_static(b"not JSON"), ttl: None }).await;
    fixture.put("ns/c", "x", "").await;
    assert_eq!(names(&fixture.pods_now().await, &Selection::everything()), "ns/a ns/c");
}

/// What a watcher believes to exist after its events: name and revision of the last change that it saw.
async fn believed(watcher: &mut Watcher, began: Revision, until: Revision) -> BTreeMap<String, u64> {
    let mut state = BTreeMap::new();
    let mut last = began;
    while watcher.bookmark().is_none_or(|bookmark| bookmark.revision < until) {
        let event = watcher.next().await.expect("event");
        let Some(entry) = &event.entry else { continue };
        if event.revision > began {
            assert!(event.revision > last, "{} after {last}", event.revision);
            last = event.revision;
        }
        let name = format!("{}/{}", entry.namespace(), entry.name());
        let known = state.contains_key(&name);
        match event.kind {
            EventKind::Added => assert!(!known, "ADDED twice"),
            EventKind::Modified | EventKind::Deleted => assert!(known, "{:?} of what was not there", event.kind),
            EventKind::Bookmark => {}
        }
        match event.kind {
            EventKind::Deleted => drop(state.remove(&name)),
            _ => drop(state.insert(name, event.revision.0)),
        }
    }
    state
}

fn selections() -> Vec<Selection> {
    vec![
        Selection::everything(),
        select(Some("a"), "", ""),
        select(None, "app=1", ""),
        select(None, "app!=1", "spec.nodeName=n1"),
        select(None, "", "spec.nodeName=n0"),
        select(Some("b"), "app in (0,2)", "spec.nodeName!=n0"),
        select(Some("a"), "", "metadata.name=1"),
        select(None, "", "metadata.name=0"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written: every watcher, wherever it began, ends up with exactly what a list shows, and every past revision
    /// can be read as it was.
    #[test]
    fn watchers_and_lists_agree(operations in prop::collection::vec((0..2usize, 0..3u8, 0..4u8, 0..3u8, 0..3u8, any::<bool>()), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("runtime");
        runtime.block_on(async {
            let fixture = Fixture::new();
            fixture.cache.fresh().await.expect("fresh");
            let mut watchers = Vec::new();
            let mut past = Vec::new();
            for (step, (namespace, name, action, app, node, begin)) in operations.into_iter().enumerate() {
                let name = format!("{}/{name}", ["a", "b"][namespace]);
                let exists = fixture.pods_now().await.get(&format!("{PODS}{name}")).is_some();
                match action {
                    0 if exists => drop(fixture.delete(&name).await),
                    0 => {}
                    _ => drop(fixture.put(&name, &app.to_string(), &format!("n{node}")).await),
                }
                past.push(fixture.pods_now().await);
                if begin {
                    let at = selections().len();
                    for selection in [step % at, (step + 3) % at] {
                        let watcher = fixture.pods().watch(WatchFrom::State { end_bookmark: step % 2 == 0 }, selections()[selection].clone()).expect("watch");
                        watchers.push((selection, watcher, fixture.pods().revision()));
                    }
                }
            }
            let now = fixture.pods_now().await;
            for (selection, mut watcher, began) in watchers {
                let listed: BTreeMap<String, u64> = now.select(&selections()[selection], None)
                    .map(|entry| (format!("{}/{}", entry.namespace(), entry.name()), entry.revision.0)).collect();
                assert_eq!(believed(&mut watcher, began, now.revision).await, listed, "selection {selection}");
            }
            for then in past {
                let read = fixture.pods().snapshot_at(then.revision).await.expect("recent");
                let stored = fixture.store.list(PODS, None, 0, Some(then.revision)).await.expect("history");
                for selection in selections() {
                    let by_scan: Vec<_> = then.select(&Selection::everything(), None).filter(|entry| selection.matches(entry)).map(|entry| entry.json()).collect();
                    let by_index: Vec<_> = then.select(&selection, None).map(|entry| entry.json()).collect();
                    let rolled_back: Vec<_> = read.select(&selection, None).map(|entry| entry.json()).collect();
                    assert_eq!(by_index, by_scan);
                    assert_eq!(rolled_back, by_scan);
                }
                assert_eq!(read.len(), stored.items.len());
            }
        });
    }
}
