//! What the types and fields are for, in upstream's words. Entry point: [`of`].
//!
//! `descriptions.txt` is taken from Kubernetes' published OpenAPI document (Apache License 2.0), as `schema.txt` is: a line
//! `group/version.Name text` for a type, then for its fields lines ` name text`, or ` name! text` where a client must give the
//! field. `\n` and `\\` are escaped. In memory stays where each
//! type's texts begin; the texts are pages of the executable.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const TEXT: &str = include_str!("descriptions.txt");

/// What all kinds say of `apiVersion`.
pub const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
/// What all kinds say of `kind`.
pub const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
/// What kinds say of `metadata`.
pub const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
/// What lists say of `metadata`.
pub const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The texts of one type.
#[derive(Default)]
pub struct Described {
    /// Of the type itself; may be empty.
    pub text: String,
    fields: BTreeMap<&'static str, (bool, &'static str)>,
}

/// Where the texts of each type are.
fn blocks() -> &'static BTreeMap<&'static str, &'static str> {
    static BLOCKS: OnceLock<BTreeMap<&'static str, &'static str>> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let mut blocks = BTreeMap::new();
        let mut rest = TEXT;
        while !rest.is_empty() {
            let (block, after) = rest.split_at(block_end(rest));
            blocks.insert(first_word(block.lines().next().unwrap_or_default()).0, block);
            rest = after;
        }
        blocks
    })
}

/// The texts of this type, for example of `v1.Pod`.
pub fn of(name: &str) -> Described {
    let mut lines = blocks().get(name).copied().unwrap_or_default().lines();
    let text = unescaped(first_word(lines.next().unwrap_or_default()).1);
    let field = |line: &'static str| {
        let (name, text) = first_word(line.trim_start_matches(' '));
        (name.trim_end_matches('!'), (name.ends_with('!'), text))
    };
    Described { text, fields: lines.map(field).collect() }
}

impl Described {
    /// What a field is for; empty where upstream does not say.
    pub fn field(&self, name: &str) -> String {
        match (self.fields.get(name).map_or("", |(_, text)| *text), name) {
            ("", "apiVersion") => API_VERSION.to_owned(),
            ("", "kind") => KIND.to_owned(),
            (text, _) => unescaped(text),
        }
    }

    /// The fields that must be given, by name.
    pub fn required(&self) -> Vec<&'static str> {
        self.fields.iter().filter(|(_, (required, _))| *required).map(|(name, _)| *name).collect()
    }
}

/// Up to the next line that does not begin with a space.
fn block_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let ends = |at: &usize| bytes[*at] == b'\n' && bytes.get(at + 1) != Some(&b' ');
    (0..bytes.len()).find(ends).map_or(text.len(), |at| at + 1)
}

fn first_word(line: &'static str) -> (&'static str, &'static str) {
    line.split_once(' ').unwrap_or((line, ""))
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(if chars.next() == Some('n') { '\n' } else { '\\' }),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;

    #[test]
    fn texts_belong_to_types_and_fields_that_exist() {
        assert!(blocks().len() > 490);
        for name in blocks().keys() {
            let ty = schema::named(name).unwrap_or_else(|| panic!("{name} is no type"));
            for field in of(name).fields.keys() {
                assert!(ty.field(field).is_some(), "{name} has no field {field}");
            }
        }
    }

    #[test]
    fn a_type_knows_its_texts() {
        let container = of("v1.Container");
        assert_eq!(container.text, "A single application container that you want to run within a pod.");
        assert_eq!(container.required(), ["name"]);
        assert!(container.field("image").starts_with("Container image name."));
        let raw = of("v1.ServicePort").field("appProtocol");
        assert!(raw.contains(":\n\n* Un-prefixed"));
        assert_eq!(of("v1.Pod").field("kind"), KIND);
    }
}
