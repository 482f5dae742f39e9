//! The store in a real etcd, which other programs and other API servers may write to at the same time.
//!
//! One key is one etcd key, a revision is etcd's; a commit is a transaction that compares `mod_revision`. Reads are retried a few
//! times when etcd is away; a commit is never sent twice: if its outcome is unknown, it is reported as unavailable. Invariant: the
//! feed tells progress only where etcd guarantees that all earlier events have been sent.

mod feed;
mod leases;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::names::Revision;
use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, GetResponse, Identity, PutOptions,
    TlsOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use futures::stream::BoxStream;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use self::feed::Wanted;
use self::leases::Leases;
use super::{Expect, Feed, KeyValue, Listed, Outcome, Storage, StorageError, Write};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(5);
/// Pauses before a read is tried again.
const RETRIES: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];
/// Keys that one call for a whole prefix reads.
const PAGE: usize = 1000;
/// gRPC's own limit of 4 MiB is less than a page may have.
const MESSAGE_BYTES: usize = i32::MAX as usize;
/// After this long without a word from etcd the connection is tested, and given up if there is no answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

const COMPACTED: &str = "required revision has been compacted";
const FUTURE: &str = "required revision is a future revision";
const NO_LEASE: &str = "requested lease not found";

/// gRPC codes of a call that was refused for good: invalid argument, permission denied, resource exhausted, unauthenticated.
const REFUSED: [i32; 4] = [3, 7, 8, 16];

/// Where etcd is and how to prove who we are.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `https://host:2379`, …
    pub endpoints: Vec<String>,
    /// PEM file of the authority that signed etcd's certificate.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our client certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
}

/// See the module's documentation.
pub struct Etcd {
    client: Client,
    endpoints: String,
    leases: Leases,
    wanted: Arc<Wanted>,
    /// Whether this etcd answers a request for progress in order with the events.
    ordered_progress: OnceCell<bool>,
}

impl Etcd {
    /// Connects and makes sure that etcd answers.
    pub async fn connect(options: &EtcdOptions) -> Result<Self, StorageError> {
        let endpoints = options.endpoints.join(",");
        let connect = connect_options(options)?;
        let client = Client::connect(&options.endpoints, Some(connect))
            .await
            .map_err(|error| unavailable(&endpoints, &error))?;
        let etcd = Self {
            leases: Leases::new(client.lease_client()),
            client,
            endpoints,
            wanted: Arc::default(),
            ordered_progress: OnceCell::new(),
        };
        etcd.revision().await?;
        Ok(etcd)
    }

    /// Calls for something that changes nothing, again if etcd is away.
    async fn read<T, F: Future<Output = Result<T, Error>>>(&self, call: impl Fn() -> F) -> Result<T, Failure> {
        let mut pauses = RETRIES.iter();
        loop {
            let failure = match timeout(CALL, call()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::from_call(&self.endpoints, &error),
                Err(_) => Failure::Other(self.timed_out()),
            };
            match (&failure, pauses.next()) {
                (Failure::Other(StorageError::Unavailable(_)), Some(pause)) => sleep(*pause).await,
                _ => return Err(failure),
            }
        }
    }

    fn timed_out(&self) -> StorageError {
        StorageError::Unavailable(format!("etcd at {} does not answer within {CALL:?}", self.endpoints))
    }

    async fn range(&self, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, Failure> {
        self.read(|| {
            let mut kv = self.client.kv_client().max_decoding_message_size(MESSAGE_BYTES);
            let (key, options) = (key.clone(), options.clone());
            async move { kv.get(key, Some(options)).await }
        })
        .await
    }

    /// Adds to etcd's bare refusal of a revision what the contract promises to tell.
    async fn explain(&self, failure: Failure, asked: Revision) -> StorageError {
        let explained = match failure {
            Failure::Compacted => {
                feed::oldest(&self.client, asked).await.map(|oldest| StorageError::Compacted { oldest })
            }
            Failure::Future => self.revision().await.map(|newest| StorageError::Future { newest }),
            Failure::NoLease => Ok(StorageError::Failed(format!("etcd: {NO_LEASE}"))),
            Failure::Other(error) => Ok(error),
        };
        explained.unwrap_or_else(|error| error)
    }

    /// One page of at most `limit` keys from `start` on to the end of the prefix.
    async fn page(
        &self,
        prefix: &str,
        start: Vec<u8>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listed, StorageError> {
        let mut options = GetOptions::new().with_range(end_of(prefix)).with_limit(limit as i64);
        if let Some(at) = at {
            options = options.with_revision(signed(at));
        }
        let mut answer = match self.range(start, options).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.explain(failure, at.unwrap_or_default()).await),
        };
        let count = u64::try_from(answer.count()).unwrap_or(0);
        let revision = at.unwrap_or(header_revision(answer.header()));
        let items: Vec<KeyValue> = answer.take_kvs().into_iter().filter_map(key_value).collect();
        Ok(Listed { remaining: count.saturating_sub(items.len() as u64), items, revision })
    }

    async fn transact(&self, key: &str, expect: Expect, write: &Write) -> Result<TxnResponse, Failure> {
        let known = match expect {
            Expect::Absent => 0,
            Expect::Revision(revision) => signed(revision),
        };
        let operation = match write {
            Write::Delete => TxnOp::delete(key, None),
            Write::Put { value, ttl: None } => TxnOp::put(key, value.as_ref(), None),
            Write::Put { value, ttl: Some(ttl) } => {
                let lease =
                    timeout(CALL, self.leases.lasting(*ttl)).await.map_err(|_| Failure::Other(self.timed_out()))?;
                let lease = lease.map_err(|error| Failure::from_call(&self.endpoints, &error))?;
                TxnOp::put(key, value.as_ref(), Some(PutOptions::new().with_lease(lease)))
            }
        };
        let transaction = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, known)])
            .and_then([operation])
            .or_else([TxnOp::get(key, None)]);
        let mut kv = self.client.kv_client().max_decoding_message_size(MESSAGE_BYTES);
        match timeout(CALL, kv.txn(transaction)).await {
            Ok(answer) => answer.map_err(|error| Failure::from_call(&self.endpoints, &error)),
            Err(_) => Err(Failure::Other(self.timed_out())),
        }
    }

    /// Old versions answer a request for progress before events that are still on their way (etcd issue 15220).
    async fn has_ordered_progress(&self) -> bool {
        let ask = || async {
            let status = self.read(|| {
                let mut maintenance = self.client.maintenance_client();
                async move { maintenance.status().await }
            });
            status.await.map(|status| orders_progress(status.version()))
        };
        self.ordered_progress.get_or_try_init(ask).await.copied().unwrap_or(false)
    }
}

#[async_trait]
impl Storage for Etcd {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StorageError> {
        match self.range(key.into(), GetOptions::new()).await {
            Ok(mut answer) => Ok((answer.take_kvs().pop().and_then(key_value), header_revision(answer.header()))),
            Err(failure) => Err(self.explain(failure, Revision(0)).await),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listed, StorageError> {
        let start = |after: Option<&str>| after.filter(|after| *after >= prefix).map_or_else(|| prefix.into(), behind);
        if limit > 0 {
            return self.page(prefix, start(after), limit, at).await;
        }
        let mut listed = self.page(prefix, start(after), PAGE, at).await?;
        while listed.remaining > 0 {
            let last = listed.items.last().map(|item| item.key.clone());
            let more = self.page(prefix, start(last.as_deref()), PAGE, Some(listed.revision)).await?;
            if more.items.is_empty() {
                break;
            }
            listed.items.extend(more.items);
            listed.remaining = more.remaining;
        }
        Ok(listed)
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn commit(&self, key: &str, expect: Expect, write: Write) -> Result<Outcome, StorageError> {
        let mut answer = self.transact(key, expect, &write).await;
        if matches!(answer, Err(Failure::NoLease)) {
            // It has expired since it was shared; nothing was written.
            self.leases.forget();
            answer = self.transact(key, expect, &write).await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(self.explain(failure, Revision(0)).await),
        };
        if answer.succeeded() {
            return Ok(Outcome::Committed(header_revision(answer.header())));
        }
        let found = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        });
        Ok(Outcome::Conflict(found.and_then(key_value)))
    }

    async fn revision(&self) -> Result<Revision, StorageError> {
        match self.range("/".into(), GetOptions::new().with_keys_only()).await {
            Ok(answer) => {
                let revision = header_revision(answer.header());
                self.wanted.raise(revision);
                Ok(revision)
            }
            Err(Failure::Other(error)) => Err(error),
            Err(failure) => Err(StorageError::Failed(format!("etcd refuses to read: {failure:?}"))),
        }
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Feed, StorageError>>, StorageError> {
        let ordered = self.has_ordered_progress().await;
        feed::open(&self.client, &self.endpoints, prefix, after, Arc::clone(&self.wanted), ordered).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        let compacted = self
            .read(|| {
                let mut kv = self.client.kv_client();
                async move { kv.compact(signed(revision), None).await }
            })
            .await;
        match compacted {
            Ok(_) | Err(Failure::Compacted) => Ok(()),
            Err(failure) => Err(self.explain(failure, revision).await),
        }
    }
}

fn connect_options(options: &EtcdOptions) -> Result<ConnectOptions, StorageError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| StorageError::Failed(format!("can't read {}: {error}", path.display())))
    };
    let connect = ConnectOptions::new()
        .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
        .with_connect_timeout(CALL)
        .with_require_leader(true);
    let mut tls = TlsOptions::new();
    match (&options.ca_file, &options.cert_file, &options.key_file) {
        (None, None, None) => return Ok(connect),
        (_, Some(_), None) | (_, None, Some(_)) => {
            return Err(StorageError::Failed(
                "a client certificate for etcd needs both --etcd-certfile and --etcd-keyfile".into(),
            ));
        }
        (_, Some(cert), Some(key)) => tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?)),
        (_, None, None) => {}
    }
    if let Some(ca) = &options.ca_file {
        tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
    }
    Ok(connect.with_tls(tls))
}

/// How a call failed, before it is known which revision to tell.
#[derive(Debug)]
enum Failure {
    Compacted,
    Future,
    NoLease,
    Other(StorageError),
}

impl Failure {
    fn from_call(endpoints: &str, error: &Error) -> Self {
        let Error::GRpcStatus(status) = error else { return Self::Other(unavailable(endpoints, error)) };
        let message = status.message();
        if message.contains(COMPACTED) {
            Self::Compacted
        } else if message.contains(FUTURE) {
            Self::Future
        } else if message.contains(NO_LEASE) {
            Self::NoLease
        } else if REFUSED.contains(&(status.code() as i32)) {
            Self::Other(StorageError::Failed(message.to_owned()))
        } else {
            Self::Other(unavailable(endpoints, error))
        }
    }
}

fn unavailable(endpoints: &str, error: &Error) -> StorageError {
    let reason = match error {
        Error::GRpcStatus(status) => innermost(status),
        Error::TransportError(error) => innermost(error),
        error => error.to_string(),
    };
    StorageError::Unavailable(format!("etcd at {endpoints}: {reason}"))
}

/// The cause says more than "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether this version sends progress in order with events.
fn orders_progress(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    version >= (3, 5, 8) || ((3, 4, 25)..(3, 5, 0)).contains(&version)
}

fn key_value(found: etcd_client::KeyValue) -> Option<KeyValue> {
    let revision = Revision(u64::try_from(found.mod_revision()).ok()?);
    let (key, value) = found.into_key_value();
    // Our keys are text; another program's need not be.
    Some(KeyValue { key: String::from_utf8(key).ok()?, value: Bytes::from(value), revision })
}

fn header_revision(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision(header.and_then(|header| u64::try_from(header.revision()).ok()).unwrap_or(0))
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The first key behind this one.
fn behind(key: &str) -> Vec<u8> {
    let mut next = key.as_bytes().to_vec();
    next.push(0);
    next
}

/// The first key behind all that begin with the prefix.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // To etcd this is: to the end.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_ordered_progress() {
        let table = [
            ("3.4.23", false),
            ("3.4.25", true),
            ("3.5.0", false),
            ("3.5.7", false),
            ("3.5.8", true),
            ("3.6.0-rc.1", true),
            ("4.0.0", true),
            ("", false),
        ];
        for (version, expected) in table {
            assert_eq!(orders_progress(version), expected, "{version}");
        }
    }

    #[test]
    fn a_prefix_ends_before_the_next() {
        assert_eq!(end_of("/registry/"), b"/registry0");
        assert_eq!(end_of("/a\u{7f}"), b"/a\x80");
        assert_eq!(end_of(""), [0]);
    }
}
