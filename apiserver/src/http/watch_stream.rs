//! A watch as an endless answer: one line of JSON for each event, or one message of protobuf. Entry points: [`response`], and
//! [`socket`] for a WebSocket.
//!
//! Whole objects in JSON are frames that all watchers share. The stream ends at its deadline, when the server drains, when the
//! client is too slow, or when the cache starts over; the client then begins anew from its last version.

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::answer::{self, Form, Include};
use super::media::{Accepted, Format, Shape};
use super::watch_socket;
use crate::cache::{Event, EventKind, Watcher};
use crate::read::Started;
use crate::resources::{Strategy, custom};

/// How often an idle watch says how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The last bookmark comes this long before the deadline.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Events that come this soon after the last ones were sent are gathered and sent together: a busy watch costs a write and a wake-up
/// for each millisecond, not for each event, and the first event after a pause goes out at once.
const GATHER: Duration = Duration::from_millis(1);
/// About as much is sent at once.
const MOST_AT_ONCE: usize = 64 * 1024;

/// What a watch needs besides its events.
pub struct WatchForm {
    /// The kind.
    pub strategy: Arc<dyn Strategy>,
    /// What was negotiated.
    pub accepted: Accepted,
    /// What rows of tables carry.
    pub include: Include,
    /// For ages in tables.
    pub clock: process::Clock,
    /// Whether bookmarks are welcome.
    pub bookmarks: bool,
    /// How long it lasts.
    pub lasts: Duration,
    /// Ends all watches.
    pub draining: CancellationToken,
}

/// The answer to a watch.
pub fn response(started: Started, form: WatchForm) -> Response {
    let content_type = match form.accepted.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Format::Json | Format::PrettyJson | Format::Yaml => "application/json",
    };
    let mut response = answer::text(200, Bytes::new());
    *response.body_mut() = Body::from_stream(frames(started, form));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// As [`response`], for a client that wants messages of its own.
pub async fn socket(started: Started, form: WatchForm, parts: &Parts) -> Result<Response, ApiError> {
    let format = form.accepted.format;
    watch_socket::response(parts, frames(started, form), format).await
}

/// All frames of a watch.
fn frames(
    started: Started,
    form: WatchForm,
) -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
    match started {
        Started::Watching(watcher) => events(watcher, form).left_stream(),
        Started::Failed(error) => {
            let frame = error_frame(&error, form.accepted);
            stream::once(std::future::ready(Ok(frame))).right_stream()
        }
    }
}

struct Stream {
    watcher: Watcher,
    form: WatchForm,
    /// Done when the server drains; kept, so that waiting for each event costs no registration.
    drained: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
    bookmarks: Interval,
    last_bookmark: Instant,
    deadline: std::pin::Pin<Box<Sleep>>,
    headings: bool,
    /// Until then events are gathered.
    gather_until: Instant,
    ended: bool,
}

fn events(
    watcher: Watcher,
    form: WatchForm,
) -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
    let start = Instant::now();
    let end = start + form.lasts;
    let first = BOOKMARK_EVERY.min(form.lasts.saturating_sub(BOOKMARK_BEFORE_END));
    let mut bookmarks = interval_at(start + first, BOOKMARK_EVERY);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let last_bookmark = end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(start);
    let deadline = Box::pin(sleep_until(end));
    let drained = Box::pin(form.draining.clone().cancelled_owned());
    let state = Stream {
        watcher,
        form,
        drained,
        bookmarks,
        last_bookmark,
        deadline,
        headings: true,
        gather_until: start,
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        let frame = state.next().await?;
        Some((Ok(frame), state))
    })
    .fuse()
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            // Before an event is waited for: so a busy watch is woken once for all that were gathered.
            if Instant::now() < self.gather_until {
                sleep_until(self.gather_until).await;
            }
            tokio::select! {
                biased;
                () = &mut self.drained => return None,
                event = self.watcher.next() => {
                    let frame = self.frame(&event?).await?;
                    let frames = self.with_waiting(frame).await;
                    if frames.len() < MOST_AT_ONCE {
                        self.gather_until = Instant::now() + GATHER;
                    }
                    return Some(frames);
                }
                () = &mut self.deadline => return None,
                _ = self.bookmarks.tick(), if self.form.bookmarks => {
                    self.plan_last_bookmark();
                    if let Some(event) = self.watcher.bookmark() {
                        return self.frame(&event).await;
                    }
                }
            }
        }
    }

    /// A frame and those that wait behind it, sent at once: a watch that is behind catches up with few writes.
    async fn with_waiting(&mut self, frame: Bytes) -> Bytes {
        let Some(second) = self.watcher.waiting() else { return frame };
        let mut frames = Vec::with_capacity(frame.len() * 4);
        frames.extend_from_slice(&frame);
        let mut next = Some(second);
        while let Some(event) = next.take() {
            let Some(frame) = self.frame(&event).await else {
                self.ended = true;
                break;
            };
            frames.extend_from_slice(&frame);
            if frames.len() < MOST_AT_ONCE && !self.ended {
                next = self.watcher.waiting();
            }
        }
        frames.into()
    }

    /// The bookmark before the deadline comes even if no minute ends there.
    fn plan_last_bookmark(&mut self) {
        let now = Instant::now();
        if now < self.last_bookmark && self.last_bookmark < now + BOOKMARK_EVERY {
            self.bookmarks.reset_at(self.last_bookmark);
        }
    }

    /// The event as a line; an event that can't be shown ends the watch.
    async fn frame(&mut self, event: &Event) -> Option<Bytes> {
        let strategy = Arc::clone(&self.form.strategy);
        let stored = strategy.served_as().is_none() && !strategy.converts_reads();
        let accepted = self.form.accepted;
        if stored && accepted.shape == Shape::Object && accepted.format != Format::Protobuf {
            return Some(event.frame());
        }
        let object = match event.kind {
            EventKind::Bookmark => Ok(event.object()),
            _ => custom::served(strategy.as_ref(), vec![event.object()])
                .await
                .map(|objects| objects.into_iter().next().unwrap_or_default()),
        };
        if let (Ok(object), Shape::Metadata(version) | Shape::MetadataList(version), Format::Json) =
            (&object, accepted.shape, accepted.format)
        {
            return Some(json_frame(event.kind.as_str(), answer::metadata_text(object, version)));
        }
        match object.and_then(|object| self.shaped(event, &object)) {
            Ok(object) => {
                self.headings = false;
                frame(event.kind.as_str(), &object, accepted)
            }
            Err(error) => {
                self.ended = true;
                Some(error_frame(&error, accepted))
            }
        }
    }

    fn shaped(&self, event: &Event, bytes: &Bytes) -> Result<Value, ApiError> {
        let form = Form {
            strategy: self.form.strategy.as_ref(),
            accepted: self.form.accepted,
            include: self.form.include,
            now: self.form.clock.now(),
        };
        match self.form.accepted.shape {
            Shape::Metadata(version) | Shape::MetadataList(version) => Ok(answer::metadata_only(bytes, version)),
            Shape::Object if event.kind == EventKind::Bookmark => Ok(bookmark_of(form.strategy, bytes)),
            Shape::Object => answer::served_value(form.strategy, bytes),
            Shape::Table(version) => {
                let meta = json!({"resourceVersion": event.revision.to_string()});
                form.tables(version).table(meta, &[bytes.as_ref()], self.headings)
            }
        }
    }
}

/// A bookmark names the served kind.
fn bookmark_of(strategy: &dyn Strategy, bytes: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    value["kind"] = Value::from(strategy.info().kind.as_str());
    value["apiVersion"] = Value::from(strategy.info().api_version());
    value
}

/// One event as it is sent; none if the object has no form in the client's format.
fn frame(kind: &str, object: &Value, accepted: Accepted) -> Option<Bytes> {
    match accepted.format {
        Format::Protobuf => answer::protobuf::frame(kind, object),
        Format::Json | Format::PrettyJson | Format::Yaml => Some(json_frame(kind, object)),
    }
}

fn json_frame(kind: &str, object: impl std::fmt::Display) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

fn error_frame(error: &ApiError, accepted: Accepted) -> Bytes {
    frame("ERROR", &answer::status_value(error), accepted).unwrap_or_default()
}
