//! What the cache must know of a stored object, read in one pass over its JSON without building it: where the metadata begin,
//! the labels, and the values of selectable fields.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::labels::Labels;
use super::resource::SelectableField;

/// The paths of selectable fields as a tree, each with the slot that its value goes to.
#[derive(Debug, Default)]
pub(super) struct Paths {
    root: Node,
    slots: usize,
    /// For each field, in the order of the spec: where its value may be, the first that is there counts.
    fields: Vec<Vec<Source>>,
}

#[derive(Debug, Default)]
struct Node {
    slot: Option<usize>,
    children: BTreeMap<String, Node>,
}

#[derive(Debug)]
enum Source {
    Slot(usize),
    Literal(Box<str>),
}

/// What was found in an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extracted {
    /// Offset just behind the `{` of `metadata`.
    pub(super) splice_at: usize,
    /// Whether `metadata` has members.
    pub(super) members: bool,
    /// `metadata.labels`.
    pub(super) labels: Labels,
    /// Values of the selectable fields, in the order of the spec.
    pub(super) fields: Box<[Option<Box<str>>]>,
}

impl Paths {
    /// Prepares the paths of these fields.
    pub(super) fn new(fields: &[SelectableField]) -> Self {
        let mut paths = Self::default();
        for field in fields {
            let sources = field.pointers.iter().map(|pointer| paths.source(pointer)).collect();
            paths.fields.push(sources);
        }
        paths
    }

    fn source(&mut self, pointer: &str) -> Source {
        let Some(path) = pointer.strip_prefix('/') else { return Source::Literal(pointer.into()) };
        let node = path.split('/').fold(&mut self.root, |node, segment| {
            node.children.entry(segment.replace("~1", "/").replace("~0", "~")).or_default()
        });
        let slot = *node.slot.get_or_insert(self.slots);
        self.slots = self.slots.max(slot + 1);
        Source::Slot(slot)
    }

    /// Reads an object; the error says what is wrong with its JSON.
    pub(super) fn extract(&self, json: &[u8]) -> Result<Extracted, serde_json::Error> {
        let found = RefCell::new(vec![None; self.slots]);
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let metadata = deserializer.deserialize_map(TopLevel { paths: self, found: &found })?;
        deserializer.end()?;
        let found = found.into_inner();
        let value = |source: &Source| match source {
            Source::Slot(slot) => found[*slot].clone(),
            Source::Literal(value) => Some(value.clone()),
        };
        let members = Meta::deserialize(&mut serde_json::Deserializer::from_str(metadata))?;
        Ok(Extracted {
            splice_at: metadata.as_ptr() as usize - json.as_ptr() as usize + 1,
            members: !metadata[1..].trim_start().starts_with('}'),
            labels: members.labels.unwrap_or_default(),
            fields: self.fields.iter().map(|sources| sources.iter().find_map(value)).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Meta {
    labels: Option<Labels>,
}

type Found = RefCell<Vec<Option<Box<str>>>>;

/// Yields the raw metadata and fills the slots on the way.
struct TopLevel<'a> {
    paths: &'a Paths,
    found: &'a Found,
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = &'de str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an API object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<&'de str, A::Error> {
        let mut metadata = None;
        while let Some(key) = map.next_key_seed(Key)? {
            let below = self.paths.root.children.get(&*key);
            if key == "metadata" {
                let raw: &'de RawValue = map.next_value()?;
                if let Some(node) = below {
                    let walk = Walk { node, found: self.found };
                    walk.deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
                        .map_err(serde::de::Error::custom)?;
                }
                metadata = Some(raw.get());
            } else if let Some(node) = below {
                map.next_value_seed(Walk { node, found: self.found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        metadata.filter(|raw| raw.starts_with('{')).ok_or_else(|| serde::de::Error::missing_field("metadata"))
    }
}

/// A key, borrowed where possible.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = std::borrow::Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(key.into())
            }
            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(key.to_owned().into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Fills the slots at and below a node.
#[derive(Clone, Copy)]
struct Walk<'a> {
    node: &'a Node,
    found: &'a Found,
}

impl Walk<'_> {
    fn set<E>(self, value: impl fmt::Display) -> Result<(), E> {
        if let Some(slot) = self.node.slot {
            self.found.borrow_mut()[slot] = Some(value.to_string().into());
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            match self.node.children.get(&*key) {
                Some(node) => map.next_value_seed(Walk { node, found: self.found })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.set(value)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(value)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(fields: &[(&str, &[&str])]) -> Paths {
        Paths::new(&fields.iter().map(|field| SelectableField::from(*field)).collect::<Vec<_>>())
    }

    #[test]
    fn values_come_from_the_first_source_that_is_there() {
        let paths = paths(&[
            ("spec.nodeName", &["/spec/nodeName"]),
            ("spec.unschedulable", &["/spec/unschedulable", "false"]),
            ("source", &["/source/component", "/reportingComponent"]),
            ("status.replicas", &["/status/replicas", "0"]),
            ("metadata.uid", &["/metadata/uid"]),
        ]);
        let table: [(&str, [Option<&str>; 5]); 4] = [
            (r#"{"metadata":{}}"#, [None, Some("false"), None, Some("0"), None]),
            (
                r#"{"metadata":{"uid":"u"},"spec":{"nodeName":"n\"1","unschedulable":true}}"#,
                [Some("n\"1"), Some("true"), None, Some("0"), Some("u")],
            ),
            (
                r#"{"source":{"host":"h"},"reportingComponent":"r","metadata":{},"status":{"replicas":3}}"#,
                [None, Some("false"), Some("r"), Some("3"), None],
            ),
            (
                r#"{"source":{"component":"c"},"reportingComponent":"r","metadata":{},"spec":{"nodeName":null},"status":[{"replicas":1}]}"#,
                [None, Some("false"), Some("c"), Some("0"), None],
            ),
        ];
        for (json, expected) in table {
            let found = paths.extract(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(found.fields.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "{json}");
        }
    }

    #[test]
    fn metadata_is_found_wherever_it_is() {
        let table = [
            (r#"{"metadata":{}}"#, "}}", false),
            (
                r#"{"spec":{"metadata":{"a":"}"}},"x":"\"metadata\":{","metadata": { "name":"n"}}"#,
                r#" "name":"n"}}"#,
                true,
            ),
            ("{ \"kind\" : \"Pod\", \"metadata\" :\n{ \n } }", " \n } }", false),
        ];
        for (json, rest, members) in table {
            let found = paths(&[]).extract(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!((&json[found.splice_at..], found.members), (rest, members), "{json}");
        }
        for json in ["", "[]", "{}", r#"{"metadata":[]}"#, r#"{"metadata":{}} x"#, r#"{"metadata":{"#] {
            assert!(paths(&[]).extract(json.as_bytes()).is_err(), "{json}");
        }
    }
}
