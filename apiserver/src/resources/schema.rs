//! What the built-in types look like on the wire: which fields exist, of which shape, which of them Go always writes, and how
//! lists merge. Entry point: [`of`].
//!
//! The facts are in `schema.txt`, one type a line: `group/version.Name field:shape…`. A shape is `str`, `bytes`, `int`, `long`,
//! `float`, `bool`, `time`, `microtime`, `quantity`, `intorstr`, `any`, a type, `[shape]` or `{shape}`. After it: `!` always
//! written, `.` a struct by value (always written), `*` a pointer (written when set, even if empty), `?` a pointer that is
//! written as null when it is not set; nothing means `omitempty`.
//! Then `^key` the strategic merge key (`^` alone: merged as a set), `%` retainKeys, `~` replaced as a whole,
//! `@k1,k2` the keys of a list that is a map, `@=` a set, `@-` atomic, `@+` granular although the type is atomic.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The form of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Str,
    /// Base64 in a string.
    Bytes,
    /// A 32-bit integer.
    Int,
    /// A 64-bit integer.
    Long,
    /// A number.
    Float,
    /// A boolean.
    Bool,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// `100m`, `1Gi`.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// Whatever the client sent.
    Any,
    /// The type at this index of the schema.
    Struct(usize),
    /// A list.
    List(Box<Shape>),
    /// A map with string keys.
    Map(Box<Shape>),
}

/// When Go writes a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Unless it is empty.
    OmitEmpty,
    /// When it is set, empty or not.
    Pointer,
    /// Always.
    Always,
    /// Always, as null when it is not set.
    Nullable,
}

/// How server-side apply treats the items of a list, or the fields of a struct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// As the shape says: a list is atomic, a struct or map granular.
    #[default]
    Plain,
    /// One value.
    Atomic,
    /// A list without duplicates.
    Set,
    /// Field by field, although the type itself is atomic.
    Granular,
    /// A list whose items are known by these fields.
    Keys(Vec<&'static str>),
}

/// One field of a type.
#[derive(Clone, Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// Its form.
    pub shape: Shape,
    /// When it is written.
    pub presence: Presence,
    /// Strategic merge: the key of the items, empty for a set of scalars; none replaces the list.
    pub merge_key: Option<&'static str>,
    /// Strategic merge: `$retainKeys` applies.
    pub retain_keys: bool,
    /// Strategic merge: what a patch says takes the place of what was there.
    pub replaces: bool,
    /// Server-side apply.
    pub merge: Merge,
}

/// One type.
#[derive(Debug)]
pub struct Type {
    /// `group/version.Name`.
    pub name: &'static str,
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// Server-side apply owns it as a whole.
    pub atomic: bool,
}

impl Type {
    /// The field of this JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| field.name.cmp(name)).ok().map(|at| &self.fields[at])
    }

    /// As Go's error messages name it, for example `PodSpec`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// As Go names it, for example `v1.PodSpec`.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }
}

struct Schema {
    types: Vec<Type>,
    index: BTreeMap<&'static str, usize>,
}

const FACTS: &str = include_str!("schema.txt");

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let lines: Vec<&'static str> = FACTS.lines().filter(|line| !line.is_empty()).collect();
        let index = lines.iter().enumerate().map(|(at, line)| (head(line), at)).collect();
        let types = lines.iter().map(|line| parse_type(line, &index)).collect();
        Schema { types, index }
    })
}

/// The type of a top-level object.
pub fn of(api_version: &str, kind: &str) -> Option<&'static Type> {
    named(&format!("{api_version}.{kind}"))
}

/// All types.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = &'static Type> {
    schema().types.iter()
}

/// The type of this full name, for example `v1.PodSpec`.
pub fn named(name: &str) -> Option<&'static Type> {
    let schema = schema();
    schema.index.get(name).map(|at| &schema.types[*at])
}

/// The type behind [`Shape::Struct`].
pub fn at(index: usize) -> &'static Type {
    &schema().types[index]
}

fn head(line: &'static str) -> &'static str {
    line.split(' ').next().unwrap_or(line)
}

fn parse_type(line: &'static str, index: &BTreeMap<&'static str, usize>) -> Type {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut atomic = false;
    let mut fields = Vec::new();
    for word in words {
        match word.split_once(':') {
            Some((name, facts)) => fields.push(parse_field(name, facts, index)),
            None => atomic = word == "@-",
        }
    }
    Type { name, fields, atomic }
}

fn parse_field(name: &'static str, facts: &'static str, index: &BTreeMap<&'static str, usize>) -> Field {
    let (facts, merge) = match facts.split_once('@') {
        None => (facts, Merge::Plain),
        Some((facts, "=")) => (facts, Merge::Set),
        Some((facts, "-")) => (facts, Merge::Atomic),
        Some((facts, "+")) => (facts, Merge::Granular),
        Some((facts, keys)) => (facts, Merge::Keys(keys.split(',').collect())),
    };
    let (facts, replaces) = facts.strip_suffix('~').map_or((facts, false), |facts| (facts, true));
    let (facts, retain_keys) = facts.strip_suffix('%').map_or((facts, false), |facts| (facts, true));
    let (facts, merge_key) = facts.split_once('^').map_or((facts, None), |(facts, key)| (facts, Some(key)));
    let (shape, presence) = match facts.as_bytes().last() {
        Some(b'!' | b'.') => (&facts[..facts.len() - 1], Presence::Always),
        Some(b'?') => (&facts[..facts.len() - 1], Presence::Nullable),
        Some(b'*') => (&facts[..facts.len() - 1], Presence::Pointer),
        _ => (facts, Presence::OmitEmpty),
    };
    Field { name, shape: parse_shape(shape, index), presence, merge_key, retain_keys, replaces, merge }
}

fn parse_shape(text: &'static str, index: &BTreeMap<&'static str, usize>) -> Shape {
    let inner = |text: &'static str| Box::new(parse_shape(&text[1..text.len() - 1], index));
    match text {
        "str" => Shape::Str,
        "bytes" => Shape::Bytes,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "bool" => Shape::Bool,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "quantity" => Shape::Quantity,
        "intorstr" => Shape::IntOrString,
        "any" => Shape::Any,
        list if list.starts_with('[') => Shape::List(inner(list)),
        map if map.starts_with('{') => Shape::Map(inner(map)),
        name => index.get(name).map_or(Shape::Any, |at| Shape::Struct(*at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_facts_is_understood() {
        for (at, ty) in schema().types.iter().enumerate() {
            assert_eq!(schema().index[ty.name], at, "{} occurs twice", ty.name);
            assert!(ty.fields.is_sorted_by_key(|field| field.name), "{}", ty.name);
            for field in &ty.fields {
                let mut shape = &field.shape;
                while let Shape::List(inner) | Shape::Map(inner) = shape {
                    shape = inner;
                }
                let opaque = ["data", "parameters", "fieldsV1"].contains(&field.name) || ty.name.contains("JSONSchema");
                assert!(*shape != Shape::Any || opaque, "{}.{} has no known shape", ty.name, field.name);
            }
        }
    }

    #[test]
    fn facts_that_others_rely_on() {
        let container = named("v1.Container").expect("containers are known");
        let ports = container.field("ports").expect("containers have ports");
        assert_eq!(ports.merge_key, Some("containerPort"));
        assert_eq!(ports.merge, Merge::Keys(vec!["containerPort", "protocol"]));
        assert_eq!(container.field("resources").map(|f| f.presence), Some(Presence::Always));
        let volumes = named("v1.PodSpec").and_then(|spec| spec.field("volumes")).expect("pods have volumes");
        assert!(volumes.retain_keys);
        assert!(of("meta/v1", "LabelSelector").is_some_and(|ty| ty.atomic));
        assert_eq!(of("apps/v1", "Deployment").map(Type::go_name), Some("v1.Deployment"));
    }
}
