//! What a watcher receives, and what the ring keeps: a change, and how it looks to those who did or did not see the object before.
//!
//! Invariant: an event is encoded at most once, whoever sends it first.

use std::sync::{Arc, OnceLock};

use api::names::Revision;
use bytes::Bytes;

use super::entry::Entry;
use super::selection::Selection;

/// The type of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Created, or begins to match the selector.
    Added,
    /// Changed.
    Modified,
    /// Deleted, or stops to match the selector.
    Deleted,
    /// Everything up to the revision has been sent.
    Bookmark,
}

impl EventKind {
    /// As it is in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
            EventKind::Bookmark => "BOOKMARK",
        }
    }
}

/// One watch event; copies share the encoded form.
#[derive(Clone, Debug)]
pub struct Event {
    /// ADDED, MODIFIED, DELETED, BOOKMARK.
    pub kind: EventKind,
    /// The revision of the change; the watch can be continued from it.
    pub revision: Revision,
    /// The object; a DELETED event has its last state, as of the deletion's revision. None for bookmarks.
    pub entry: Option<Arc<Entry>>,
    encoded: Arc<Encoded>,
}

#[derive(Debug, Default)]
struct Encoded {
    frame: OnceLock<Bytes>,
    /// A bookmark's object.
    bookmark: Bytes,
}

impl Event {
    /// An event about an object.
    pub(super) fn new(kind: EventKind, entry: Arc<Entry>) -> Self {
        Self { kind, revision: entry.revision, entry: Some(entry), encoded: Arc::default() }
    }

    /// A bookmark; `initial_end` marks the end of the initial events.
    pub(super) fn bookmark(api_version: &str, kind: &str, revision: Revision, initial_end: bool) -> Self {
        let annotations = if initial_end { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
        let object = format!(
            r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{revision}"{annotations}}}}}"#
        );
        let encoded = Encoded { frame: OnceLock::new(), bookmark: object.into() };
        Self { kind: EventKind::Bookmark, revision, entry: None, encoded: Arc::new(encoded) }
    }

    /// The object as JSON.
    pub fn object(&self) -> Bytes {
        match &self.entry {
            Some(entry) => entry.json(),
            None => self.encoded.bookmark.clone(),
        }
    }

    /// The line `{"type":…,"object":…}` with its newline.
    pub fn frame(&self) -> Bytes {
        self.encoded.frame.get_or_init(|| self.encode()).clone()
    }

    fn encode(&self) -> Bytes {
        let length = self.entry.as_ref().map_or(self.encoded.bookmark.len(), |entry| entry.json_len());
        let mut frame = Vec::with_capacity(length + r#"{"type":"MODIFIED","object":}"#.len() + 1);
        frame.extend_from_slice(br#"{"type":""#);
        frame.extend_from_slice(self.kind.as_str().as_bytes());
        frame.extend_from_slice(br#"","object":"#);
        match &self.entry {
            Some(entry) => entry.append_to(&mut frame),
            None => frame.extend_from_slice(&self.encoded.bookmark),
        }
        frame.extend_from_slice(b"}\n");
        frame.into()
    }
}

/// A change of one object: what it was and what it is.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) revision: Revision,
    pub(super) previous: Option<Arc<Entry>>,
    pub(super) current: Option<Arc<Entry>>,
    added: OnceLock<Event>,
    modified: OnceLock<Event>,
    deleted: OnceLock<Event>,
}

impl Recorded {
    /// A change; at least one side must be there.
    pub(super) fn new(revision: Revision, previous: Option<Arc<Entry>>, current: Option<Arc<Entry>>) -> Self {
        Self {
            revision,
            previous,
            current,
            added: OnceLock::new(),
            modified: OnceLock::new(),
            deleted: OnceLock::new(),
        }
    }

    /// The key of the object.
    pub(super) fn key(&self) -> Option<&Arc<str>> {
        self.current.as_ref().or(self.previous.as_ref()).map(|entry| &entry.key)
    }

    /// How the change looks through a selector; none if it does not show.
    pub(super) fn seen_through(&self, selection: &Selection) -> Option<Event> {
        let before = self.previous.as_ref().filter(|entry| selection.matches(entry));
        let after = self.current.as_ref().filter(|entry| selection.matches(entry));
        let event = match (before, after) {
            (None, None) => return None,
            (None, Some(entry)) => self.added.get_or_init(|| Event::new(EventKind::Added, Arc::clone(entry))),
            (Some(_), Some(entry)) => self.modified.get_or_init(|| Event::new(EventKind::Modified, Arc::clone(entry))),
            (Some(entry), None) => {
                self.deleted.get_or_init(|| Event::new(EventKind::Deleted, Arc::new(entry.at(self.revision))))
            }
        };
        Some(event.clone())
    }

    /// About how much memory it keeps.
    pub(super) fn size(&self) -> usize {
        let size = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.json_len());
        size(&self.previous) + size(&self.current)
    }
}
