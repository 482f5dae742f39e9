//! Events about objects, written in the background.
//!
//! [`Recorder::event`] never waits: it puts a note into a bounded queue and drops it (counted) if that is full. The
//! task that [`Recorder::start`] spawns writes core `v1` Events as client-go does: repeats raise `count`, many similar
//! ones are combined, and one object cannot flood the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::{Metadata, Resource};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use process::Clock;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Error;

mod correlate;
use correlate::{Correlator, Verdict};

/// How many events may wait to be written.
const QUEUE: usize = 4096;
/// How often writing one event is tried while the API is in trouble, and the first wait; it doubles.
const TRIES: u32 = 5;
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// For information.
    Normal,
    /// Something may be wrong.
    Warning,
}

impl EventType {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    object: ObjectReference,
    event_type: EventType,
    reason: String,
    message: String,
    /// Set for events of the newer shape (events.k8s.io), as the scheduler writes them.
    action: Option<String>,
}

/// Records events of one component; clones share the queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the writing task. `host` is the node, for components that belong to one, else empty.
    pub fn start(
        client: kube::Client,
        component: &str,
        host: &str,
        clock: Clock,
        tasks: &mut JoinSet<()>,
        token: CancellationToken,
    ) -> Self {
        let (notes, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
            clock,
            correlator: Correlator::default(),
            sequence: 0,
        };
        tasks.spawn(writer.run(queue, token));
        Self { notes, dropped: Arc::default() }
    }

    /// Records that something happened to the object.
    pub fn event(&self, object: &ObjectReference, event_type: EventType, reason: &str, message: impl Into<String>) {
        self.note(object, event_type, reason, None, message.into());
    }

    /// The same in the shape of events.k8s.io, which names the action that was tried.
    pub fn event_of_action(
        &self,
        object: &ObjectReference,
        event_type: EventType,
        reason: &str,
        action: &str,
        message: impl Into<String>,
    ) {
        self.note(object, event_type, reason, Some(action.to_owned()), message.into());
    }

    /// How many events were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn note(
        &self,
        object: &ObjectReference,
        event_type: EventType,
        reason: &str,
        action: Option<String>,
        message: String,
    ) {
        let note = Note { object: object.clone(), event_type, reason: reason.to_owned(), message, action };
        if self.notes.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A reference to an object, for events about it.
pub fn reference<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Writer {
    client: kube::Client,
    component: String,
    host: String,
    clock: Clock,
    correlator: Correlator,
    sequence: u64,
}

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>, token: CancellationToken) {
        loop {
            let note = tokio::select! {
                biased;
                () = token.cancelled() => return,
                note = notes.recv() => note,
            };
            let Some(note) = note else { return };
            let written = tokio::select! {
                biased;
                () = token.cancelled() => return,
                written = self.write(note) => written,
            };
            if let Err(error) = written {
                tracing::debug!(%error, "an event could not be written");
            }
        }
    }

    async fn write(&mut self, note: Note) -> Result<(), Error> {
        let now = self.clock.now();
        match self.correlator.judge(&note, now) {
            Verdict::Drop => Ok(()),
            Verdict::New { message } => self.create(&note, message).await,
            Verdict::Repeat { message, name, count } => {
                let seconds = Time(self.clock.now_seconds());
                let change = match note.action {
                    None => json!({"count": count, "lastTimestamp": seconds, "message": message}),
                    Some(_) => json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}}),
                };
                let events = self.api(&note.object);
                match events.patch(&name, &PatchParams::default(), &Patch::Strategic(change)).await {
                    Ok(_) => Ok(()),
                    Err(error) => match Error::from(error) {
                        // Its hour is over: it starts anew.
                        error if error.is_not_found() => {
                            self.correlator.forget(&note);
                            self.create(&note, message).await
                        }
                        error => Err(error),
                    },
                }
            }
        }
    }

    async fn create(&mut self, note: &Note, message: String) -> Result<(), Error> {
        let event = self.event(note, message);
        let (events, mut tries) = (self.api(&note.object), 1);
        loop {
            match events.create(&PostParams::default(), &event).await.map_err(Error::from) {
                Ok(_) => break,
                // An earlier try was done after all.
                Err(error) if tries > 1 && error.is_already_exists() => break,
                Err(error) if tries < TRIES && is_trouble(&error) => {
                    sleep(FIRST_RETRY * (1 << (tries - 1))).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
        self.correlator.written(note, event.metadata.name.unwrap_or_default());
        Ok(())
    }

    fn event(&mut self, note: &Note, message: String) -> Event {
        let now = self.clock.now();
        // Upstream uses nanoseconds; ours are exact to microseconds, the rest keeps names apart.
        self.sequence = (self.sequence + 1) % 1000;
        let stamp = now.as_nanosecond() + i128::from(self.sequence);
        let name = note.object.name.clone().unwrap_or_default();
        let metadata = ObjectMeta {
            name: Some(format!("{name}.{stamp:x}")),
            namespace: Some(namespace_of(&note.object)),
            ..ObjectMeta::default()
        };
        let seconds = Time(self.clock.now_seconds());
        let event = Event {
            metadata,
            involved_object: note.object.clone(),
            reason: Some(note.reason.clone()),
            message: Some(message),
            type_: Some(note.event_type.as_str().to_owned()),
            reporting_component: Some(self.component.clone()),
            ..Event::default()
        };
        match &note.action {
            None => Event {
                first_timestamp: Some(seconds.clone()),
                last_timestamp: Some(seconds),
                count: Some(1),
                reporting_instance: Some(self.host.clone()),
                source: Some(EventSource {
                    component: Some(self.component.clone()),
                    host: (!self.host.is_empty()).then(|| self.host.clone()),
                }),
                ..event
            },
            Some(action) => Event {
                action: Some(action.clone()),
                event_time: Some(MicroTime(now)),
                reporting_instance: Some(if self.host.is_empty() {
                    self.component.clone()
                } else {
                    format!("{}-{}", self.component, self.host)
                }),
                ..event
            },
        }
    }

    fn api(&self, object: &ObjectReference) -> Api<Event> {
        Api::namespaced(self.client.clone(), &namespace_of(object))
    }
}

/// Whether the API may be better soon; a refusal stays one.
fn is_trouble(error: &Error) -> bool {
    error.is_outcome_unknown() || error.api().is_some_and(|e| e.code >= 500 || e.code == 429)
}

/// Events about cluster-scoped objects live in the namespace default.
fn namespace_of(object: &ObjectReference) -> String {
    let namespace = object.namespace.clone().filter(|n| !n.is_empty());
    namespace.unwrap_or_else(|| api::well_known::namespaces::DEFAULT.to_owned())
}
