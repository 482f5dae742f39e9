//! What field ownership must know of a value's type: is it one value, a list of items that are known by keys, a map of fields. Entry
//! point: [`Node::form`].
//!
//! Built-in kinds take the facts from the type graph, kinds of a CustomResourceDefinition from a [`Custom`].

use serde_json::Value;

use super::custom::Custom;
use crate::resources::schema::{self, Field, Merge, Presence, Shape, Type};

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub enum Node<'s> {
    /// A top-level built-in type.
    Type(&'static Type),
    /// A part of a built-in type.
    Part(&'static Shape, &'static Merge),
    /// A type that a CustomResourceDefinition describes.
    Custom(&'s Custom),
    /// Whatever stands there: maps have fields, lists are one value.
    Any,
    /// Whatever stands there, as one value.
    Opaque,
}

/// What a value of a type is made of.
#[derive(Clone, Copy, Debug)]
pub enum Form<'s> {
    /// One value.
    Scalar(Scalar),
    /// A list.
    List(List<'s>),
    /// A map or struct.
    Map(Map<'s>),
}

/// Kinds of single values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    String,
    /// A number.
    Number,
    /// A boolean.
    Bool,
    /// Any of them.
    Any,
}

/// A list.
#[derive(Clone, Copy, Debug)]
pub struct List<'s> {
    /// How items are known.
    pub rule: ListRule<'s>,
    /// The type of the items.
    pub item: Node<'s>,
}

/// How the items of a list are known.
#[derive(Clone, Copy, Debug)]
pub enum ListRule<'s> {
    /// They are not: the list is one value.
    Atomic,
    /// By themselves.
    Set,
    /// By some of their fields.
    Keys(KeyNames<'s>),
}

/// The names of the fields by which items are known.
#[derive(Clone, Copy, Debug)]
pub enum KeyNames<'s> {
    /// Of a built-in type.
    BuiltIn(&'static [&'static str]),
    /// Of a type in a CustomResourceDefinition.
    Custom(&'s [String]),
}

/// A map or struct.
#[derive(Clone, Copy, Debug)]
pub struct Map<'s> {
    /// It is one value.
    pub atomic: bool,
    members: Members<'s>,
}

#[derive(Clone, Copy, Debug)]
enum Members<'s> {
    Type(&'static Type),
    Open(Node<'s>),
    Custom(&'s Custom),
}

const PLAIN: &Merge = &Merge::Plain;

impl<'s> Node<'s> {
    /// The form of this value; where the type leaves it open, the value decides.
    pub fn form(self, value: Option<&Value>) -> Form<'s> {
        match self {
            Self::Type(ty) => Form::Map(Map { atomic: ty.atomic, members: Members::Type(ty) }),
            Self::Part(shape, merge) => part_form(shape, merge, value),
            Self::Custom(custom) => custom_form(custom, value),
            Self::Any => open_form(value, Map { atomic: false, members: Members::Open(Node::Any) }),
            Self::Opaque => open_form(value, Map { atomic: true, members: Members::Open(Node::Opaque) }),
        }
    }

    /// Whether two values of this type may differ in form.
    pub fn is_open(self) -> bool {
        match self {
            Self::Any | Self::Opaque | Self::Part(Shape::Any, _) => true,
            Self::Custom(custom) => custom.is_open(),
            Self::Type(_) | Self::Part(..) => false,
        }
    }

    /// What an item of a list has in a key field that it leaves out.
    pub fn default_of(self, name: &str) -> Option<Value> {
        match self {
            Self::Type(ty) => ty.field(name).and_then(|field| built_in_default(ty, field)),
            Self::Part(Shape::Struct(at), _) => Node::Type(schema::at(*at)).default_of(name),
            Self::Custom(custom) => custom.default_of(name).cloned(),
            Self::Part(..) | Self::Any | Self::Opaque => None,
        }
    }
}

/// The OpenAPI document gives required fields the empty value as their default, and protocols TCP.
fn built_in_default(ty: &Type, field: &Field) -> Option<Value> {
    match (&field.shape, field.presence) {
        (Shape::Str, _) if field.name == "protocol" => Some(Value::from("TCP")),
        (Shape::Str, _) if ty.name == "v1.LocalObjectReference" => Some(Value::from("")),
        (Shape::Str, Presence::Always) => Some(Value::from("")),
        (Shape::Int | Shape::Long, Presence::Always) => Some(Value::from(0)),
        (Shape::Bool, Presence::Always) => Some(Value::from(false)),
        _ => None,
    }
}

fn part_form<'s>(shape: &'static Shape, merge: &'static Merge, value: Option<&Value>) -> Form<'s> {
    match shape {
        Shape::Struct(at) => {
            let ty = schema::at(*at);
            let atomic = match merge {
                Merge::Atomic => true,
                Merge::Granular => false,
                Merge::Plain | Merge::Set | Merge::Keys(_) => ty.atomic,
            };
            Form::Map(Map { atomic, members: Members::Type(ty) })
        }
        Shape::Map(inner) => {
            Form::Map(Map { atomic: *merge == Merge::Atomic, members: Members::Open(Node::Part(inner, PLAIN)) })
        }
        Shape::List(inner) => {
            let rule = match merge {
                Merge::Plain | Merge::Granular | Merge::Atomic => ListRule::Atomic,
                Merge::Set => ListRule::Set,
                Merge::Keys(names) => ListRule::Keys(KeyNames::BuiltIn(names)),
            };
            Form::List(List { rule, item: Node::Part(inner, PLAIN) })
        }
        Shape::Any if *merge == Merge::Atomic => Node::Opaque.form(value),
        Shape::Any => Node::Any.form(value),
        Shape::Str | Shape::Bytes => Form::Scalar(Scalar::String),
        Shape::Int | Shape::Long | Shape::Float => Form::Scalar(Scalar::Number),
        Shape::Bool => Form::Scalar(Scalar::Bool),
        Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString => Form::Scalar(Scalar::Any),
    }
}

fn custom_form<'s>(custom: &'s Custom, value: Option<&Value>) -> Form<'s> {
    match custom {
        Custom::Scalar(scalar) => Form::Scalar(*scalar),
        Custom::Set(item) => Form::List(List { rule: ListRule::Set, item: Node::Custom(item) }),
        Custom::Keyed { keys, item } => {
            Form::List(List { rule: ListRule::Keys(KeyNames::Custom(keys)), item: Node::Custom(item) })
        }
        Custom::List(item) => Form::List(List { rule: ListRule::Atomic, item: Node::Custom(item) }),
        Custom::Map { atomic, .. } => Form::Map(Map { atomic: *atomic, members: Members::Custom(custom) }),
        Custom::BuiltIn(ty) => Node::Type(ty).form(value),
        Custom::Any => Node::Any.form(value),
    }
}

fn open_form<'s>(value: Option<&Value>, map: Map<'s>) -> Form<'s> {
    match value {
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Form::Scalar(Scalar::Any),
        Some(Value::Array(_)) => Form::List(List { rule: ListRule::Atomic, item: Node::Opaque }),
        Some(Value::Object(_) | Value::Null) | None => Form::Map(map),
    }
}

impl<'s> KeyNames<'s> {
    /// The names.
    pub fn iter(self) -> impl Iterator<Item = &'s str> {
        let (built_in, custom) = match self {
            Self::BuiltIn(names) => (names, &[][..]),
            Self::Custom(names) => (&[][..], names),
        };
        built_in.iter().copied().chain(custom.iter().map(String::as_str))
    }
}

impl<'s> Map<'s> {
    /// The type of a field; none if the type has no such field.
    pub fn field(&self, name: &str) -> Option<Node<'s>> {
        match self.members {
            Members::Type(ty) => ty.field(name).map(|field| Node::Part(&field.shape, &field.merge)),
            Members::Open(inner) => Some(inner),
            Members::Custom(custom) => custom.field(name),
        }
    }

    /// Whether the type names this field: it belongs to the type, not to the object.
    pub fn declares(&self, name: &str) -> bool {
        match self.members {
            Members::Type(ty) => ty.field(name).is_some(),
            Members::Open(_) => false,
            Members::Custom(custom) => custom.declares(name),
        }
    }
}
