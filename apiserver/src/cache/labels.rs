//! The labels of a cached object in one piece of memory: a selector that looks at every object of a kind touches little of it.
//!
//! Each label is its two lengths, its key and its value. Invariant: labels that no object may have (longer than 64 KiB) are left out.
//! Before that memory is looked at, a word of marks tells most objects that cannot match.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// See the module's documentation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels {
    marks: Marks,
    packed: Box<[u8]>,
}

/// Two of 64 bits for each label: whoever lacks one of a label's bits does not have the label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u64);

impl Marks {
    /// Adds a label.
    pub fn add(&mut self, key: &str, value: &str) {
        let mut hasher = DefaultHasher::new();
        (key, value).hash(&mut hasher);
        let hash = hasher.finish();
        self.0 |= 1 << (hash % 64) | 1 << (hash / 64 % 64);
    }
}

impl Labels {
    /// Whether all labels of these marks may be there; that they are is not said.
    pub fn may_have(&self, marks: Marks) -> bool {
        self.marks.0 & marks.0 == marks.0
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key.as_bytes()).and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.packed;
        std::iter::from_fn(move || {
            let (lengths, text) = rest.split_first_chunk::<4>()?;
            let [key, value] = [[lengths[0], lengths[1]], [lengths[2], lengths[3]]].map(u16::from_le_bytes);
            let (key, text) = text.split_at(usize::from(key));
            let (value, text) = text.split_at(usize::from(value));
            rest = text;
            Some((key, value))
        })
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text| String::from_utf8_lossy(text);
        f.debug_map().entries(self.iter().map(|(key, value)| (text(key), text(value)))).finish()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let (mut packed, mut marks) = (Vec::new(), Marks::default());
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    let (Ok(key_length), Ok(length)) = (u16::try_from(key.len()), u16::try_from(value.len())) else {
                        continue;
                    };
                    marks.add(&key, &value);
                    packed.extend_from_slice(&key_length.to_le_bytes());
                    packed.extend_from_slice(&length.to_le_bytes());
                    packed.extend_from_slice(key.as_bytes());
                    packed.extend_from_slice(value.as_bytes());
                }
                Ok(Labels { marks, packed: packed.into() })
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_found_by_their_keys() {
        let labels: Labels =
            serde_json::from_value(json!({"app": "x", "a": "", "long": "y".repeat(70_000), "ü": "\u{1}"}))
                .expect("labels");
        let table =
            [("app", Some("x")), ("a", Some("")), ("ap", None), ("long", None), ("ü", Some("\u{1}")), ("", None)];
        for (key, value) in table {
            assert_eq!(labels.get(key), value, "{key}");
        }
        assert_eq!(Labels::default().get("app"), None);
        let marks = |pairs: &[(&str, &str)]| {
            let mut marks = Marks::default();
            pairs.iter().for_each(|(key, value)| marks.add(key, value));
            marks
        };
        for (pairs, may) in [
            (&[][..], true),
            (&[("app", "x")], true),
            (&[("app", "x"), ("a", "")], true),
            (&[("app", "y")], false),
            (&[("app", "x"), ("b", "")], false),
        ] {
            assert_eq!(labels.may_have(marks(pairs)), may, "{pairs:?}");
        }
        assert!(serde_json::from_value::<Labels>(json!({"a": 1})).is_err());
    }
}
