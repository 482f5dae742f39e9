//! The change feed over an etcd watch.
//!
//! When somebody has read a newer revision than the feed has delivered and no event comes, the feed makes etcd tell how far it
//! is: by a request for progress, or, where etcd answers that out of order, by writing and deleting a key of its own in the
//! watched range (another program has written elsewhere; alone we never get here). Invariant: a batch never ends within a revision.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::names::Revision;
use etcd_client::{Client, Error, Event, EventType, WatchOptions, WatchResponse, WatchStream};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::super::{Change, Feed, StorageError};
use super::{CALL, Failure, KEEP_ALIVE, MESSAGE_BYTES, end_of, header_revision, key_value, signed};

/// How long events may take before progress is asked for.
const GRACE: Duration = Duration::from_millis(20);
/// How long an answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_secs(1);
/// The key that is written to see it come back; no object has such a name.
const MARKER: &str = ".progress";

/// The newest revision that somebody waits for.
#[derive(Default)]
pub(super) struct Wanted {
    revision: AtomicU64,
    raised: Notify,
}

impl Wanted {
    /// Somebody waits for this revision.
    pub(super) fn raise(&self, revision: Revision) {
        if self.revision.fetch_max(revision.0, Ordering::SeqCst) < revision.0 {
            self.raised.notify_waiters();
        }
    }

    async fn beyond(&self, delivered: Revision) {
        loop {
            let mut raised = pin!(self.raised.notified());
            raised.as_mut().enable();
            if self.revision.load(Ordering::SeqCst) > delivered.0 {
                return;
            }
            raised.await;
        }
    }
}

/// Opens a feed of the changes after a revision.
pub(super) async fn open(
    client: &Client,
    endpoints: &str,
    prefix: &str,
    after: Revision,
    wanted: Arc<Wanted>,
    ordered_progress: bool,
) -> Result<BoxStream<'static, Result<Feed, StorageError>>, StorageError> {
    let options = WatchOptions::new()
        .with_range(end_of(prefix))
        .with_start_revision(signed(after) + 1)
        .with_fragment()
        .with_progress_notify();
    let mut watch = client.watch_client().max_decoding_message_size(MESSAGE_BYTES);
    let opened = timeout(CALL, watch.watch(prefix, Some(options))).await;
    let opened = opened.map_err(|_| {
        StorageError::Unavailable(format!("etcd at {endpoints} does not answer a watch within {CALL:?}"))
    })?;
    let follower = Follower {
        stream: opened.map_err(|error| lost(endpoints, &error))?,
        client: client.clone(),
        endpoints: endpoints.to_owned(),
        marker: format!("{prefix}{MARKER}"),
        delivered: after,
        fragments: Vec::new(),
        wanted,
        ordered_progress,
    };
    Ok(stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(feed) => Some((Ok(feed), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

/// The oldest revision that etcd has, learned from its refusal to watch from a compacted one.
pub(super) async fn oldest(client: &Client, compacted: Revision) -> Result<Revision, StorageError> {
    let unknown = || StorageError::Unavailable("etcd does not tell what it has compacted".into());
    let ask = async {
        let options = WatchOptions::new().with_start_revision(signed(compacted).max(1));
        let mut stream = client.watch_client().watch(MARKER, Some(options)).await.ok()?;
        while let Some(response) = stream.message().await.ok()? {
            if response.canceled() {
                return u64::try_from(response.compact_revision()).ok();
            }
        }
        None
    };
    let oldest = timeout(CALL, ask).await.ok().flatten().ok_or_else(unknown)?;
    Ok(Revision(oldest))
}

struct Follower {
    stream: WatchStream,
    client: Client,
    endpoints: String,
    marker: String,
    delivered: Revision,
    /// Events of a response that goes on.
    fragments: Vec<Change>,
    wanted: Arc<Wanted>,
    ordered_progress: bool,
}

impl Follower {
    async fn next(&mut self) -> Result<Feed, StorageError> {
        let mut patience = GRACE;
        loop {
            let wanted = Arc::clone(&self.wanted);
            let delivered = self.delivered;
            let asks = async {
                wanted.beyond(delivered).await;
                sleep(patience).await;
            };
            let response = tokio::select! {
                biased;
                response = self.stream.message() => Some(response),
                () = asks => None,
            };
            match response {
                Some(Ok(Some(response))) => {
                    if let Some(feed) = self.take(response)? {
                        self.delivered = feed.revision();
                        return Ok(feed);
                    }
                }
                Some(Ok(None)) => {
                    return Err(StorageError::Unavailable(format!("etcd at {} ended the watch", self.endpoints)));
                }
                Some(Err(error)) => return Err(lost(&self.endpoints, &error)),
                None => {
                    self.ask_for_progress().await?;
                    patience = ANSWER;
                }
            }
        }
    }

    fn take(&mut self, response: WatchResponse) -> Result<Option<Feed>, StorageError> {
        if response.canceled() {
            return Err(match u64::try_from(response.compact_revision()) {
                Ok(oldest) if oldest > 0 => StorageError::Compacted { oldest: Revision(oldest) },
                _ => StorageError::Unavailable(format!(
                    "etcd at {} cancelled the watch: {}",
                    self.endpoints,
                    response.cancel_reason()
                )),
            });
        }
        if response.created() {
            return Ok(None);
        }
        let reached = header_revision(response.header());
        let Some(last) = response
            .events()
            .last()
            .and_then(Event::kv)
            .map(|item| Revision(u64::try_from(item.mod_revision()).unwrap_or(0)))
        else {
            return Ok((reached > self.delivered).then_some(Feed::Progress(reached)));
        };
        self.fragments.extend(response.events().iter().filter_map(change).filter(|change| change.key() != self.marker));
        if response.0.fragment {
            return Ok(None);
        }
        let changes = std::mem::take(&mut self.fragments);
        Ok(Some(if changes.is_empty() { Feed::Progress(last) } else { Feed::Changes(changes) }))
    }

    async fn ask_for_progress(&mut self) -> Result<(), StorageError> {
        let (client, marker) = (&self.client, self.marker.as_str());
        let asked = async {
            if self.ordered_progress {
                return self.stream.request_progress().await;
            }
            let mut kv = client.kv_client();
            kv.put(marker, "", None).await?;
            kv.delete(marker, None).await?;
            Ok(())
        };
        match timeout(KEEP_ALIVE.1, asked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lost(&self.endpoints, &error)),
            Err(_) => Err(StorageError::Unavailable(format!("etcd at {} does not answer", self.endpoints))),
        }
    }
}

fn lost(endpoints: &str, error: &Error) -> StorageError {
    match Failure::from_call(endpoints, error) {
        Failure::Other(error) => error,
        failure @ (Failure::Compacted | Failure::Future | Failure::NoLease) => {
            StorageError::Unavailable(format!("etcd at {endpoints}: {failure:?}"))
        }
    }
}

fn change(event: &Event) -> Option<Change> {
    let item = key_value(event.kv()?.clone())?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(item),
        EventType::Delete => Change::Delete { key: item.key, revision: item.revision },
    })
}
