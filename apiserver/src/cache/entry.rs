//! One object in the cache: the stored bytes as they are, and what selectors ask for.
//!
//! Invariant: the bytes are the store's own (shared with it when it lives in this process); `metadata.resourceVersion` is
//! spliced in while they are copied out, so that an object is in memory once.

use std::sync::Arc;

use api::names::Revision;
use bytes::Bytes;

use super::labels::Labels;
use super::resource::Resource;
use crate::storage::KeyValue;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The full key, `/registry/…`.
    pub key: Arc<str>,
    /// `metadata.resourceVersion`: the revision of the last write, or of the deletion.
    pub revision: Revision,
    /// `metadata.labels`.
    pub labels: Labels,
    fields: Box<[Option<Box<str>>]>,
    resource: Arc<Resource>,
    stored: Bytes,
    splice_at: u32,
    members: bool,
}

impl Entry {
    /// Reads what the store holds; an error says what is wrong with the JSON.
    pub(super) fn read(resource: &Arc<Resource>, item: KeyValue) -> Result<Self, serde_json::Error> {
        let found = resource.paths.extract(&item.value)?;
        Ok(Self {
            key: item.key.into(),
            revision: item.revision,
            labels: found.labels,
            fields: found.fields,
            resource: Arc::clone(resource),
            stored: item.value,
            splice_at: u32::try_from(found.splice_at).unwrap_or(u32::MAX),
            members: found.members,
        })
    }

    /// The same object as of a later revision: how a deletion shows it.
    pub(super) fn at(&self, revision: Revision) -> Self {
        Self { revision, ..self.clone() }
    }

    /// The namespace; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.path().split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        let path = self.path();
        path.split_once('/').map_or(path, |(_, name)| name)
    }

    /// The value of a selectable field; none when the object does not have it or the kind does not know it.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => {
                let at = self.resource.spec.fields.iter().position(|field| field.name == name)?;
                self.fields[at].as_deref()
            }
        }
    }

    /// The stored bytes: the object without `metadata.resourceVersion`.
    pub fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// The object as JSON.
    pub fn json(&self) -> Bytes {
        let mut json = Vec::with_capacity(self.json_len());
        self.append_to(&mut json);
        json.into()
    }

    /// Appends the object as JSON.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        self.append_from(0, out);
    }

    /// Appends the object's JSON without the first bytes of what is stored; those must end before the metadata.
    pub fn append_from(&self, start: usize, out: &mut Vec<u8>) {
        let (head, tail) = self.stored.split_at(self.splice_at as usize);
        out.reserve(self.json_len());
        out.extend_from_slice(head.get(start..).unwrap_or(head));
        out.extend_from_slice(b"\"resourceVersion\":\"");
        append_number(out, self.revision.0);
        out.extend_from_slice(if self.members { b"\"," } else { b"\"" });
        out.extend_from_slice(tail);
    }

    /// An upper bound of the length of the JSON.
    pub fn json_len(&self) -> usize {
        self.stored.len() + "\"resourceVersion\":\"18446744073709551615\",".len()
    }

    fn path(&self) -> &str {
        &self.key[self.resource.spec.prefix.len()..]
    }
}

fn append_number(out: &mut Vec<u8>, number: u64) {
    let start = out.len();
    let mut rest = number;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out[start..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::resource::{ResourceSpec, SelectableField};

    fn entry(key: &str, value: &'static str, revision: u64) -> Entry {
        let spec = ResourceSpec {
            prefix: "/registry/pods/".into(),
            api_version: "v1".into(),
            kind: "Pod".into(),
            fields: vec![SelectableField::from(("spec.nodeName", &["/spec/nodeName"][..]))],
            shown: None,
        };
        let item =
            KeyValue { key: key.into(), value: Bytes::from_static(value.as_bytes()), revision: Revision(revision) };
        Entry::read(&Arc::new(Resource::new(spec)), item).expect("an object")
    }

    #[test]
    fn the_revision_is_spliced_in() {
        let table = [
            (
                r#"{"kind":"Pod","metadata":{"name":"a"},"spec":{}}"#,
                7,
                r#"{"kind":"Pod","metadata":{"resourceVersion":"7","name":"a"},"spec":{}}"#,
            ),
            (r#"{"metadata":{}}"#, 0, r#"{"metadata":{"resourceVersion":"0"}}"#),
            (r#"{"metadata":{ }}"#, u64::MAX, r#"{"metadata":{"resourceVersion":"18446744073709551615" }}"#),
        ];
        for (stored, revision, expected) in table {
            let entry = entry("/registry/pods/ns/a", stored, revision);
            assert_eq!(entry.json(), expected);
            assert!(entry.json().len() <= entry.json_len());
        }
    }

    #[test]
    fn selectors_find_what_they_ask_for() {
        let entry = entry("/registry/pods/ns/a", r#"{"metadata":{"labels":{"app":"x"}},"spec":{"nodeName":"n"}}"#, 3);
        assert_eq!((entry.namespace(), entry.name()), ("ns", "a"));
        assert_eq!(entry.field("spec.nodeName"), Some("n"));
        assert_eq!(entry.field("metadata.name"), Some("a"));
        assert_eq!(entry.field("spec.unknown"), None);
        assert_eq!(entry.labels.get("app"), Some("x"));
        assert_eq!(
            entry.at(Revision(9)).json(),
            r#"{"metadata":{"resourceVersion":"9","labels":{"app":"x"}},"spec":{"nodeName":"n"}}"#
        );
    }
}
