//! [`Managed`]: who owns which fields, as `metadata.managedFields` keeps it. Entry points: [`Managed::decode`], [`Managed::encode`].
//!
//! Invariant: no two entries have the same [`Manager`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use k8s_openapi::jiff::Timestamp;

use super::fields::{Fields, Held};
use crate::resources::wire::packed;

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";
const FIELDS_V1: &str = "FieldsV1";
/// Entries of updates beyond this number are merged, the oldest first.
const MAX_UPDATERS: usize = 10;
/// Who owns what merged entries owned.
const ANCIENT: &str = "ancient-changes";

/// Why `metadata.managedFields` can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Neither of the two.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    Version,
    /// No type of the fields.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// An unknown type of the fields.
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    FieldsType(usize, String),
    /// Malformed fields.
    #[error("error decoding managed fields")]
    Fields,
}

/// Who owns fields, and how it came to them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// The field manager's name.
    pub name: String,
    /// By apply; otherwise by any other write.
    pub applies: bool,
    /// The version of the writes; empty for an applier, who has one entry for all versions.
    pub version: String,
    /// The subresource that was written; empty for the object itself.
    pub subresource: String,
}

impl Manager {
    /// Who changes an object by anything but apply; without a name it is unknown.
    pub fn updater(name: &str, version: &str, subresource: &str) -> Self {
        let name = if name.is_empty() { "unknown" } else { name };
        Self { name: name.to_owned(), applies: false, version: version.to_owned(), subresource: subresource.to_owned() }
    }

    /// Who applies.
    pub fn applier(name: &str, subresource: &str) -> Self {
        Self { name: name.to_owned(), applies: true, version: String::new(), subresource: subresource.to_owned() }
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub manager: Manager,
    /// The version that the names of the fields are of.
    pub version: String,
    /// The fields.
    pub fields: Held,
    /// When the manager last changed something.
    pub time: Option<Timestamp>,
}

/// Who owns which fields of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    entries: Vec<Entry>,
}

impl Managed {
    /// Reads the entries of a stored object.
    pub fn decode(entries: Vec<ManagedFieldsEntry>) -> Result<Self, EntryError> {
        Self::read(entries, Held::unread)
    }

    /// Reads the entries of an object that a client sent.
    pub fn decode_foreign(entries: Vec<ManagedFieldsEntry>) -> Result<Self, EntryError> {
        Self::read(entries, |text| Fields::from_foreign_json(serde_json::from_str(&text).ok()?).map(Held::from))
    }

    fn read(entries: Vec<ManagedFieldsEntry>, fields_of: fn(String) -> Option<Held>) -> Result<Self, EntryError> {
        let mut managed = Self::default();
        for (at, entry) in entries.into_iter().enumerate() {
            let applies = match entry.operation.as_deref() {
                Some(APPLY) => true,
                Some(UPDATE) => false,
                _ => return Err(EntryError::Operation),
            };
            let version = entry.api_version.filter(|version| !version.is_empty()).ok_or(EntryError::Version)?;
            match entry.fields_type.as_deref() {
                Some(FIELDS_V1) => {}
                None | Some("") => return Err(EntryError::NoFieldsType(at)),
                Some(other) => return Err(EntryError::FieldsType(at, other.to_owned())),
            }
            let fields = match entry.fields_v1 {
                Some(fields) => fields_of(packed::text(fields)).ok_or(EntryError::Fields)?,
                None => Held::from(Fields::default()),
            };
            let manager = Manager {
                name: entry.manager.unwrap_or_default(),
                applies,
                version: if applies { String::new() } else { version.clone() },
                subresource: entry.subresource.unwrap_or_default(),
            };
            managed.insert(Entry { manager, version, fields, time: entry.time.map(|time| time.0) });
        }
        Ok(managed)
    }

    /// The entries in upstream's order; none if nobody owns anything.
    pub fn encode(mut self) -> Option<Vec<ManagedFieldsEntry>> {
        let seconds = |entry: &Entry| entry.time.map_or(0, Timestamp::as_second);
        self.entries.sort_by(|a, b| {
            // "Apply" before "Update".
            let operation = b.manager.applies.cmp(&a.manager.applies);
            let who = || {
                (&a.manager.name, &a.version, &a.manager.subresource).cmp(&(
                    &b.manager.name,
                    &b.version,
                    &b.manager.subresource,
                ))
            };
            operation.then_with(|| seconds(a).cmp(&seconds(b))).then_with(who)
        });
        let entries: Vec<ManagedFieldsEntry> = self.entries.into_iter().map(Entry::encode).collect();
        (!entries.is_empty()).then_some(entries)
    }

    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a manager.
    pub fn get(&self, manager: &Manager) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.manager == *manager)
    }

    /// The entry of a manager, taken out.
    pub fn take(&mut self, manager: &Manager) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.manager == *manager)?;
        Some(self.entries.remove(at))
    }

    /// Puts an entry in the place of the manager's former one.
    pub fn insert(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|other| other.manager == entry.manager) {
            Some(other) => *other = entry,
            None => self.entries.push(entry),
        }
    }

    /// Changes each entry; those that answer false or own nothing go.
    pub fn retain(&mut self, mut change: impl FnMut(&mut Entry) -> bool) {
        self.entries.retain_mut(|entry| change(entry) && !entry.fields.is_empty());
    }

    /// Adds fields to what a manager owns.
    pub fn grant(&mut self, manager: Manager, version: &str, fields: Fields, now: Timestamp) {
        match self.entries.iter_mut().find(|entry| entry.manager == manager) {
            Some(entry) => {
                entry.fields.union(fields);
                entry.time = Some(now);
            }
            None => {
                let fields = Held::from(fields);
                self.entries.push(Entry { manager, version: version.to_owned(), fields, time: Some(now) });
            }
        }
    }

    /// Merges the oldest updaters of each version until there are few enough.
    pub fn cap(&mut self) {
        let mut updaters: Vec<(i64, Manager)> = self
            .entries
            .iter()
            .filter(|entry| !entry.manager.applies)
            .map(|entry| (entry.time.map_or(0, Timestamp::as_second), entry.manager.clone()))
            .collect();
        let mut count = updaters.len();
        if count <= MAX_UPDATERS {
            return;
        }
        updaters.sort();
        let mut first_of: Vec<Manager> = Vec::new();
        for (_, manager) in updaters {
            if count <= MAX_UPDATERS {
                break;
            }
            match first_of.iter().find(|first| first.version == manager.version) {
                Some(first) => {
                    self.merge_into_bucket(&first.clone(), &manager);
                    count -= 1;
                }
                None => first_of.push(manager),
            }
        }
    }

    fn merge_into_bucket(&mut self, first: &Manager, merged: &Manager) {
        let bucket = Manager::updater(ANCIENT, &merged.version, "");
        if self.get(&bucket).is_none()
            && let Some(entry) = self.take(first)
        {
            self.insert(Entry { manager: bucket.clone(), ..entry });
        }
        if let (Some(entry), Some(bucket)) =
            (self.take(merged), self.entries.iter_mut().find(|entry| entry.manager == bucket))
        {
            bucket.fields.set().union(entry.fields.read().into_owned());
            bucket.time = entry.time;
        }
    }
}

impl Entry {
    fn encode(self) -> ManagedFieldsEntry {
        let some = |text: String| (!text.is_empty()).then_some(text);
        ManagedFieldsEntry {
            api_version: some(self.version),
            fields_type: Some(FIELDS_V1.to_owned()),
            fields_v1: Some(packed::of_text(self.fields.into_text())),
            manager: some(self.manager.name),
            operation: Some(if self.manager.applies { APPLY } else { UPDATE }.to_owned()),
            subresource: some(self.manager.subresource),
            time: self.time.map(Time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a timestamp")
    }

    #[test]
    fn the_oldest_updaters_become_one() {
        let mut managed = Managed::default();
        for n in 0..12_i64 {
            let fields = Fields::of_paths([format!("data.k{n:02}").as_str()]);
            managed.grant(Manager::updater(&format!("m{n:02}"), "v1", ""), "v1", fields, at(n));
        }
        managed.grant(Manager::applier("a", ""), "v1", Fields::of_paths(["data.a"]), at(0));
        managed.cap();
        let mut entries = serde_json::to_value(managed.encode()).expect("entries serialize");
        for entry in entries.as_array_mut().into_iter().flatten() {
            let text = entry["fieldsV1"].as_str().expect("fields are text");
            entry["fieldsV1"] = serde_json::from_str(text).expect("it is JSON");
        }
        let names: Vec<&str> =
            entries.as_array().into_iter().flatten().filter_map(|entry| entry["manager"].as_str()).collect();
        assert_eq!(names, ["a", "ancient-changes", "m03", "m04", "m05", "m06", "m07", "m08", "m09", "m10", "m11"]);
        assert_eq!(entries[1]["fieldsV1"], json!({"f:data": {"f:k00": {}, "f:k01": {}, "f:k02": {}}}));
        assert_eq!(entries[1]["time"], json!("1970-01-01T00:00:02Z"));
    }

    #[test]
    fn entries_that_make_no_sense_are_refused() {
        let decode = |value: Value| Managed::decode(serde_json::from_value(value).expect("entries deserialize"));
        let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}});
        let mut other = entry.clone();
        assert_eq!(decode(json!([entry])).map(|managed| managed.entries().len()), Ok(1));
        other["operation"] = json!("Patch");
        assert_eq!(decode(json!([other])), Err(EntryError::Operation));
        assert_eq!(decode(json!([{"operation": "Apply"}])), Err(EntryError::Version));
        assert_eq!(decode(json!([{"operation": "Apply", "apiVersion": "v1"}])), Err(EntryError::NoFieldsType(0)));
    }
}
