//! The table of functions: `declarations.txt`, read once. Entry points: [`function`] and [`named_type`].

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::types::Type;

/// One form of a function.
#[derive(Clone, Debug)]
pub(super) struct Overload {
    /// Called on a value, which is then the first of the arguments.
    pub member: bool,
    /// Types of the arguments; type parameters are the variables 0 and 1.
    pub arguments: Vec<Type>,
    /// Type of the result.
    pub result: Type,
}

static FUNCTIONS: LazyLock<BTreeMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let lines = include_str!("declarations.txt").lines();
    let entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    entries
        .map(|line| {
            let (name, overloads) = line.split_once(' ').expect("a name and overloads");
            (name, overloads.split("; ").map(overload).collect())
        })
        .collect()
});

/// The forms of a function, none if there is no such function.
pub(super) fn function(name: &str) -> Option<&'static [Overload]> {
    FUNCTIONS.get(name).map(Vec::as_slice)
}

/// A type that expressions can name.
pub(super) fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "type" => Type::TypeOf(Arc::new(Type::Dyn)),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        _ => Type::Opaque(OPAQUE.into_iter().find(|opaque| *opaque == name)?),
    })
}

const OPAQUE: [&str; 11] = [
    "kubernetes.URL",
    "kubernetes.Quantity",
    "kubernetes.NamedFormat",
    "kubernetes.Semver",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
    "net.IP",
    "net.CIDR",
];

fn overload(text: &'static str) -> Overload {
    let (call, result) = text.split_once(" -> ").expect("a result");
    let open = match call.find(".(") {
        Some(dot) => dot + 1,
        None => 0,
    };
    let (target, arguments) = call.split_at(open);
    let inner = arguments.strip_prefix('(').and_then(|text| text.strip_suffix(')')).expect("arguments in brackets");
    let target = target.strip_suffix('.').map(kind);
    let member = target.is_some();
    Overload {
        member,
        arguments: target.into_iter().chain(split(inner).into_iter().map(kind)).collect(),
        result: kind(result),
    }
}

/// Splits at the commas that are not within brackets.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

fn kind(text: &'static str) -> Type {
    if let Some((name, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut inner = split(inner).into_iter().map(kind);
        let first = inner.next().expect("a type in brackets");
        return match name {
            "list" => Type::list(first),
            "optional" => Type::optional(first),
            "type" => Type::TypeOf(Arc::new(first)),
            _ => Type::map(first, inner.next().expect("a map has keys and values")),
        };
    }
    match text {
        "A" => Type::Variable(0),
        "B" => Type::Variable(1),
        "dyn" => Type::Dyn,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        _ => named_type(text).unwrap_or_else(|| panic!("no type {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads() {
        let index = function("_[_]").expect("declared");
        assert_eq!(index[1].arguments, [Type::map(Type::Variable(0), Type::Variable(1)), Type::Variable(0)]);
        let check = function("check").expect("declared");
        assert!(check.iter().all(|overload| overload.member && overload.arguments.len() == 2));
        assert_eq!(function("optional.none").expect("declared")[0].arguments, []);
        assert!(function("getQuery").expect("declared")[0].member);
        assert!(function("nothing").is_none());
    }
}
