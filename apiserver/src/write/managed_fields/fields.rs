//! [`Fields`]: a set of fields of an object, as `fieldsV1` writes it down.
//!
//! A field is known by its elements: `f:name` of a map or struct, `k:{…}` the keys of a list's item, `v:…` the item of a set. Elements
//! are canonical text, so that equal elements are equal strings. Invariant: no child of a set is empty.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element;

/// Says that a field which has fields below it is itself in the set.
const SELF: &str = ".";

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

    /// As `fieldsV1`.
    pub fn into_json(self) -> Value {
        let mut entries = Map::new();
        for (element, child) in self.below {
            entries.insert(element, child.into_member_json());
        }
        Value::Object(entries)
    }

    /// As a part of `fieldsV1`, which says whether the field itself is in the set.
    fn into_member_json(self) -> Value {
        let member = self.member && !self.below.is_empty();
        let mut json = self.into_json();
        if let (Value::Object(fields), true) = (&mut json, member) {
            fields.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        json
    }
}

/// The fields of an entry, which are only read when somebody needs to know them.
#[derive(Clone, Debug)]
pub struct Held {
    /// Not read yet: as `fieldsV1`, known to be well formed.
    json: Option<Value>,
    set: Fields,
}

impl Held {
    /// The fields of `fieldsV1`, to be read later; it must be well formed.
    pub fn unread(json: Value) -> Self {
        Self { json: Some(json), set: Fields::default() }
    }

    /// As a set.
    pub fn read(&self) -> Cow<'_, Fields> {
        match &self.json {
            Some(json) => Cow::Owned(Fields::from_json(json.clone()).unwrap_or_default()),
            None => Cow::Borrowed(&self.set),
        }
    }

    /// As a set that can be changed.
    pub fn set(&mut self) -> &mut Fields {
        if let Some(json) = self.json.take() {
            self.set = Fields::from_json(json).unwrap_or_default();
        }
        &mut self.set
    }

    /// See [`Fields::subtract`].
    pub fn subtract(&mut self, taken: &Fields) {
        match &mut self.json {
            Some(Value::Object(entries)) if taken.below.is_empty() || entries.is_empty() => {}
            Some(Value::Object(entries)) => {
                subtract_below(entries, taken);
            }
            Some(_) | None => self.set().subtract(taken),
        }
    }

    /// See [`Fields::union`]; neither set may have its root in it.
    pub fn union(&mut self, other: Fields) {
        match &mut self.json {
            Some(Value::Object(entries)) => union_below(entries, other),
            Some(_) | None => self.set().union(other),
        }
    }

    /// See [`Fields::is_empty`].
    pub fn is_empty(&self) -> bool {
        match &self.json {
            Some(json) => json.as_object().is_none_or(Map::is_empty),
            None => self.set.is_empty(),
        }
    }

    /// As `fieldsV1`.
    pub fn into_json(self) -> Value {
        self.json.unwrap_or_else(|| self.set.into_json())
    }
}

/// Takes fields out of the entries below a field.
fn subtract_below(entries: &mut Map<String, Value>, taken: &Fields) {
    for (element, taken) in &taken.below {
        if let Some(Value::Object(child)) = entries.get_mut(element)
            && !subtract_json(child, taken)
        {
            entries.remove(element);
        }
    }
}

/// [`Fields::subtract`] on `fieldsV1` as it is: false if nothing is left.
fn subtract_json(entries: &mut Map<String, Value>, taken: &Fields) -> bool {
    let member = (entries.is_empty() || entries.remove(SELF).is_some()) && !taken.member;
    subtract_below(entries, taken);
    if entries.is_empty() {
        return member;
    }
    if member {
        entries.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
    true
}

/// Adds fields to the entries below a field.
fn union_below(entries: &mut Map<String, Value>, added: Fields) {
    for (element, added) in added.below {
        match entries.get_mut(&element) {
            Some(Value::Object(child)) => union_json(child, added),
            Some(_) | None => drop(entries.insert(element, added.into_member_json())),
        }
    }
}

/// [`Fields::union`] on `fieldsV1` as it is.
fn union_json(entries: &mut Map<String, Value>, added: Fields) {
    let member = entries.is_empty() || entries.remove(SELF).is_some() || added.member;
    union_below(entries, added);
    if member && !entries.is_empty() {
        entries.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
}

impl From<Fields> for Held {
    fn from(set: Fields) -> Self {
        Self { json: None, set }
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
        ];
        for text in &texts {
            for other in &texts {
                let (mut held, mut whole) = (Held::unread(text.clone()), set(text.clone()));
                held.subtract(&set(other.clone()));
                whole.subtract(&set(other.clone()));
                assert!(held.json.is_some());
                assert_eq!(held.is_empty(), whole.is_empty());
                assert_eq!(held.into_json(), whole.into_json(), "{text} without {other}");
                let (mut held, mut whole) = (Held::unread(text.clone()), set(text.clone()));
                held.union(set(other.clone()));
                whole.union(set(other.clone()));
                assert_eq!(held.into_json(), whole.into_json(), "{text} with {other}");
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
