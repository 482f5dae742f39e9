//! The numbers that fields have in protobuf. Entry points: [`of`] a type, [`envelope_of`] for the kind that an envelope names.
//!
//! The facts are in `field_numbers.txt`, one type a line in Go's order: `number=jsonName`; `2/1=hostPath` is field 1 of the message in
//! field 2, whose fields JSON has in the outer object. Sources: the `generated.proto` of each API group.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::resources::schema::{self, Type};

/// What objects begin with.
pub const MAGIC: &[u8] = b"k8s\0";

const FACTS: &str = include_str!("field_numbers.txt");

/// The schemas in definitions of custom resources, whose fields may hold a schema or something else.
const OPEN_API_SCHEMA: &str = "apiextensions.k8s.io/v1.JSONSchemaProps";

/// Where a field number of a message leads.
pub enum Target {
    /// A field of the JSON object.
    Field(&'static str),
    /// A message whose fields JSON has in the outer object.
    Inline(Numbers),
}

/// The fields of a message by their numbers.
pub type Numbers = BTreeMap<u32, Target>;

/// What a field of a schema may hold besides a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOr {
    /// Several schemas: the schema is field 1, the others are field 2.
    Schemas,
    /// Whether anything is allowed: that is field 1, the schema field 2.
    Bool,
    /// Names: the schema is field 1, they are field 2.
    Names,
}

impl SchemaOr {
    /// Whether the values of this field are such.
    pub fn of(ty: &Type, field: &str) -> Option<Self> {
        match field {
            _ if ty.name != OPEN_API_SCHEMA => None,
            "items" => Some(Self::Schemas),
            "additionalItems" | "additionalProperties" => Some(Self::Bool),
            "dependencies" => Some(Self::Names),
            _ => None,
        }
    }
}

/// The numbers of a type's fields.
pub fn of(ty: &Type) -> Option<&'static Numbers> {
    static ALL: OnceLock<BTreeMap<&'static str, Numbers>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let lines = FACTS.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(name, fields)| (name, read_numbers(fields))).collect()
    });
    all.get(ty.name)
}

/// The type that an envelope names. What all groups have in common is found whatever the group.
pub fn envelope_of(api_version: &str, kind: &str) -> Option<&'static Type> {
    match kind {
        "DeleteOptions" => schema::of("meta/v1", kind),
        _ => schema::of(api_version, kind).or_else(|| schema::of("meta/v1", kind)),
    }
}

/// The place of each field of a type in Go's declaration, which is the order of the facts.
pub fn field_order(ty: &Type) -> Option<&'static BTreeMap<&'static str, usize>> {
    static ALL: OnceLock<BTreeMap<&'static str, BTreeMap<&'static str, usize>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let lines = FACTS.lines().filter_map(|line| line.split_once(' '));
        let names = |fields: &'static str| fields.split(' ').filter_map(|field| Some(field.split_once('=')?.1));
        lines.map(|(name, fields)| (name, names(fields).enumerate().map(|(at, field)| (field, at)).collect())).collect()
    });
    all.get(ty.name)
}

fn read_numbers(fields: &'static str) -> Numbers {
    let mut numbers = Numbers::new();
    for (path, name) in fields.split(' ').filter_map(|field| field.split_once('=')) {
        let path: Vec<u32> = path.split('/').filter_map(|number| number.parse().ok()).collect();
        insert(&mut numbers, &path, name);
    }
    numbers
}

fn insert(numbers: &mut Numbers, path: &[u32], name: &'static str) {
    match path {
        [] => {}
        [last] => drop(numbers.insert(*last, Target::Field(name))),
        [first, rest @ ..] => {
            let inline = numbers.entry(*first).or_insert_with(|| Target::Inline(Numbers::new()));
            if let Target::Inline(inner) = inline {
                insert(inner, rest, name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_names_a_field_of_the_schema() {
        for line in FACTS.lines() {
            let (name, fields) = line.split_once(' ').expect("a type and its fields");
            let ty = schema::named(name).unwrap_or_else(|| panic!("{name} is in the schema"));
            for (_, field) in fields.split(' ').filter_map(|field| field.split_once('=')) {
                assert!(ty.field(field).is_some(), "{name}.{field}");
            }
        }
    }

    #[test]
    fn every_kind_that_is_served_has_numbers() {
        for row in crate::resources::table() {
            let info = row.info();
            let ty = schema::of(&info.api_version(), &info.kind).and_then(of);
            assert!(ty.is_some(), "{}", info.kind);
        }
    }
}
