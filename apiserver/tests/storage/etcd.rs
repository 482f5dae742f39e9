//! The contract over a real etcd, and what is particular to it: it may be away, it may have other writers, it wants TLS.
//!
//! Each case starts its own etcd on free ports. There is no test without one: a missing etcd fails with what to install.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use apiserver::cache::{Cache, ResourceSpec};
use apiserver::storage::etcd::{Etcd, EtcdOptions};
use apiserver::storage::{Change, Expect, Feed, Outcome, Storage, StorageError, Write};
use bytes::Bytes;
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio_util::sync::CancellationToken;

const PROGRAM: &str = "etcd";
const PATIENCE: Duration = Duration::from_secs(60);

/// An etcd of our own; gone when dropped.
struct Process {
    child: Child,
    dir: tempfile::TempDir,
    client: u16,
    peer: u16,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Process {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("temporary directory"), None)
    }

    fn start_in(dir: tempfile::TempDir, tls: Option<Tls>) -> Self {
        let (client, peer) = free_ports();
        let child = spawn(dir.path(), client, peer, tls.as_ref());
        Self { child, dir, client, peer, tls }
    }

    fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), self.client, self.peer, self.tls.as_ref());
    }

    fn options(&self) -> EtcdOptions {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let file = |path: fn(&Tls) -> &PathBuf| self.tls.as_ref().map(|tls| path(tls).clone());
        EtcdOptions {
            endpoints: vec![format!("{scheme}://127.0.0.1:{}", self.client)],
            ca_file: file(|tls| &tls.ca),
            cert_file: file(|tls| &tls.cert),
            key_file: file(|tls| &tls.key),
        }
    }

    async fn connect(&self) -> Etcd {
        let connect = async {
            loop {
                match Etcd::connect(&self.options()).await {
                    Ok(etcd) => return etcd,
                    Err(StorageError::Unavailable(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, connect).await.expect("etcd answers")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (first, second) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().expect("address").port();
    (port(&first), port(&second))
}

fn spawn(dir: &Path, client: u16, peer: u16, tls: Option<&Tls>) -> Child {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (client, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new(PROGRAM);
    command
        .args(["--data-dir", &dir.join("data").display().to_string(), "--name", "test"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("test={peer}"),
        ])
        .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(tls) = tls {
        command.arg("--client-cert-auth");
        command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key).arg("--trusted-ca-file").arg(&tls.ca);
    }
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{PROGRAM} can't be started ({error}); install it: apt-get install etcd-server"))
}

async fn fresh() -> (Process, Arc<dyn Storage>) {
    let process = Process::start();
    let store = Arc::new(process.connect().await);
    (process, store)
}

crate::contract::contract_tests!(fresh, flavor = "multi_thread");

fn put(value: &str) -> Write {
    Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: None }
}

async fn create(store: &Etcd, key: &str) -> Revision {
    match store.commit(key, Expect::Absent, put("x")).await.expect("commit") {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(found) => panic!("{found:?}"),
    }
}

#[tokio::test]
async fn an_etcd_that_is_away_is_unavailable_and_comes_back() {
    let mut process = Process::start();
    let store = process.connect().await;
    let before = create(&store, "/a").await;
    let mut feed = store.watch("/", before).await.expect("watch");
    process.kill();
    let error = store.commit("/b", Expect::Absent, put("x")).await.expect_err("etcd is away");
    assert!(matches!(&error, StorageError::Unavailable(why) if why.contains("etcd at http://127.0.0.1")), "{error}");
    let error = store.get("/a").await.expect_err("etcd is away");
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    let lost = tokio::time::timeout(PATIENCE, feed.next()).await.expect("the feed notices").expect("an error");
    assert!(matches!(lost, Err(StorageError::Unavailable(_))), "{lost:?}");
    assert!(feed.next().await.is_none());

    process.start_again();
    let read = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok((found, _)) = store.get("/a").await {
                return found;
            }
        }
    });
    assert_eq!(read.await.expect("etcd is back").map(|item| item.revision), Some(before));
    let mut feed = store.watch("/", before).await.expect("watch");
    let next = create(&store, "/c").await;
    let change = tokio::time::timeout(PATIENCE, feed.next()).await.expect("a change").expect("feed").expect("feed");
    assert_eq!(change.revision(), next);
}

#[tokio::test]
async fn a_read_waits_out_a_short_restart() {
    let mut process = Process::start();
    let store = process.connect().await;
    let revision = create(&store, "/a").await;
    process.kill();
    process.start_again();
    let (found, _) = store.get("/a").await.expect("read after retries");
    assert_eq!(found.map(|item| item.revision), Some(revision));
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_said_plainly() {
    let (port, _) = free_ports();
    let options = EtcdOptions { endpoints: vec![format!("http://127.0.0.1:{port}")], ..EtcdOptions::default() };
    let Err(error) = Etcd::connect(&options).await else { panic!("connected to nobody") };
    assert_eq!(
        error.to_string(),
        format!("storage unavailable: etcd at http://127.0.0.1:{port}: Connection refused (os error 111)")
    );
}

#[tokio::test]
async fn other_writers_do_not_hold_up_a_fresh_read() {
    let process = Process::start();
    let store: Arc<dyn Storage> = Arc::new(process.connect().await);
    let spec = ResourceSpec {
        prefix: "/registry/pods/".into(),
        api_version: "v1".into(),
        kind: "Pod".into(),
        fields: Vec::new(),
        shown: None,
    };
    let cache = Cache::new(Arc::clone(&store), vec![spec]);
    let token = CancellationToken::new();
    let running = tokio::spawn({
        let (cache, token) = (Arc::clone(&cache), token.clone());
        async move { cache.run(token).await }
    });
    let other = process.connect().await;
    for n in 0..5 {
        let elsewhere = create(&other, &format!("/elsewhere/{n}")).await;
        assert!(cache.fresh().await.expect("fresh") >= elsewhere);
        let value = Write::Put { value: Bytes::from_static(b"{\"metadata\":{}}"), ttl: None };
        other.commit(&format!("/registry/pods/ns/{n}"), Expect::Absent, value).await.expect("commit");
        cache.fresh().await.expect("fresh");
        assert_eq!(cache.resource("/registry/pods/").map(|pods| pods.snapshot().len()), Some(n + 1));
    }
    token.cancel();
    running.await.expect("the cache ends");
}

#[tokio::test]
async fn changes_of_one_revision_come_together() {
    let process = Process::start();
    let store = process.connect().await;
    let start = store.revision().await.expect("revision");
    let mut feed = store.watch("/", start).await.expect("watch");
    let mut other = etcd_client::Client::connect(process.options().endpoints, None).await.expect("connect");
    let puts: Vec<_> =
        (0..100).map(|n| etcd_client::TxnOp::put(format!("/k/{n:03}"), vec![b'x'; 12_000], None)).collect();
    other.txn(etcd_client::Txn::new().and_then(puts)).await.expect("transaction");
    let batch = tokio::time::timeout(PATIENCE, feed.next()).await.expect("a batch").expect("feed").expect("feed");
    let Feed::Changes(changes) = batch else { panic!("{batch:?}") };
    assert_eq!(changes.len(), 100);
    assert!(changes.iter().all(|change| change.revision().0 == start.0 + 1));
    drop(feed);
    for n in 0..40 {
        other.put(format!("/k/{n:03}"), vec![b'y'; 100_000], None).await.expect("put");
    }
    // Replayed in one go this is more than etcd sends in one message.
    let mut feed = store.watch("/", Revision(start.0 + 1)).await.expect("watch");
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let batch = tokio::time::timeout(PATIENCE, feed.next()).await.expect("a batch").expect("feed").expect("feed");
        let Feed::Changes(changes) = batch else { continue };
        seen.extend(changes.iter().map(Change::revision).map(|revision| revision.0 - start.0));
    }
    assert_eq!(seen, (2..42).collect::<Vec<_>>());
}

/// An authority, and a certificate of it for server and client alike.
fn certificates(dir: &Path) -> Tls {
    let ca_key = KeyPair::generate().expect("key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("certificate").pem();
    let key = KeyPair::generate().expect("key");
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).expect("parameters");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).expect("certificate");
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("write");
        path
    };
    Tls { ca: write("ca.pem", ca_pem), cert: write("cert.pem", cert.pem()), key: write("key.pem", key.serialize_pem()) }
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let tls = certificates(dir.path());
    let process = Process::start_in(dir, Some(tls));
    let store = process.connect().await;
    create(&store, "/a").await;
    let anonymous = EtcdOptions { cert_file: None, key_file: None, ..process.options() };
    let Err(error) = Etcd::connect(&anonymous).await else { panic!("connected without a certificate") };
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    let half = EtcdOptions { key_file: None, ..process.options() };
    let Err(error) = Etcd::connect(&half).await else { panic!("connected with half a certificate") };
    assert_eq!(
        error.to_string(),
        "storage failed: a client certificate for etcd needs both --etcd-certfile and --etcd-keyfile"
    );
    let missing = EtcdOptions { ca_file: Some("/nowhere/ca.pem".into()), ..process.options() };
    let Err(error) = Etcd::connect(&missing).await else { panic!("connected without an authority") };
    assert_eq!(error.to_string(), "storage failed: can't read /nowhere/ca.pem: No such file or directory (os error 2)");
}
