//! Field ownership in the write path. Entry points: [`track`] for creations, updates and patches, [`applied`] for server-side apply,
//! [`track_scale`] and [`applied_scale`] for `/scale`.
//!
//! They run after defaults and before admission, as upstream: what admission and the server fill in is owned by nobody. Without
//! owners an object is not tracked until it is applied.

mod scale;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use api::ApiError;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::apply::{self, ApplyError, Config};
use super::managed_fields::{self, Fields, Managed, Node, Versions, Write, sparse};
use super::{Place, Stored};
use crate::http::body::{self, decode_value};
use crate::http::options::FieldValidation;
use crate::object::Object;
use crate::resources::{Served, Strategy, schema, wire};

pub(super) use scale::{applied_scale, track_scale};

/// What a manager wants to apply.
#[derive(Clone, Debug)]
pub struct Wanted {
    value: Value,
    /// Fields that stand twice.
    duplicates: Vec<String>,
    force: bool,
}

impl Wanted {
    /// Reads the body of an apply: YAML 1.1, or JSON, which is the same.
    pub fn read(text: &Bytes, force: bool, validation: FieldValidation) -> Result<Self, ApiError> {
        let bad = |why: String| ApiError::bad_request(format!("error decoding YAML: {why}"));
        let parsed = body::yaml::parse(text).map_err(|why| bad(format!("error converting YAML to JSON: {why}")))?;
        let value = match parsed.value {
            Value::Null => json!({}),
            value @ Value::Object(_) => value,
            other => {
                let found = go_kind(&other);
                let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
                return Err(bad(format!("error unmarshaling JSON: while decoding JSON: {why}")));
            }
        };
        let duplicates = match validation {
            FieldValidation::Ignore => Vec::new(),
            FieldValidation::Strict if !parsed.duplicates.is_empty() => {
                let lines: Vec<String> = parsed.duplicates.iter().map(|line| format!("\n  {line}")).collect();
                let why = format!("error converting YAML to JSON: yaml: unmarshal errors:{}", lines.concat());
                return Err(ApiError::bad_request(format!("error strict decoding YAML: {why}")));
            }
            FieldValidation::Warn | FieldValidation::Strict => parsed.duplicates,
        };
        Ok(Self { value, duplicates, force })
    }

    /// The fields, as they were sent.
    pub fn value(&self) -> &Value {
        &self.value
    }

    fn config<'a>(&'a self, kind: &'a str) -> Config<'a> {
        Config { value: &self.value, kind, force: self.force }
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null | Value::Object(_) => "object",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    }
}

/// The kind of a place in all its versions.
struct KindAt<'a> {
    at: Place<'a>,
    version: String,
    served: OnceLock<Arc<Served>>,
}

impl<'a> KindAt<'a> {
    fn new(at: &Place<'a>) -> Self {
        Self { at: *at, version: at.info().api_version(), served: OnceLock::new() }
    }

    fn write<'w>(&'w self, ignored: &'w Fields) -> Write<'w> {
        let at = &self.at;
        let now = at.server.clock.now_seconds();
        Write {
            manager: at.manager,
            subresource: subresource(at),
            version: &self.version,
            now,
            ignored,
            only: at.strategy.kept_fields(at.subresource),
            kind: self,
        }
    }

    /// The row that serves the same objects in a version.
    fn row(&self, version: &str) -> Option<&dyn Strategy> {
        if version == self.version {
            return Some(self.at.strategy);
        }
        let served = self.served.get_or_init(|| self.at.server.resources.served());
        let prefix = &self.at.info().storage_prefix;
        let same =
            |row: &&Arc<dyn Strategy>| row.info().storage_prefix == *prefix && row.info().api_version() == version;
        served.rows().iter().find(same).map(Arc::as_ref)
    }
}

impl Versions for KindAt<'_> {
    fn node(&self, version: &str) -> Option<Node<'_>> {
        self.row(version)?.node()
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        if from == to {
            return Some(Cow::Borrowed(object));
        }
        let (from, to) = (self.row(from)?, self.row(to)?);
        let stored = from.served_as().map_or_else(|| object.clone(), |served| (served.to_stored)(object.clone()));
        let mut converted = to.served_as().map_or(stored.clone(), |served| (served.from_stored)(stored));
        if let Value::Object(fields) = &mut converted {
            fields.insert("apiVersion".to_owned(), Value::from(to.info().api_version()));
            fields.insert("kind".to_owned(), Value::from(to.info().kind.as_str()));
        }
        Some(Cow::Owned(converted))
    }

    fn empty(&self, version: &str) -> Value {
        let kind = self.row(version).map_or("", |row| &row.info().kind);
        let mut value = json!({"apiVersion": version, "kind": kind});
        wire::canonical(version, kind, &mut value);
        value
    }
}

/// The stored object in the version of the place, without owners.
fn live(at: &Place<'_>, stored: &Stored) -> Result<Value, ApiError> {
    let value = if at.info().custom {
        stored.object.to_value()
    } else {
        serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)?
    };
    let mut value = match at.strategy.served_as() {
        Some(served) => (served.from_stored)(value),
        None => value,
    };
    if let Some(Value::Object(meta)) = value.get_mut("metadata") {
        meta.remove("managedFields");
        meta.insert("resourceVersion".to_owned(), Value::from(stored.revision.to_string()));
    }
    Ok(value)
}

/// The owners that a stored object has; malformed ones count as none.
fn owners_of(stored: Option<&Stored>) -> Managed {
    let entries = stored.and_then(|stored| stored.metadata().managed_fields.clone());
    Managed::decode(entries.unwrap_or_default()).unwrap_or_default()
}

/// The owners that count: the client's, if it sent any, else the stored ones. A lone empty entry or an empty list makes an end of
/// them.
fn owners(at: &Place<'_>, sent: Option<Vec<ManagedFieldsEntry>>, stored: Option<&Stored>) -> Managed {
    let Some(sent) = sent.filter(|_| at.subresource.is_none()) else { return owners_of(stored) };
    let reset = match sent.as_slice() {
        [] => true,
        [only] => *only == ManagedFieldsEntry::default(),
        _ => false,
    };
    if reset {
        return Managed::default();
    }
    let same = stored.is_some_and(|stored| stored.metadata().managed_fields.as_ref() == Some(&sent));
    match if same { Managed::decode(sent) } else { Managed::decode_foreign(sent) } {
        Ok(managed) if !managed.is_empty() => managed,
        Ok(_) | Err(_) => owners_of(stored),
    }
}

fn ignored(at: &Place<'_>) -> Fields {
    Fields::of_paths(at.strategy.reset_fields(at.subresource).iter().copied())
}

fn subresource<'a>(at: &Place<'a>) -> &'a str {
    at.subresource.map_or("", |subresource| subresource.as_str())
}

/// Notes who owns the fields of an object that is about to be created or updated.
pub(crate) fn track(at: &Place<'_>, stored: Option<&Stored>, new: &mut dyn Object) -> Result<(), ApiError> {
    let sent = new.metadata_mut().managed_fields.take();
    let managed = owners(at, sent, stored);
    if managed.is_empty() && stored.is_some() {
        return Ok(());
    }
    let (kind, ignored) = (KindAt::new(at), ignored(at));
    let write = kind.write(&ignored);
    if let Some((old, new_value)) = stored.and_then(|stored| differing(&kind, stored, &managed, new)) {
        new.metadata_mut().managed_fields = managed_fields::update(&old, &new_value, managed, &write).encode();
        return Ok(());
    }
    let old = match stored {
        Some(stored) => live(at, stored)?,
        None => kind.empty(&kind.version),
    };
    let new_value = match at.strategy.served_as() {
        Some(served) => (served.from_stored)(new.to_sent_value()),
        None => new.to_sent_value(),
    };
    let managed = managed_fields::update(&old, &new_value, managed, &write);
    new.metadata_mut().managed_fields = managed.encode();
    Ok(())
}

/// What a write changes, where it can be told from the text: a built-in kind that has one version, or whose owners all know this one.
fn differing(kind: &KindAt<'_>, stored: &Stored, managed: &Managed, new: &dyn Object) -> Option<(Value, Value)> {
    let strategy = kind.at.strategy;
    let plain = strategy.served_as().is_none()
        && schema::of(&kind.version, &strategy.info().kind).is_some()
        && managed.entries().iter().all(|entry| entry.version == kind.version);
    let mut found = None;
    if plain {
        new.inspect(&mut |new| found = sparse::differing(&stored.bytes, new));
    }
    found
}

/// As [`track`] for an object that is only answered, and that is not of the place's kind (a TokenRequest).
pub fn track_other(at: &Place<'_>, version: &str, kind: &str, object: &mut dyn Object) {
    let none = Fields::default();
    let one = OneVersion { version, kind };
    let now = at.server.clock.now_seconds();
    let write = Write {
        manager: at.manager,
        subresource: subresource(at),
        version,
        now,
        ignored: &none,
        only: &[],
        kind: &one,
    };
    let managed = managed_fields::update(&one.empty(version), &object.to_value(), Managed::default(), &write);
    object.metadata_mut().managed_fields = managed.encode();
}

/// A built-in type with one version.
struct OneVersion<'a> {
    version: &'a str,
    kind: &'a str,
}

impl Versions for OneVersion<'_> {
    fn node(&self, version: &str) -> Option<Node<'_>> {
        if version == self.version { schema::of(version, self.kind).map(Node::Type) } else { None }
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        (from == to).then_some(Cow::Borrowed(object))
    }

    fn empty(&self, version: &str) -> Value {
        let mut value = json!({"apiVersion": version, "kind": self.kind});
        wire::canonical(version, self.kind, &mut value);
        value
    }
}

/// The object after an apply, with its owners; `stored` is none for one that does not exist yet.
pub(super) fn applied(at: &Place<'_>, stored: Option<&Stored>, wanted: &Wanted) -> Result<Box<dyn Object>, ApiError> {
    at.warnings.extend(wanted.duplicates.iter().cloned());
    let (kind, ignored) = (KindAt::new(at), ignored(at));
    let write = kind.write(&ignored);
    let old = match stored {
        Some(stored) => live(at, stored)?,
        None => kind.empty(&kind.version),
    };
    let entries = stored.and_then(|stored| stored.metadata().managed_fields.clone()).unwrap_or_default();
    let managed = Managed::decode(entries).map_err(ApplyError::Owners)?;
    let applied = apply::apply(&old, managed, &wanted.config(&at.info().kind), &write)?;
    let mut object = match (applied.object, stored) {
        (None, Some(stored)) => stored.object.clone_object(),
        (object, _) => {
            decode_value(at.strategy, object.unwrap_or(old)).map_err(|error| inconvertible(&wanted.value, &error))?
        }
    };
    object.metadata_mut().managed_fields = applied.managed.encode();
    Ok(object)
}

/// A merged object that its type can't hold.
fn inconvertible(config: &Value, error: &ApiError) -> ApiError {
    let why = error.message.split_once(": ").map_or(error.message.as_str(), |(_, why)| why);
    let why = why.strip_prefix("json: ").unwrap_or(why);
    let of = apply::described(config);
    let kind = of.split_once("; ").map_or("", |(_, kind)| kind);
    ApiError::unclassified(format!(
        "failed to convert new object ({of}) to proper version: unable to convert unstructured object to {kind}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_yaml() {
        let read =
            |text: &'static str, validation| Wanted::read(&Bytes::from_static(text.as_bytes()), false, validation);
        let wanted =
            read("metadata: {name: y}\ndata: {a: 1, a: 2}\n", FieldValidation::Warn).expect("it is well formed");
        assert_eq!(wanted.value["metadata"]["name"], json!(true));
        assert_eq!(wanted.duplicates, ["line 2: key \"a\" already set in map"]);
        let refused = |text, validation| read(text, validation).map(|_| ()).map_err(|error| error.message);
        assert_eq!(
            refused("a: 1\na: 2\n", FieldValidation::Strict),
            Err("error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 2: key \"a\" already set in map".into())
        );
        assert_eq!(
            refused("text", FieldValidation::Warn),
            Err("error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type \
                map[string]interface {}".into())
        );
    }
}
