//! The embedded store is killed in mid-load, again and again: every acknowledged write is there afterwards, nothing is torn,
//! revisions only grow.
//!
//! The test starts itself as a child that writes and says what was acknowledged; the parent kills it and looks at the files.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use apiserver::storage::embedded::Embedded;
use apiserver::storage::{Change, Expect, Feed, Outcome, Storage, StorageError, Write};
use futures::StreamExt;
use process::{Clock, Rng};

const DIR: &str = "STORAGE_CRASH_TEST_DIR";
const ROUNDS: u64 = 24;
const WRITERS: usize = 8;
const KEYS: u64 = 40;
/// How much history the child keeps.
const HISTORY: u64 = 300;

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, Clock::system()).expect("the store opens")
}

/// A value that says how it was written, and shows when it is not whole.
fn value(key: &str, kind: &str, rng: &Rng) -> Vec<u8> {
    let mut value = format!("{key} {kind} {} ", rng.suffix(8)).into_bytes();
    value.resize(value.len() + rng.range(0..6000) as usize, b'.');
    let sum = checksum(&value);
    value.extend_from_slice(&sum.to_be_bytes());
    value
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// How a value was written: for good (`put`), or for a while (`expiring`).
fn kind_of(value: &[u8]) -> String {
    let word = value.split(|byte| *byte == b' ').nth(1).expect("a value names its kind");
    String::from_utf8_lossy(word).into_owned()
}

fn assert_whole(key: &str, value: &[u8]) {
    let (text, sum) = value.split_last_chunk::<8>().unwrap_or_else(|| panic!("{key} is torn"));
    assert_eq!(checksum(text), u64::from_be_bytes(*sum), "{key} is torn");
    assert!(text.starts_with(key.as_bytes()), "{key} holds another key's value");
}

/// The child: runs until it is killed, or at most until the parent is gone.
#[tokio::test]
#[ignore = "the child of `acknowledged_writes_survive_kill_9`"]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { panic!("{DIR} is not set") };
    let store = Arc::new(open(Path::new(&dir)));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        tasks.spawn(write_forever(Arc::clone(&store), writer));
    }
    tasks.spawn(compact_forever(store));
    tasks.join_next().await.expect("tasks").expect("no task ends");
}

async fn write_forever(store: Arc<Embedded>, writer: usize) {
    let rng = Rng::from_entropy();
    loop {
        let key = format!("/registry/pods/{writer}/{}", rng.range(0..KEYS));
        let known = store.get(&key).await.expect("get").0;
        let expect = known.map_or(Expect::Absent, |item| Expect::Revision(item.revision));
        let action = rng.range(0..10);
        let kind = ["delete", "expiring"].get(action as usize).copied().unwrap_or("put");
        let value = value(&key, kind, &rng);
        let sum = checksum(&value);
        // Some outlive the child, and expire in the next one's time.
        let ttl = (kind == "expiring").then(|| Duration::from_millis(rng.range(30..300)));
        let write = if kind == "delete" { Write::Delete } else { Write::Put { value: value.into(), ttl } };
        match store.commit(&key, expect, write).await.expect("commit") {
            Outcome::Committed(revision) => say(&format!("ack {} {kind} {key} {sum}\n", revision.0)),
            // It expired in between.
            Outcome::Conflict(_) => {}
        }
    }
}

/// One write of one line to a pipe is not interleaved with others.
fn say(line: &str) {
    if std::io::stdout().lock().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush()).is_err() {
        std::process::exit(0);
    }
}

async fn compact_forever(store: Arc<Embedded>) {
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let newest = store.revision().await.expect("revision");
        store.compact(Revision(newest.0.saturating_sub(HISTORY))).await.expect("compact");
    }
}

/// What the child said about a key last.
#[derive(Clone, Debug)]
struct Acknowledged {
    revision: Revision,
    kind: String,
    sum: u64,
}

struct Running {
    child: Child,
    acknowledged: std::thread::JoinHandle<Vec<(String, Acknowledged)>>,
    started: std::sync::mpsc::Receiver<()>,
}

fn start(dir: &Path) -> Running {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "crash::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (first, started) = std::sync::mpsc::sync_channel(1);
    let acknowledged = std::thread::spawn(move || {
        let read = |line: std::io::Result<String>| {
            let acknowledged = parse(&line.ok()?)?;
            let _ = first.try_send(());
            Some(acknowledged)
        };
        lines.filter_map(read).collect()
    });
    Running { child, acknowledged, started }
}

fn parse(line: &str) -> Option<(String, Acknowledged)> {
    // libtest writes "test … " without an end of line before what the child says first.
    let at = line.find("ack ")?;
    let mut words = line[at + 4..].split(' ');
    let revision = Revision(words.next()?.parse().ok()?);
    let kind = words.next()?.to_owned();
    let key = words.next()?.to_owned();
    let sum = words.next()?.parse().ok()?;
    Some((key, Acknowledged { revision, kind, sum }))
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let rng = Rng::from_entropy();
    let mut last: BTreeMap<String, Acknowledged> = BTreeMap::new();
    let (mut newest, mut total) = (Revision(1), 0);
    for round in 0..ROUNDS {
        let mut running = start(dir.path());
        // One time in four the child is killed while it opens the store.
        if round % 4 != 3 {
            running.started.recv_timeout(Duration::from_secs(60)).expect("the child writes");
        }
        std::thread::sleep(Duration::from_millis(rng.range(0..150)));
        running.child.kill().expect("kill");
        running.child.wait().expect("wait");
        let said = running.acknowledged.join().expect("lines");
        total += said.len();
        let recent = said.clone();
        for (key, acknowledged) in said {
            let known = last.entry(key).or_insert_with(|| acknowledged.clone());
            if acknowledged.revision > known.revision {
                *known = acknowledged;
            }
        }
        newest = verify(dir.path(), &mut last, &recent, newest).await;
    }
    assert!(total > ROUNDS as usize * 10, "only {total} writes were acknowledged");
}

/// Compares the store with what was acknowledged; afterwards `last` is what is there.
async fn verify(
    dir: &Path,
    last: &mut BTreeMap<String, Acknowledged>,
    recent: &[(String, Acknowledged)],
    before: Revision,
) -> Revision {
    let store = open(dir);
    let newest = store.revision().await.expect("revision");
    assert!(newest >= before, "revisions went back from {before} to {newest}");
    for (key, acknowledged) in last.iter_mut() {
        assert!(
            newest >= acknowledged.revision,
            "the store is at {newest}, but {key} was acknowledged at {}",
            acknowledged.revision
        );
        let found = store.get(key).await.expect("get").0;
        match (&found, acknowledged.kind.as_str()) {
            // A later write that was not acknowledged may have happened.
            (Some(found), _) if found.revision > acknowledged.revision => assert_whole(key, &found.value),
            (Some(found), "put" | "expiring") if acknowledged.revision == found.revision => {
                assert_eq!(checksum(&found.value), acknowledged.sum, "{key} at {}", found.revision);
            }
            (None, "delete" | "expiring") => {}
            (None, _) => assert!(
                was_deleted_after(&store, key, acknowledged.revision).await,
                "{key} of {} is lost",
                acknowledged.revision
            ),
            (Some(found), kind) => {
                panic!("{key}: {kind} of {} is lost, {} is there", acknowledged.revision, found.revision)
            }
        }
        *acknowledged = match &found {
            Some(found) => {
                Acknowledged { revision: found.revision, kind: kind_of(&found.value), sum: checksum(&found.value) }
            }
            None => Acknowledged { revision: newest, kind: "delete".into(), sum: 0 },
        };
    }
    for (key, acknowledged) in recent {
        assert_in_history(&store, key, acknowledged).await;
    }
    assert_history_is_whole(&store, newest).await;
    newest
}

/// A put that is gone can only be the victim of a deletion that was not acknowledged, which history shows.
async fn was_deleted_after(store: &Embedded, key: &str, revision: Revision) -> bool {
    match store.list(key, None, 0, Some(revision)).await {
        Ok(listed) => listed.items.iter().any(|item| item.key == key && item.revision == revision),
        Err(StorageError::Compacted { oldest }) => {
            let listed = store.list(key, None, 0, Some(oldest)).await.expect("list");
            listed.items.iter().any(|item| item.key == key && item.revision >= revision)
        }
        Err(error) => panic!("{error}"),
    }
}

async fn assert_in_history(store: &Embedded, key: &str, acknowledged: &Acknowledged) {
    match store.list(key, None, 0, Some(acknowledged.revision)).await {
        Ok(listed) => {
            let found = listed.items.iter().find(|item| item.key == key);
            let sum = found.filter(|item| item.revision == acknowledged.revision).map(|item| checksum(&item.value));
            let expected = (acknowledged.kind != "delete").then_some(acknowledged.sum);
            assert_eq!(sum, expected, "{key} at {}", acknowledged.revision);
            assert!(found.is_none() || acknowledged.kind != "delete");
        }
        Err(StorageError::Compacted { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Every revision that is kept is there once, with a whole value.
async fn assert_history_is_whole(store: &Embedded, newest: Revision) {
    let oldest = match store.list("/", None, 0, Some(Revision(1))).await {
        Err(StorageError::Compacted { oldest }) => oldest,
        other => {
            other.expect("list");
            Revision(1)
        }
    };
    let mut feed = store.watch("/", oldest).await.expect("watch");
    let mut reached = oldest;
    while reached < newest {
        let Feed::Changes(changes) = feed.next().await.expect("feed").expect("feed") else { continue };
        for change in changes {
            assert_eq!(change.revision().0, reached.0 + 1, "the history has a hole");
            reached = change.revision();
            if let Change::Put(item) = &change {
                assert_whole(&item.key, &item.value);
            }
        }
    }
}
