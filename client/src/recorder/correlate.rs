//! Which events are new, which repeat an old one, and which are too many; the numbers are client-go's.
//!
//! Pure but for its own memory, which is bounded: time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::Note;

/// Different messages with one reason about one object, within the interval, before they are combined.
const SIMILAR: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
/// An object may have this many events at once, and one more every five minutes.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// How many subjects are remembered; beyond that the whole memory starts anew.
const MEMORY: usize = 4096;

/// What to do with an event.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing: the object has had too many.
    Drop,
    /// Write a new one.
    New { message: String },
    /// Raise the count of the one of this name.
    Repeat { message: String, name: String, count: i32 },
}

/// Object, type and reason of an event.
type Subject = (String, String, &'static str, String);

#[derive(Default)]
pub(super) struct Correlator {
    buckets: BTreeMap<String, (f64, Timestamp)>,
    similar: BTreeMap<Subject, (BTreeSet<String>, Timestamp)>,
    written: BTreeMap<(Subject, String), (String, i32)>,
}

impl Correlator {
    pub(super) fn judge(&mut self, note: &Note, now: Timestamp) -> Verdict {
        if self.written.len() + self.similar.len() + self.buckets.len() > 3 * MEMORY {
            *self = Self::default();
        }
        // The newer shape has no spam filter upstream either; its writers are few.
        if note.action.is_none() && !self.may_write(&object(note), now) {
            return Verdict::Drop;
        }
        let message = self.message(note, now);
        match self.written.get_mut(&identity(note, &message)) {
            Some((name, count)) => {
                *count += 1;
                Verdict::Repeat { message, name: name.clone(), count: *count }
            }
            None => Verdict::New { message },
        }
    }

    /// The event was written under this name.
    pub(super) fn written(&mut self, note: &Note, name: String) {
        let combined = self.is_combined(note);
        let message = if combined { combine(note) } else { note.message.clone() };
        self.written.insert(identity(note, &message), (name, 1));
    }

    /// The event that this one would repeat is gone.
    pub(super) fn forget(&mut self, note: &Note) {
        let combined = combine(note);
        self.written.remove(&identity(note, &note.message));
        self.written.remove(&identity(note, &combined));
    }

    fn message(&mut self, note: &Note, now: Timestamp) -> String {
        let (messages, since) = self.similar.entry(subject(note)).or_insert_with(|| (BTreeSet::new(), now));
        if now.as_second() - since.as_second() > SIMILAR_SECONDS {
            (*messages, *since) = (BTreeSet::new(), now);
        }
        if messages.len() <= SIMILAR {
            messages.insert(note.message.clone());
        }
        if messages.len() > SIMILAR { combine(note) } else { note.message.clone() }
    }

    fn is_combined(&self, note: &Note) -> bool {
        self.similar.get(&subject(note)).is_some_and(|(messages, _)| messages.len() > SIMILAR)
    }

    fn may_write(&mut self, object: &str, now: Timestamp) -> bool {
        let (tokens, at) = self.buckets.entry(object.to_owned()).or_insert((BURST, now));
        let passed = (now.as_millisecond() - at.as_millisecond()) as f64 / 1000.0;
        (*tokens, *at) = ((*tokens + passed.max(0.0) / REFILL_SECONDS).min(BURST), now);
        let enough = *tokens >= 1.0;
        if enough {
            *tokens -= 1.0;
        }
        enough
    }
}

fn combine(note: &Note) -> String {
    format!("(combined from similar events): {}", note.message)
}

fn object(note: &Note) -> String {
    let part = |field: &Option<String>| field.clone().unwrap_or_default();
    let object = &note.object;
    [&object.kind, &object.namespace, &object.name, &object.uid, &object.api_version, &object.field_path]
        .map(part)
        .join("/")
}

fn subject(note: &Note) -> Subject {
    (object(note), note.action.clone().unwrap_or_default(), note.event_type.as_str(), note.reason.clone())
}

/// What makes two events the same. The newer shape ignores the message, and so do combined events.
fn identity(note: &Note, message: &str) -> (Subject, String) {
    let text = if note.action.is_some() {
        ""
    } else if message == note.message {
        message
    } else {
        "(combined)"
    };
    (subject(note), text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::EventType;
    use super::*;

    fn note(message: &str) -> Note {
        Note {
            object: Default::default(),
            event_type: EventType::Normal,
            reason: "R".to_owned(),
            message: message.to_owned(),
            action: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn record(correlator: &mut Correlator, message: &str, second: i64) -> Verdict {
        let note = note(message);
        let verdict = correlator.judge(&note, at(second));
        if let Verdict::New { .. } = verdict {
            correlator.written(&note, format!("e{message}"));
        }
        verdict
    }

    #[test]
    fn repeats_are_counted() {
        let mut correlator = Correlator::default();
        assert_eq!(record(&mut correlator, "a", 0), Verdict::New { message: "a".into() });
        let repeat = |count| Verdict::Repeat { message: "a".into(), name: "ea".into(), count };
        assert_eq!(record(&mut correlator, "a", 1), repeat(2));
        assert_eq!(record(&mut correlator, "a", 2), repeat(3));
        correlator.forget(&note("a"));
        assert_eq!(record(&mut correlator, "a", 3), Verdict::New { message: "a".into() });
    }

    #[test]
    fn many_similar_ones_are_combined() {
        let mut correlator = Correlator::default();
        for i in 0..10 {
            assert!(matches!(record(&mut correlator, &i.to_string(), 0), Verdict::New { .. }));
        }
        let combined = |m: &str| format!("(combined from similar events): {m}");
        assert_eq!(record(&mut correlator, "10", 0), Verdict::New { message: combined("10") });
        let Verdict::Repeat { message, count, .. } = record(&mut correlator, "11", 0) else { panic!("a repeat") };
        assert_eq!((message, count), (combined("11"), 2));
    }

    #[test]
    fn one_object_cannot_flood() {
        let mut correlator = Correlator::default();
        let written = (0..100).filter(|_| record(&mut correlator, "a", 0) != Verdict::Drop).count();
        assert_eq!(written, 25);
        assert_eq!(record(&mut correlator, "a", 299), Verdict::Drop);
        assert_ne!(record(&mut correlator, "a", 301), Verdict::Drop);
    }
}
