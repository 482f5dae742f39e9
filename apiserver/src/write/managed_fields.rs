//! Who owns which fields of an object: `metadata.managedFields`, kept for every write. Entry point: [`update`], for all writes but
//! server-side apply (see [`super::apply`]).
//!
//! A write owns the fields that it changed, and takes them from all others; what vanishes, nobody owns. Everything here is a pure
//! function of the object before and after.

pub mod compare;
mod custom;
pub mod element;
pub mod entries;
pub mod fields;
pub mod shape;
pub mod sparse;
mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub use compare::{Changes, compare};
pub use custom::Custom;
pub use entries::{Entry, EntryError, Managed, Manager};
pub use fields::{Fields, Held};
pub use shape::Node;

/// Fields that nobody owns: the server or the request decides them.
const OWNERLESS: [&str; 12] = [
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];

/// The versions that a kind has, and how its objects look in each.
pub trait Versions: Sync {
    /// The type of the kind in a version; none if there is no such version.
    fn node(&self, version: &str) -> Option<Node<'_>>;
    /// An object in another version; none if it has none there.
    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>>;
    /// The object before it is created, in the version: what its type always writes.
    fn empty(&self, version: &str) -> Value;
}

/// A write, as field ownership sees it.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// The name of the field manager.
    pub manager: &'a str,
    /// The subresource that is written; empty for the object itself.
    pub subresource: &'a str,
    /// The version of the request.
    pub version: &'a str,
    /// When.
    pub now: Timestamp,
    /// What this write can't change: the status for writes of the object itself, all but the status for `/status`.
    pub ignored: &'a Fields,
    /// Paths of the only fields that the write can change; none if it is all but the ignored ones.
    pub only: &'a [&'a str],
    /// The kind.
    pub kind: &'a dyn Versions,
}

impl Write<'_> {
    /// Takes away what nobody can own.
    pub(super) fn strip(fields: &mut Fields) {
        static SET: OnceLock<Fields> = OnceLock::new();
        fields.subtract(SET.get_or_init(|| Fields::of_paths(OWNERLESS)));
    }

    /// What differs between two states in their version of the request, ignored fields left out.
    fn changes(&self, old: &Value, new: &Value) -> Option<Changes> {
        let mut changes = compare(self.kind.node(self.version)?, Some(old), Some(new));
        changes.ignore(self.ignored, self.only);
        Some(changes)
    }
}

/// What differs between two states of an object, in each version in which somebody owns fields of it.
pub(super) struct Versioned<'a> {
    write: &'a Write<'a>,
    old: &'a Value,
    new: &'a Value,
    known: BTreeMap<String, Option<Changes>>,
}

impl<'a> Versioned<'a> {
    pub(super) fn new(write: &'a Write<'a>, old: &'a Value, new: &'a Value) -> Self {
        let known = BTreeMap::from([(write.version.to_owned(), write.changes(old, new))]);
        Self { write, old, new, known }
    }

    /// The changes in a version; none if the kind does not have it any more.
    pub(super) fn at(&mut self, version: &str) -> Option<&Changes> {
        if !self.known.contains_key(version) {
            self.known.insert(version.to_owned(), self.convert(version));
        }
        self.known.get(version)?.as_ref()
    }

    fn convert(&self, version: &str) -> Option<Changes> {
        let Write { kind, ignored, only, .. } = self.write;
        let old = kind.convert(self.old, self.write.version, version)?;
        let new = kind.convert(self.new, self.write.version, version)?;
        let mut changes = compare(kind.node(version)?, Some(&old), Some(&new));
        changes.ignore(ignored, only);
        Some(changes)
    }

    /// The changes in the version of the request.
    fn own(mut self) -> Changes {
        self.known.remove(self.write.version).flatten().unwrap_or_default()
    }
}

/// The owners of an object's fields after a write that made `new` of `old`; both are in the version of the request and without
/// `metadata.managedFields`.
pub fn update(old: &Value, new: &Value, mut managed: Managed, write: &Write<'_>) -> Managed {
    let mut changes = Versioned::new(write, old, new);
    let manager = Manager::updater(write.manager, write.version, write.subresource);
    managed.retain(|entry| match changes.at(&entry.version) {
        Some(changes) => {
            entry.fields.subtract(&changes.removed);
            // The others it would get back.
            if entry.manager != manager {
                entry.fields.subtract(&changes.modified);
                entry.fields.subtract(&changes.added);
            }
            true
        }
        None => false,
    });
    let mut brought = changes.own().brought();
    Write::strip(&mut brought);
    if !brought.is_empty() {
        managed.grant(manager, write.version, brought, write.now);
    }
    managed.cap();
    managed
}

#[cfg(test)]
pub(crate) mod tests;
