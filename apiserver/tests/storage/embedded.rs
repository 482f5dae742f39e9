//! The embedded store: the contract, and what it owes beyond it: restarts, one owner at a time, clear refusals.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use apiserver::storage::embedded::Embedded;
use apiserver::storage::{Expect, Feed, Outcome, Storage, StorageError, Write};
use bytes::Bytes;
use futures::StreamExt;
use process::Clock;

async fn fresh() -> (tempfile::TempDir, Arc<dyn Storage>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Arc::new(open(dir.path()));
    (dir, store)
}

crate::contract::contract_tests!(fresh);

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, Clock::system()).expect("open")
}

fn refusal(dir: &Path) -> String {
    match Embedded::open(dir, Clock::system()) {
        Ok(_) => panic!("{} was opened", dir.display()),
        Err(error) => error.to_string(),
    }
}

fn put(value: &str, ttl: Option<Duration>) -> Write {
    Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl }
}

async fn write(store: &Embedded, key: &str, write: Write) -> Revision {
    let known = store.get(key).await.expect("get").0;
    let expect = known.map_or(Expect::Absent, |item| Expect::Revision(item.revision));
    match store.commit(key, expect, write).await.expect("commit") {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(found) => panic!("{found:?}"),
    }
}

async fn everything(store: &Embedded, at: Option<Revision>) -> Result<String, StorageError> {
    let listed = store.list("/", None, 0, at).await?;
    let items = listed
        .items
        .iter()
        .map(|item| format!("{}={}@{}", item.key, String::from_utf8_lossy(&item.value), item.revision));
    Ok(items.collect::<Vec<_>>().join(" "))
}

async fn replay(store: &Embedded, after: Revision) -> Vec<u64> {
    let newest = store.revision().await.expect("revision");
    let mut feed = store.watch("/", after).await.expect("watch");
    let mut revisions = Vec::new();
    while revisions.last().copied() < Some(newest.0) {
        match feed.next().await.expect("feed").expect("feed") {
            Feed::Changes(changes) => revisions.extend(changes.iter().map(|change| change.revision().0)),
            Feed::Progress(_) => {}
        }
    }
    revisions
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    for n in 0..6 {
        write(&store, &format!("/k{}", n % 3), put(&n.to_string(), None)).await;
    }
    write(&store, "/k1", Write::Delete).await;
    let before =
        (everything(&store, None).await.expect("list"), everything(&store, Some(Revision(4))).await.expect("list"));
    drop(store);
    let store = open(dir.path());
    assert_eq!(
        (everything(&store, None).await.expect("list"), everything(&store, Some(Revision(4))).await.expect("list")),
        before
    );
    assert_eq!(store.revision().await.expect("revision"), Revision(8));
    assert_eq!(replay(&store, Revision(1)).await, (2..=8).collect::<Vec<_>>());

    // A deletion may be the newest revision: it must not be given again.
    store.compact(Revision(8)).await.expect("compact");
    drop(store);
    let store = open(dir.path());
    assert_eq!(everything(&store, None).await.expect("list"), "/k0=3@5 /k2=5@7");
    assert!(matches!(
        everything(&store, Some(Revision(7))).await,
        Err(StorageError::Compacted { oldest: Revision(8) })
    ));
    assert_eq!(write(&store, "/k1", put("again", None)).await, Revision(9));
    assert_eq!(replay(&store, Revision(8)).await, [9]);
    store.compact(Revision(9)).await.expect("compact");
    drop(store);
    assert_eq!(everything(&open(dir.path()), None).await.expect("list"), "/k0=3@5 /k1=again@9 /k2=5@7");
}

#[tokio::test]
async fn an_empty_store_stays_empty() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(open(&dir.path().join("made/by/open")));
    let store = open(&dir.path().join("made/by/open"));
    assert_eq!(store.revision().await.expect("revision"), Revision(1));
    assert_eq!(everything(&store, None).await.expect("list"), "");
}

#[tokio::test]
async fn keys_expire_across_restarts() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    write(&store, "/soon", put("x", Some(Duration::from_millis(400)))).await;
    write(&store, "/kept", put("x", Some(Duration::from_millis(400)))).await;
    write(&store, "/kept", put("x", None)).await;
    write(&store, "/late", put("x", Some(Duration::from_secs(3600)))).await;
    store.compact(Revision(5)).await.expect("compact");
    drop(store);
    let store = open(dir.path());
    let mut feed = store.watch("/", Revision(5)).await.expect("watch");
    let expired = tokio::time::timeout(Duration::from_secs(30), feed.next())
        .await
        .expect("expires")
        .expect("feed")
        .expect("feed");
    assert_eq!(expired.revision(), Revision(6));
    assert_eq!(everything(&store, None).await.expect("list"), "/kept=x@4 /late=x@5");
}

#[tokio::test]
async fn compaction_gives_the_space_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    let value = "x".repeat(20_000);
    let size = || std::fs::metadata(dir.path().join("store.redb")).expect("file").len();
    let mut largest = 0;
    for round in 0..12 {
        for _ in 0..40 {
            write(&store, "/k", put(&value, None)).await;
        }
        let newest = store.revision().await.expect("revision");
        store.compact(newest).await.expect("compact");
        if round == 5 {
            largest = size();
        }
    }
    assert!(size() <= largest * 2, "the file grows without bound: {largest} then {}", size());
    drop(store);
    assert_eq!(replay(&open(dir.path()), Revision(480)).await, [481]);
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    let file = dir.path().join("store.redb");
    assert_eq!(refusal(dir.path()), format!("storage failed: {} is in use by another process", file.display()));
    drop(store);
    drop(open(dir.path()));
}

#[test]
fn what_is_not_a_store_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("store.redb");
    std::fs::write(dir.path().join("other"), "x").expect("write");
    assert_eq!(
        refusal(dir.path()),
        format!("storage failed: {} is not empty and holds no store; name an empty directory", dir.path().display())
    );
    std::fs::write(&file, "this is no database at all").expect("write");
    let message = refusal(dir.path());
    assert!(message.starts_with(&format!("storage failed: {}", file.display())), "{message}");
    std::fs::write(&file, vec![7; 100_000]).expect("write");
    let message = refusal(dir.path());
    assert!(message.starts_with(&format!("storage failed: {}", file.display())), "{message}");
    let message = refusal(&dir.path().join("other"));
    assert!(message.contains("can't use") && message.contains("as data directory"), "{message}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    for n in 0..200 {
        write(&store, &format!("/k{n}"), put(&"x".repeat(500), None)).await;
    }
    drop(store);
    let file = dir.path().join("store.redb");
    let whole = std::fs::read(&file).expect("read");
    let at = whole.windows(100).position(|window| window == [b'x'; 100]).expect("a value");
    let mut damaged = whole.clone();
    damaged[at + 10] ^= 0x40;
    std::fs::write(&file, &damaged).expect("write");
    let message = refusal(dir.path());
    assert!(message.contains("store.redb"), "{message}");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("write");
    let message = refusal(dir.path());
    assert!(message.contains("store.redb"), "{message}");
    std::fs::write(&file, &whole).expect("write");
    drop(open(dir.path()));
}
