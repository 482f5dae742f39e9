//! [`Fields`]: a set of fields of an object, as `fieldsV1` writes it down.
//!
//! A field is known by its elements: `f:name` of a map or struct, `k:{…}` the keys of a list's item, `v:…` the item of a set. Elements
//! are canonical text, so that equal elements are equal strings. Invariant: no child of a set is empty.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::{element, text};

/// Says that a field which has fields below it is itself in the set.
pub(super) const SELF: &str = ".";

/// A set of fields below one field, and whether that field is in the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    member: bool,
    below: BTreeMap<String, Fields>,
}

impl Fields {
    /// The set of these paths of field names, for example `metadata.labels`.
    pub fn of_paths<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for path in paths {
            let mut at = &mut set;
            for name in path.split('.') {
                at = at.below.entry(element::of_name(name)).or_default();
            }
            at.member = true;
        }
        set
    }

    /// Only the field itself.
    pub fn leaf() -> Self {
        Self { member: true, below: BTreeMap::new() }
    }

    /// Puts the field itself into the set.
    pub fn insert_self(&mut self) {
        self.member = true;
    }

    /// Adds the set of a child; an empty one is left out.
    pub fn insert_child(&mut self, element: impl Into<String>, child: Fields) {
        if !child.is_empty() {
            self.below.insert(element.into(), child);
        }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// Whether the field itself is in the set.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// What is below an element.
    pub fn child(&self, element: &str) -> Option<&Fields> {
        self.below.get(element)
    }

    /// The children, in the order of their elements.
    pub fn children(&self) -> impl Iterator<Item = (&str, &Fields)> {
        self.below.iter().map(|(element, child)| (element.as_str(), child))
    }

    /// Whether the field of this path of names is in the set.
    pub fn has_path(&self, path: &str) -> bool {
        let mut names = path.split('.');
        names.try_fold(self, |at, name| at.below.get(&element::of_name(name))).is_some_and(|at| at.member)
    }

    /// Adds all fields of another set.
    pub fn union(&mut self, other: Fields) {
        self.member |= other.member;
        if self.below.is_empty() {
            self.below = other.below;
            return;
        }
        for (element, child) in other.below {
            self.below.entry(element).or_default().union(child);
        }
    }

    /// Takes away the fields of another set; what is below them stays.
    pub fn subtract(&mut self, other: &Fields) {
        self.member &= !other.member;
        if self.below.is_empty() {
            return;
        }
        for (element, taken) in &other.below {
            if let Some(child) = self.below.get_mut(element) {
                child.subtract(taken);
                if child.is_empty() {
                    self.below.remove(element);
                }
            }
        }
    }

    /// Takes away the fields of another set and all that is below them.
    pub fn subtract_trees(&mut self, other: &Fields) {
        self.member &= !other.member;
        for (element, taken) in &other.below {
            let Some(child) = self.below.get_mut(element) else { continue };
            child.subtract_trees(taken);
            if taken.member || child.is_empty() {
                self.below.remove(element);
            }
        }
    }

    /// Keeps only what is at and below these paths of names, of which `*` stands for any element.
    pub fn keep_paths(&mut self, paths: &[&str]) {
        let paths: Vec<Vec<&str>> = paths.iter().map(|path| path.split('.').collect()).collect();
        self.keep(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    fn keep(&mut self, paths: &[&[&str]]) {
        self.member = false;
        self.below.retain(|element, child| {
            let fits = |name: &str| name == "*" || element::of_name(name) == *element;
            let rest = paths.iter().filter_map(|path| path.split_first().filter(|(name, _)| fits(name)));
            let rest: Vec<&[&str]> = rest.map(|(_, rest)| rest).collect();
            if !rest.iter().any(|path| path.is_empty()) {
                child.keep(&rest);
            }
            !child.is_empty()
        });
    }

    /// Keeps only the fields that are in the other set too.
    pub fn intersect(&mut self, other: &Fields) {
        self.member &= other.member;
        self.below.retain(|element, child| match other.below.get(element) {
            Some(kept) => {
                child.intersect(kept);
                !child.is_empty()
            }
            None => false,
        });
    }

    /// All paths in upstream's order: the members of a set come before what is below them. Each path is a list of elements.
    pub fn paths(&self) -> Vec<Vec<&str>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect<'a>(&'a self, at: &mut Vec<&'a str>, paths: &mut Vec<Vec<&'a str>>) {
        for (element, _) in self.below.iter().filter(|(_, child)| child.member) {
            paths.push(at.iter().copied().chain([element.as_str()]).collect());
        }
        for (element, child) in &self.below {
            at.push(element);
            child.collect(at, paths);
            at.pop();
        }
    }

    /// Reads `fieldsV1`; none if it is malformed. Elements of unknown kinds are dropped.
    pub fn from_json(value: Value) -> Option<Self> {
        let mut set = Self::read(value, false)?;
        set.member = false;
        Some(set)
    }

    /// As [`Fields::from_json`], for text that a client wrote: brings the elements into canonical form.
    pub fn from_foreign_json(value: Value) -> Option<Self> {
        let mut set = Self::read(value, true)?;
        set.member = false;
        Some(set)
    }

    fn read(value: Value, foreign: bool) -> Option<Self> {
        let Value::Object(entries) = value else { return None };
        let mut set = Self { member: entries.is_empty(), below: BTreeMap::new() };
        for (element, child) in entries {
            if element == SELF {
                set.member = true;
            } else if element::is_known(&element) {
                let element = if foreign { element::canonical(element)? } else { element };
                set.insert_child(element, Self::read(child, foreign)?);
            }
        }
        Some(set)
    }

    /// Reads the text of `fieldsV1`; see [`Fields::from_json`].
    pub fn from_text(text: &str) -> Option<Self> {
        Self::from_json(serde_json::from_str(text).ok()?)
    }

    /// As `fieldsV1`.
    #[cfg(test)]
    pub fn into_json(self) -> Value {
        serde_json::from_str(&text::write(&self)).expect("what is written can be read")
    }
}

/// The fields of an entry, which are only read when somebody needs to know them.
#[derive(Clone, Debug)]
pub struct Held {
    /// Not read yet: as `fieldsV1`.
    text: Option<String>,
    set: Fields,
}

impl Held {
    /// The fields of `fieldsV1`, to be read later; none if they are malformed at first sight.
    pub fn unread(text: String) -> Option<Self> {
        text.starts_with('{').then(|| Self { text: Some(text), set: Fields::default() })
    }

    /// As a set.
    pub fn read(&self) -> Cow<'_, Fields> {
        match &self.text {
            Some(text) => Cow::Owned(Fields::from_text(text).unwrap_or_default()),
            None => Cow::Borrowed(&self.set),
        }
    }

    /// As a set that can be changed.
    pub fn set(&mut self) -> &mut Fields {
        if let Some(text) = self.text.take() {
            self.set = Fields::from_text(&text).unwrap_or_default();
        }
        &mut self.set
    }

    /// See [`Fields::subtract`].
    pub fn subtract(&mut self, taken: &Fields) {
        if taken.below.is_empty() && self.text.is_some() {
            return;
        }
        match self.text.as_deref().map(|text| text::subtract(text, taken)) {
            Some(Ok(left)) => self.text = Some(left),
            Some(Err(_)) | None => self.set().subtract(taken),
        }
    }

    /// See [`Fields::union`]; neither set may have its root in it.
    pub fn union(&mut self, other: Fields) {
        if self.text.as_deref().is_some_and(|text| text::includes(text, &other).unwrap_or_default()) {
            return;
        }
        match self.text.as_deref().map(|text| text::union(text, &other)) {
            Some(Ok(sum)) => self.text = Some(sum),
            Some(Err(_)) | None => self.set().union(other),
        }
    }

    /// See [`Fields::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.text.as_deref().map_or(self.set.is_empty(), |text| text == "{}")
    }

    /// As `fieldsV1`.
    pub fn into_text(self) -> String {
        self.text.unwrap_or_else(|| text::write(&self.set))
    }
}

impl From<Fields> for Held {
    fn from(set: Fields) -> Self {
        Self { text: None, set }
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}

impl Eq for Held {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn held_fields_change_as_sets_do() {
        let texts = [
            json!({}),
            json!({"f:a": {}}),
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}}}),
            json!({"f:a": {"f:b": {}}, "f:c": {}}),
            json!({"f:a": {"f:b": {"f:x": {}}, "f:y": {}}}),
            json!({"f:a": {".": {}, "f:b": {".": {}, "f:x": {}}}, "f:e": {}}),
            json!({"f:a": {"k:{\"name\":\"x\\n\"}": {".": {}, "f:name": {}}, "v:\"y\"": {}}}),
            json!({"f:a": {"k:{\"name\":\"x\\n\"}": {"f:name": {}, "f:z": {}}}}),
        ];
        for text in &texts {
            for other in &texts {
                let unread = || Held::unread(text.to_string()).expect("it is well formed");
                let (mut held, mut whole) = (unread(), set(text.clone()));
                held.subtract(&set(other.clone()));
                whole.subtract(&set(other.clone()));
                assert!(held.text.is_some());
                assert_eq!(held.is_empty(), whole.is_empty());
                assert_eq!(held.into_text(), whole.into_json().to_string(), "{text} without {other}");
                let (mut held, mut whole) = (unread(), set(text.clone()));
                whole.union(set(other.clone()));
                let included = text::includes(&text.to_string(), &set(other.clone())).expect("it is well formed");
                assert_eq!(included, whole == set(text.clone()), "{other} in {text}");
                held.union(set(other.clone()));
                assert!(held.text.is_some());
                assert_eq!(held.into_text(), whole.into_json().to_string(), "{text} with {other}");
            }
        }
    }

    fn set(value: Value) -> Fields {
        Fields::from_json(value).expect("it is well formed")
    }

    #[test]
    fn sets_are_read_and_written() {
        for text in [
            json!({}),
            json!({"f:data": {}}),
            json!({"f:data": {".": {}, "f:x": {}}}),
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:x": {"v:\"a\"": {}}}}),
        ] {
            assert_eq!(set(text.clone()).into_json(), text);
        }
        assert_eq!(set(json!({"f:a": {}, "z:b": {}})).into_json(), json!({"f:a": {}}));
        assert_eq!(Fields::from_json(json!({"f:a": 1})), None);
        let foreign = Fields::from_foreign_json(json!({"k:{\"b\": 1, \"a\": \"x\"}": {}})).expect("it is well formed");
        assert_eq!(foreign.into_json(), json!({"k:{\"a\":\"x\",\"b\":1}": {}}));
    }

    #[test]
    fn sets_are_added_and_taken_away() {
        let whole = || set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {"f:d": {}}}, "f:e": {}}));
        let cases = [
            (json!({"f:a": {}}), json!({"f:a": {"f:b": {}, "f:c": {"f:d": {}}}, "f:e": {}}), json!({"f:e": {}})),
            (
                json!({"f:a": {"f:b": {}}}),
                json!({"f:a": {".": {}, "f:c": {"f:d": {}}}, "f:e": {}}),
                json!({"f:a": {".": {}, "f:c": {"f:d": {}}}, "f:e": {}}),
            ),
            (
                json!({"f:a": {"f:c": {}}}),
                json!({"f:a": {".": {}, "f:b": {}, "f:c": {"f:d": {}}}, "f:e": {}}),
                json!({"f:a": {".": {}, "f:b": {}}, "f:e": {}}),
            ),
        ];
        for (taken, without, without_trees) in cases {
            let mut left = whole();
            left.subtract(&set(taken.clone()));
            assert_eq!(left.into_json(), without, "{taken}");
            let mut left = whole();
            left.subtract_trees(&set(taken.clone()));
            assert_eq!(left.into_json(), without_trees, "{taken}");
        }
        let mut common = whole();
        common.intersect(&set(json!({"f:a": {"f:c": {".": {}, "f:d": {}}}})));
        assert_eq!(common.into_json(), json!({"f:a": {"f:c": {"f:d": {}}}}));
        let mut sum = set(json!({"f:a": {"f:b": {}}}));
        sum.union(set(json!({"f:a": {}, "f:z": {}})));
        assert_eq!(sum.into_json(), json!({"f:a": {".": {}, "f:b": {}}, "f:z": {}}));
    }

    #[test]
    fn members_come_before_what_is_below() {
        let order = set(json!({"f:a": {"f:x": {}}, "f:b": {}}));
        assert_eq!(order.paths(), [vec!["f:b"], vec!["f:a", "f:x"]]);
        assert!(order.has_path("a.x") && !order.has_path("a"));
    }
}
