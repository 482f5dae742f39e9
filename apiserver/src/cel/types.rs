//! The types of CEL, and which of them may stand for which.
//!
//! [`Type`] is what the checker reasons with; [`Type::name`] is the name that messages of the checker use, `Display` the one of
//! cel-go's `Type.String()`. [`Substitution`] binds the type variables of generic functions; a failed attempt leaves no trace.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything: what it is shows when the expression runs.
    Dyn,
    /// The type of an expression that did not check; it fits everywhere, so that one mistake is reported once.
    Error,
    /// The type of `null`.
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `google.protobuf.Duration`
    Duration,
    /// `list(T)`
    List(Arc<Type>),
    /// `map(K, V)`
    Map(Arc<Type>, Arc<Type>),
    /// `optional_type(T)`
    Optional(Arc<Type>),
    /// The type of a type.
    TypeOf(Arc<Type>),
    /// An object with declared fields.
    Object(Arc<Declared>),
    /// A type of a library, known by its name only.
    Opaque(&'static str),
    /// A variable of the checker.
    Variable(u32),
}

/// An object type.
#[derive(Debug)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its fields by the name that expressions use.
    pub fields: Fields,
}

/// What fields an object type has.
#[derive(Debug)]
pub enum Fields {
    /// Just these.
    Known(BTreeMap<String, Type>),
    /// Any field, and it may hold anything; a constructor's (`Object{…}`, `Object.spec{…}`) nested objects are objects too.
    Any,
}

impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Declared {
    /// An object type with these fields.
    pub fn known<const N: usize>(name: &str, fields: [(&str, Type); N]) -> Type {
        let fields = fields.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        Type::Object(Arc::new(Self { name: name.to_owned(), fields: Fields::Known(fields) }))
    }
}

impl Type {
    /// `list(element)`
    pub fn list(element: Type) -> Self {
        Self::List(Arc::new(element))
    }

    /// `map(key, value)`
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    /// `optional_type(inner)`
    pub fn optional(inner: Type) -> Self {
        Self::Optional(Arc::new(inner))
    }

    /// The name in messages of the checker.
    pub fn name(&self) -> String {
        match self {
            Self::Error => "!error!".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::List(of) => format!("list({})", of.name()),
            Self::Map(key, value) => format!("map({}, {})", key.name(), value.name()),
            Self::Optional(of) => format!("optional_type({})", of.name()),
            Self::TypeOf(of) => format!("type({})", of.name()),
            _ => self.to_string(),
        }
    }

    /// Whether a value of any type may be one of this.
    pub(super) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    fn is_wild(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether `null` may stand for a value of this type.
    fn takes_null(&self) -> bool {
        matches!(
            self,
            Self::Null | Self::Opaque(_) | Self::Optional(_) | Self::Object(_) | Self::Duration | Self::Timestamp
        )
    }

    fn parameters(&self) -> Vec<&Type> {
        match self {
            Self::List(of) | Self::Optional(of) | Self::TypeOf(of) => vec![of],
            Self::Map(key, value) => vec![key, value],
            _ => Vec::new(),
        }
    }

    fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Error => f.write_str("error"),
            Self::Null => f.write_str("null_type"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Self::Duration => f.write_str("google.protobuf.Duration"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::TypeOf(of) => write!(f, "type({of})"),
            Self::Object(declared) => f.write_str(&declared.name),
            Self::Opaque(name) => f.write_str(name),
            Self::Variable(number) => write!(f, "_var{number}"),
        }
    }
}

/// What the type variables of one check stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Substitution {
    bound: BTreeMap<u32, Type>,
    next: u32,
}

impl Substitution {
    /// A new variable.
    pub(super) fn variable(&mut self) -> Type {
        self.next += 1;
        Type::Variable(self.next - 1)
    }

    /// The type with all that is known put in; with `finally`, what is still unknown is dyn.
    pub(super) fn apply(&self, kind: &Type, finally: bool) -> Type {
        match kind {
            Type::Variable(number) => match self.bound.get(number) {
                Some(bound) => self.apply(bound, finally),
                None if finally => Type::Dyn,
                None => kind.clone(),
            },
            Type::List(of) => Type::list(self.apply(of, finally)),
            Type::Optional(of) => Type::optional(self.apply(of, finally)),
            Type::TypeOf(of) => Type::TypeOf(Arc::new(self.apply(of, finally))),
            Type::Map(key, value) => Type::map(self.apply(key, finally), self.apply(value, finally)),
            _ => kind.clone(),
        }
    }

    /// Whether a value of type `from` may stand where `to` is wanted; what that says about variables is kept.
    pub(super) fn assign(&mut self, to: &Type, from: &Type) -> bool {
        self.assign_all(&[(to, from)])
    }

    /// As [`Substitution::assign`] for all pairs together.
    pub(super) fn assign_all(&mut self, pairs: &[(&Type, &Type)]) -> bool {
        let before = self.bound.clone();
        let fits = pairs.iter().all(|(to, from)| self.fits(to, from));
        if !fits {
            self.bound = before;
        }
        fits
    }

    fn fits(&mut self, to: &Type, from: &Type) -> bool {
        if matches!(from, Type::Variable(_)) {
            match self.bind(to, from) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if matches!(to, Type::Variable(_)) {
            return self.bind(from, to).0;
        }
        if to.is_wild() || from.is_wild() {
            return true;
        }
        match (to, from) {
            (Type::Null, other) | (other, Type::Null) => other.takes_null(),
            (Type::TypeOf(_), Type::TypeOf(_)) => true,
            (Type::List(_) | Type::Map(..) | Type::Optional(_), _) => {
                to.same_kind(from)
                    && to.parameters().iter().zip(from.parameters()).all(|(to, from)| self.fits(to, from))
            }
            _ => to == from,
        }
    }

    /// Lets `variable` stand for `kind`: whether it can, and whether it stood for something before.
    fn bind(&mut self, kind: &Type, variable: &Type) -> (bool, bool) {
        if kind == variable {
            return (true, true);
        }
        let Type::Variable(number) = variable else { return (false, false) };
        if let Some(bound) = self.bound.get(number).cloned() {
            if kind == &bound {
                return (true, true);
            }
            if !self.fits(kind, &bound) {
                return (false, true);
            }
            let general = most_general(kind, &bound);
            if !self.refers(&general, *number) {
                self.bound.insert(*number, general);
            }
            return (true, true);
        }
        if self.refers(kind, *number) {
            return (false, false);
        }
        self.bound.insert(*number, kind.clone());
        (true, false)
    }

    fn refers(&self, kind: &Type, number: u32) -> bool {
        match kind {
            Type::Variable(other) if *other == number => true,
            Type::Variable(other) => self.bound.get(other).is_some_and(|bound| self.refers(bound, number)),
            _ => kind.parameters().into_iter().any(|part| self.refers(part, number)),
        }
    }
}

/// The less specific of two types that fit each other.
pub(super) fn most_general(one: &Type, other: &Type) -> Type {
    if is_general(one, other) { one.clone() } else { other.clone() }
}

fn is_general(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Variable(_), _) => true,
        (_, Type::Dyn | Type::Variable(_)) => false,
        (Type::TypeOf(_), Type::TypeOf(_)) => true,
        (Type::List(_), Type::List(_)) | (Type::Map(..), Type::Map(..)) | (Type::Optional(_), Type::Optional(_)) => {
            one.parameters().iter().zip(other.parameters()).all(|(one, other)| is_general(one, other))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_where() {
        let object = Declared::known("o", []);
        let cases = [
            (Type::Int, Type::Int, true),
            (Type::Int, Type::Double, false),
            (Type::Dyn, Type::Int, true),
            (Type::Int, Type::Dyn, true),
            (Type::list(Type::Int), Type::list(Type::Dyn), true),
            (Type::list(Type::Int), Type::list(Type::String), false),
            (Type::Timestamp, Type::Null, true),
            (Type::String, Type::Null, false),
            (object, Type::Null, true),
        ];
        for (to, from, fits) in cases {
            assert_eq!(Substitution::default().assign(&to, &from), fits, "{from} as {to}");
        }
    }

    #[test]
    fn a_failed_attempt_binds_nothing() {
        let mut known = Substitution::default();
        let variable = known.variable();
        assert!(!known.assign_all(&[(&variable, &Type::Int), (&variable, &Type::String)]));
        assert_eq!(known.apply(&variable, true), Type::Dyn);
        assert!(known.assign(&variable, &Type::Int));
        assert_eq!(known.apply(&Type::list(variable), false), Type::list(Type::Int));
    }
}
