//! What every store must do. A case is an async function of an empty store; `contract_tests!` makes a test of each.
//!
//! Entry: `contract_tests!(fresh, …)` where `fresh()` answers a guard (kept until the case ends) and the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use apiserver::storage::{Change, Expect, Feed, KeyValue, Outcome, Storage, StorageError, Write};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::timeout;

/// Far above what any store needs; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! contract_tests {
    ($fresh:path $(, $attribute:ident = $value:expr)*) => {
        $crate::contract::contract_tests!(@each $fresh, [$($attribute = $value),*],
            a_created_key_is_found, expectations_are_compared, a_deleted_key_can_be_created_again, deleting_nothing_changes_nothing,
            lists_are_ordered_and_bounded_by_the_prefix, pages_are_of_one_revision, old_revisions_can_be_listed,
            future_revisions_are_refused, compacted_revisions_are_refused, a_feed_replays_and_goes_on, a_feed_sees_only_its_prefix,
            a_feed_reports_progress, a_compacted_feed_is_refused, several_feeds_see_one_order, keys_expire, a_later_put_cancels_the_expiry,
            concurrent_writers_lose_nothing, values_may_be_large, history_matches_a_model);
    };
    (@each $fresh:path, $attributes:tt, $($case:ident),*) => {
        $( $crate::contract::contract_tests!(@one $fresh, $attributes, $case); )*
    };
    (@one $fresh:path, [$($attribute:ident = $value:expr),*], $case:ident) => {
        #[tokio::test($($attribute = $value),*)]
        async fn $case() {
            let (_guard, store) = $fresh().await;
            $crate::contract::$case(store).await;
        }
    };
}
pub(crate) use contract_tests;

type Store = Arc<dyn Storage>;
type FeedStream = BoxStream<'static, Result<Feed, StorageError>>;

fn put(value: &str) -> Write {
    Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: None }
}

fn put_for(value: &str, ttl: Duration) -> Write {
    Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: Some(ttl) }
}

async fn done(store: &Store, key: &str, expect: Expect, write: Write) -> Revision {
    match store.commit(key, expect, write).await.expect("commit") {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(found) => panic!("conflict on {key}: {found:?}"),
    }
}

async fn create(store: &Store, key: &str, value: &str) -> Revision {
    done(store, key, Expect::Absent, put(value)).await
}

fn keys(items: &[KeyValue]) -> Vec<&str> {
    items.iter().map(|item| item.key.as_str()).collect()
}

/// Changes of a feed, as (revision, key, value), until it has delivered `last`.
async fn changes_until(feed: &mut FeedStream, last: Revision) -> Vec<(u64, String, Option<String>)> {
    let mut seen = Vec::new();
    let mut reached = Revision(0);
    while reached < last {
        let next = timeout(PATIENCE, feed.next())
            .await
            .expect("the feed hangs")
            .expect("the feed ended")
            .expect("the feed failed");
        assert!(next.revision() >= reached, "the feed went back from {reached} to {}", next.revision());
        reached = next.revision();
        let Feed::Changes(changes) = next else { continue };
        assert!(!changes.is_empty(), "empty batch");
        seen.extend(changes.into_iter().map(|change| match change {
            Change::Put(item) => {
                (item.revision.0, item.key, Some(String::from_utf8(item.value.to_vec()).expect("text")))
            }
            Change::Delete { key, revision } => (revision.0, key, None),
        }));
    }
    assert!(seen.is_sorted_by(|a, b| a.0 <= b.0), "out of order: {seen:?}");
    seen
}

fn change(revision: Revision, key: &str, value: Option<&str>) -> (u64, String, Option<String>) {
    (revision.0, key.to_owned(), value.map(str::to_owned))
}

pub(crate) async fn a_created_key_is_found(store: Store) {
    let (found, empty) = store.get("/registry/pods/a").await.expect("get");
    assert_eq!(found, None);
    assert!(empty >= Revision(1));
    let revision = create(&store, "/registry/pods/a", "one").await;
    assert_eq!(revision, Revision(empty.0 + 1));
    let (found, newest) = store.get("/registry/pods/a").await.expect("get");
    let expected = KeyValue { key: "/registry/pods/a".into(), value: Bytes::from_static(b"one"), revision };
    assert_eq!(found, Some(expected));
    assert_eq!(newest, revision);
    assert_eq!(store.revision().await.expect("revision"), revision);
    assert_eq!(store.get("/registry/pods/").await.expect("get").0, None);
}

pub(crate) async fn expectations_are_compared(store: Store) {
    let first = create(&store, "/k", "one").await;
    let conflicts = [
        (Expect::Absent, put("x")),
        (Expect::Revision(Revision(first.0 + 7)), put("x")),
        (Expect::Absent, Write::Delete),
        (Expect::Revision(Revision(0)), Write::Delete),
    ];
    for (expect, write) in conflicts {
        let Outcome::Conflict(Some(found)) = store.commit("/k", expect, write.clone()).await.expect("commit") else {
            panic!("{expect:?} {write:?}")
        };
        assert_eq!((found.value.as_ref(), found.revision), (b"one".as_ref(), first));
    }
    let missing = store.commit("/other", Expect::Revision(first), put("x")).await.expect("commit");
    assert!(matches!(missing, Outcome::Conflict(None)), "{missing:?}");
    assert_eq!(store.revision().await.expect("revision"), first, "a conflict must not make a revision");
    let second = done(&store, "/k", Expect::Revision(first), put("two")).await;
    assert_eq!(second.0, first.0 + 1);
    let stale = store.commit("/k", Expect::Revision(first), Write::Delete).await.expect("commit");
    assert!(matches!(stale, Outcome::Conflict(Some(found)) if found.revision == second));
}

pub(crate) async fn a_deleted_key_can_be_created_again(store: Store) {
    let first = create(&store, "/k", "one").await;
    let deleted = done(&store, "/k", Expect::Revision(first), Write::Delete).await;
    assert_eq!(deleted.0, first.0 + 1);
    assert_eq!(store.get("/k").await.expect("get").0, None);
    assert!(matches!(
        store.commit("/k", Expect::Revision(first), put("x")).await.expect("commit"),
        Outcome::Conflict(None)
    ));
    let again = create(&store, "/k", "two").await;
    assert_eq!(again.0, deleted.0 + 1);
    assert_eq!(store.get("/k").await.expect("get").0.map(|item| item.revision), Some(again));
}

pub(crate) async fn deleting_nothing_changes_nothing(store: Store) {
    let before = create(&store, "/k", "one").await;
    assert_eq!(done(&store, "/nothing", Expect::Absent, Write::Delete).await, before);
    assert_eq!(store.revision().await.expect("revision"), before);
}

pub(crate) async fn lists_are_ordered_and_bounded_by_the_prefix(store: Store) {
    let mut last = Revision(0);
    for key in ["/r/pods/b/1", "/r/pods/a/2", "/r/pods/a-b/1", "/r/podsx/a", "/r/pods/a/1", "/r/pod", "/r/pods/é/1"] {
        last = create(&store, key, key).await;
    }
    let listed = store.list("/r/pods/", None, 0, None).await.expect("list");
    assert_eq!(keys(&listed.items), ["/r/pods/a-b/1", "/r/pods/a/1", "/r/pods/a/2", "/r/pods/b/1", "/r/pods/é/1"]);
    assert_eq!((listed.revision, listed.remaining), (last, 0));
    assert!(listed.items.iter().all(|item| item.value == item.key.as_bytes()));
    let listed = store.list("/r/pods/a/", None, 0, None).await.expect("list");
    assert_eq!(keys(&listed.items), ["/r/pods/a/1", "/r/pods/a/2"]);
    let listed = store.list("/nothing/", None, 5, None).await.expect("list");
    assert_eq!((listed.items.len(), listed.remaining, listed.revision), (0, 0, last));
}

pub(crate) async fn pages_are_of_one_revision(store: Store) {
    let mut revisions = Vec::new();
    for n in 0..10 {
        revisions.push(create(&store, &format!("/p/{n}"), "old").await);
    }
    let first = store.list("/p/", None, 4, None).await.expect("list");
    assert_eq!((keys(&first.items).join(" "), first.remaining), ("/p/0 /p/1 /p/2 /p/3".into(), 6));
    create(&store, "/p/35", "new").await;
    done(&store, "/p/4", Expect::Revision(revisions[4]), Write::Delete).await;
    done(&store, "/p/5", Expect::Revision(revisions[5]), put("new")).await;
    let second = store.list("/p/", Some("/p/3"), 4, Some(first.revision)).await.expect("list");
    assert_eq!(
        (keys(&second.items).join(" "), second.remaining, second.revision),
        ("/p/4 /p/5 /p/6 /p/7".into(), 2, first.revision)
    );
    assert!(second.items.iter().all(|item| item.value.as_ref() == b"old"));
    let third = store.list("/p/", Some("/p/7"), 4, Some(first.revision)).await.expect("list");
    assert_eq!((keys(&third.items).join(" "), third.remaining), ("/p/8 /p/9".into(), 0));
    let exact = store.list("/p/", Some("/p/7"), 2, Some(first.revision)).await.expect("list");
    assert_eq!((exact.items.len(), exact.remaining), (2, 0));
    let newest = store.list("/p/", Some("/p/3"), 3, None).await.expect("list");
    assert_eq!((keys(&newest.items).join(" "), newest.remaining), ("/p/35 /p/5 /p/6".into(), 3));
}

pub(crate) async fn old_revisions_can_be_listed(store: Store) {
    let one = create(&store, "/k", "one").await;
    let two = done(&store, "/k", Expect::Revision(one), put("two")).await;
    let gone = done(&store, "/k", Expect::Revision(two), Write::Delete).await;
    let four = create(&store, "/k", "four").await;
    for (at, expected) in
        [(one, Some((one, "one"))), (two, Some((two, "two"))), (gone, None), (four, Some((four, "four")))]
    {
        let listed = store.list("/", None, 0, Some(at)).await.expect("list");
        let found = listed.items.first().map(|item| (item.revision, std::str::from_utf8(&item.value).expect("text")));
        assert_eq!(found, expected, "at {at}");
        assert_eq!(listed.revision, at);
    }
}

pub(crate) async fn future_revisions_are_refused(store: Store) {
    let newest = create(&store, "/k", "one").await;
    let error = store.list("/", None, 0, Some(Revision(newest.0 + 1))).await.expect_err("future");
    assert!(matches!(error, StorageError::Future { newest: found } if found == newest), "{error:?}");
    let error = store.compact(Revision(newest.0 + 1)).await.expect_err("future");
    assert!(matches!(error, StorageError::Future { .. }), "{error:?}");
}

pub(crate) async fn compacted_revisions_are_refused(store: Store) {
    let one = create(&store, "/k", "one").await;
    let two = done(&store, "/k", Expect::Revision(one), put("two")).await;
    create(&store, "/untouched", "x").await;
    let last = done(&store, "/k", Expect::Revision(two), put("three")).await;
    store.compact(last).await.expect("compact");
    store.compact(two).await.expect("compacting again is no error");
    let error = store.list("/", None, 0, Some(two)).await.expect_err("compacted");
    assert!(matches!(error, StorageError::Compacted { oldest } if oldest == last), "{error:?}");
    let listed = store.list("/", None, 0, Some(last)).await.expect("list");
    assert_eq!(keys(&listed.items), ["/k", "/untouched"]);
    assert_eq!(store.get("/k").await.expect("get").0.map(|item| item.revision), Some(last));
}

pub(crate) async fn a_feed_replays_and_goes_on(store: Store) {
    let start = store.revision().await.expect("revision");
    let one = create(&store, "/w/a", "one").await;
    let two = done(&store, "/w/a", Expect::Revision(one), put("two")).await;
    let mut from_start = store.watch("/w/", start).await.expect("watch");
    let mut from_one = store.watch("/w/", one).await.expect("watch");
    let three = create(&store, "/w/b", "three").await;
    let four = done(&store, "/w/a", Expect::Revision(two), Write::Delete).await;
    let all = [
        change(one, "/w/a", Some("one")),
        change(two, "/w/a", Some("two")),
        change(three, "/w/b", Some("three")),
        change(four, "/w/a", None),
    ];
    assert_eq!(changes_until(&mut from_start, four).await, all);
    assert_eq!(changes_until(&mut from_one, four).await, all[1..]);
    let five = create(&store, "/w/a", "five").await;
    assert_eq!(changes_until(&mut from_one, five).await, [change(five, "/w/a", Some("five"))]);
}

pub(crate) async fn a_feed_sees_only_its_prefix(store: Store) {
    let start = store.revision().await.expect("revision");
    let mut feed = store.watch("/w/a/", start).await.expect("watch");
    create(&store, "/w/ab", "x").await;
    let inside = create(&store, "/w/a/1", "y").await;
    create(&store, "/w/b", "x").await;
    let last = create(&store, "/w/a/2", "z").await;
    assert_eq!(
        changes_until(&mut feed, last).await,
        [change(inside, "/w/a/1", Some("y")), change(last, "/w/a/2", Some("z"))]
    );
}

pub(crate) async fn a_feed_reports_progress(store: Store) {
    let start = create(&store, "/w/a", "x").await;
    let mut feed = store.watch("/w/", start).await.expect("watch");
    for n in 0..3 {
        create(&store, &format!("/elsewhere/{n}"), "x").await;
        let newest = store.revision().await.expect("revision");
        assert_eq!(changes_until(&mut feed, newest).await, []);
    }
    let listed = store.list("/w/", None, 0, None).await.expect("list");
    assert_eq!((keys(&listed.items), listed.remaining), (vec!["/w/a"], 0), "progress must leave no trace");
}

pub(crate) async fn a_compacted_feed_is_refused(store: Store) {
    let start = store.revision().await.expect("revision");
    for n in 0..5 {
        create(&store, &format!("/w/{n}"), "x").await;
    }
    let last = store.revision().await.expect("revision");
    store.compact(last).await.expect("compact");
    let error = match store.watch("/w/", start).await {
        Err(error) => error,
        Ok(mut feed) => timeout(PATIENCE, feed.next())
            .await
            .expect("the feed hangs")
            .expect("the feed ended")
            .expect_err("compacted"),
    };
    assert!(matches!(error, StorageError::Compacted { oldest } if oldest == last), "{error:?}");
    let mut feed = store.watch("/w/", last).await.expect("watch");
    let next = create(&store, "/w/new", "x").await;
    assert_eq!(changes_until(&mut feed, next).await, [change(next, "/w/new", Some("x"))]);
}

pub(crate) async fn several_feeds_see_one_order(store: Store) {
    let start = store.revision().await.expect("revision");
    let mut feeds = Vec::new();
    for _ in 0..4 {
        feeds.push(store.watch("/", start).await.expect("watch"));
    }
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            for n in 0..20 {
                create(&store, &format!("/w/{writer}/{n}"), "x").await;
            }
        }
    });
    futures::future::join_all(writers).await;
    let last = store.revision().await.expect("revision");
    let mut seen = Vec::new();
    for feed in &mut feeds {
        seen.push(changes_until(feed, last).await);
    }
    assert_eq!(seen[0].len(), 80);
    assert!(seen.iter().all(|other| *other == seen[0]));
}

pub(crate) async fn keys_expire(store: Store) {
    let start = store.revision().await.expect("revision");
    let mut feed = store.watch("/", start).await.expect("watch");
    let short = done(&store, "/short", Expect::Absent, put_for("x", Duration::from_secs(1))).await;
    let long = done(&store, "/long", Expect::Absent, put_for("x", Duration::from_secs(3600))).await;
    let seen = changes_until(&mut feed, Revision(long.0 + 1)).await;
    assert_eq!(
        seen,
        [
            change(short, "/short", Some("x")),
            change(long, "/long", Some("x")),
            change(Revision(long.0 + 1), "/short", None)
        ]
    );
    assert_eq!(store.get("/short").await.expect("get").0, None);
    assert!(store.get("/long").await.expect("get").0.is_some());
    create(&store, "/short", "again").await;
}

pub(crate) async fn a_later_put_cancels_the_expiry(store: Store) {
    let start = store.revision().await.expect("revision");
    let one = done(&store, "/kept", Expect::Absent, put_for("x", Duration::from_secs(1))).await;
    done(&store, "/kept", Expect::Revision(one), put("y")).await;
    let short = done(&store, "/short", Expect::Absent, put_for("x", Duration::from_secs(2))).await;
    let mut feed = store.watch("/", start).await.expect("watch");
    changes_until(&mut feed, Revision(short.0 + 1)).await;
    assert_eq!(store.get("/short").await.expect("get").0, None);
    assert!(store.get("/kept").await.expect("get").0.is_some());
}

pub(crate) async fn concurrent_writers_lose_nothing(store: Store) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 15;
    let start = create(&store, "/counter", "0").await;
    let writers = (0..WRITERS).map(|_| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..ROUNDS {
                increment(&store).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    let (found, newest) = store.get("/counter").await.expect("get");
    assert_eq!(found.expect("counter").value.as_ref(), (WRITERS * ROUNDS).to_string().as_bytes());
    assert_eq!(newest.0, start.0 + WRITERS * ROUNDS);
    let mut feed = store.watch("/counter", start).await.expect("watch");
    let seen: Vec<_> =
        changes_until(&mut feed, newest).await.into_iter().map(|(_, _, value)| value.expect("value")).collect();
    assert_eq!(seen, (1..=WRITERS * ROUNDS).map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn increment(store: &Store) {
    let (found, _) = store.get("/counter").await.expect("get");
    let mut found = found.expect("counter");
    loop {
        let next = std::str::from_utf8(&found.value).expect("text").parse::<u64>().expect("number") + 1;
        match store.commit("/counter", Expect::Revision(found.revision), put(&next.to_string())).await.expect("commit")
        {
            Outcome::Committed(_) => return,
            Outcome::Conflict(now) => found = now.expect("counter"),
        }
    }
}

pub(crate) async fn values_may_be_large(store: Store) {
    let start = store.revision().await.expect("revision");
    let value: Bytes = (0..1_000_000u32).map(|n| b'a' + (n % 26) as u8).collect::<Vec<_>>().into();
    let mut last = start;
    for n in 0..8 {
        last =
            done(&store, &format!("/large/{n}"), Expect::Absent, Write::Put { value: value.clone(), ttl: None }).await;
    }
    let listed = store.list("/large/", None, 0, None).await.expect("list");
    assert!(listed.items.len() == 8 && listed.items.iter().all(|item| item.value == value));
    let mut feed = store.watch("/large/", start).await.expect("watch");
    let seen = changes_until(&mut feed, last).await;
    assert!(
        seen.len() == 8
            && seen.iter().all(|(_, _, found)| found.as_ref().is_some_and(|found| found.as_bytes() == value))
    );
}

/// Pseudo-random operations against a map that keeps every past state; then every state is read back and the feed replayed.
pub(crate) async fn history_matches_a_model(store: Store) {
    let start = store.revision().await.expect("revision");
    let mut dice = 0x2545_f491_4f6c_dd1du64;
    let mut state: BTreeMap<String, (Revision, String)> = BTreeMap::new();
    let mut past = BTreeMap::from([(start, state.clone())]);
    for step in 0..200 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("/m/{}", (dice >> 33) % 12);
        let known = state.get(&key).map(|(revision, _)| *revision);
        let expect = known.map_or(Expect::Absent, Expect::Revision);
        let revision = if (dice >> 50).is_multiple_of(4) && known.is_some() {
            let revision = done(&store, &key, expect, Write::Delete).await;
            state.remove(&key);
            revision
        } else {
            let revision = done(&store, &key, expect, put(&step.to_string())).await;
            state.insert(key, (revision, step.to_string()));
            revision
        };
        assert_eq!(revision.0, start.0 + 1 + step);
        past.insert(revision, state.clone());
    }
    for (at, expected) in &past {
        let listed = store.list("/m/", None, 0, Some(*at)).await.expect("list");
        let found: BTreeMap<_, _> = listed
            .items
            .into_iter()
            .map(|item| (item.key, (item.revision, String::from_utf8(item.value.to_vec()).expect("text"))))
            .collect();
        assert_eq!(found, *expected, "at {at}");
    }
    let last = *past.keys().next_back().expect("states");
    let mut feed = store.watch("/m/", start).await.expect("watch");
    let mut replayed = BTreeMap::new();
    for (revision, key, value) in changes_until(&mut feed, last).await {
        match value {
            Some(value) => replayed.insert(key, (Revision(revision), value)),
            None => replayed.remove(&key),
        };
        assert_eq!(&replayed, &past[&Revision(revision)], "after {revision}");
    }
}
