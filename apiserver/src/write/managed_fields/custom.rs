//! [`Custom`]: the type of a custom resource as field ownership sees it, made once from the schema of its CustomResourceDefinition.
//! Entry point: [`Custom::of_resource`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::shape::{Node, Scalar};
use crate::resources::schema::{self, Type};

/// A type.
#[derive(Clone, Debug)]
pub enum Custom {
    /// One value.
    Scalar(Scalar),
    /// A list that is one value.
    List(Box<Custom>),
    /// A list of different scalars.
    Set(Box<Custom>),
    /// A list whose items are known by some of their fields.
    Keyed {
        /// The fields.
        keys: Vec<String>,
        /// The type of the items.
        item: Box<Custom>,
    },
    /// An object.
    Map {
        /// It is one value.
        atomic: bool,
        /// The fields that the type names.
        fields: BTreeMap<String, Member>,
        /// The type of all others; none where there are no others.
        rest: Option<Box<Custom>>,
    },
    /// A type that all kinds share, such as `metadata`.
    BuiltIn(&'static Type),
    /// Anything: maps have fields, lists are one value.
    Any,
}

/// A field that the type names.
#[derive(Clone, Debug)]
pub struct Member {
    node: Custom,
    default: Option<Value>,
}

impl Custom {
    /// The type of a whole resource from its `openAPIV3Schema`; without one anything goes.
    pub fn of_resource(schema: Option<&Value>) -> Self {
        let mut root = schema.map_or(Self::Any, |schema| Self::of_schema(schema, false));
        if let Self::Any = root {
            root = Self::Map { atomic: false, fields: BTreeMap::new(), rest: Some(Box::new(Self::Any)) };
        }
        if let Self::Map { fields, .. } = &mut root {
            for name in ["apiVersion", "kind"] {
                fields.insert(name.to_owned(), Member { node: Self::Scalar(Scalar::String), default: None });
            }
            if let Some(meta) = schema::named("meta/v1.ObjectMeta") {
                fields.insert("metadata".to_owned(), Member { node: Self::BuiltIn(meta), default: None });
            }
        }
        root
    }

    fn of_schema(schema: &Value, open: bool) -> Self {
        let open = open || schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => Self::of_object(schema, open),
            Some("array") => Self::of_array(schema, open),
            Some("integer" | "number") => Self::Scalar(Scalar::Number),
            Some("boolean") => Self::Scalar(Scalar::Bool),
            Some("string") => match schema.get("format").and_then(Value::as_str) {
                None | Some("" | "byte") => Self::Scalar(Scalar::String),
                Some(_) => Self::Scalar(Scalar::Any),
            },
            _ => Self::Any,
        }
    }

    fn of_object(schema: &Value, open: bool) -> Self {
        let properties = schema.get("properties").and_then(Value::as_object);
        let member = |(name, schema): (&String, &Value)| {
            (name.clone(), Member { node: Self::of_schema(schema, open), default: schema.get("default").cloned() })
        };
        let mut fields: BTreeMap<String, Member> = properties.into_iter().flatten().map(member).collect();
        if schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true))
            && let Some(meta) = schema::named("meta/v1.ObjectMeta")
        {
            fields.insert("metadata".to_owned(), Member { node: Self::BuiltIn(meta), default: None });
        }
        let rest = match schema.get("additionalProperties") {
            None if open || fields.is_empty() => Some(Self::Any),
            None | Some(Value::Bool(false)) => None,
            Some(Value::Bool(true)) => Some(Self::Any),
            Some(schema) => Some(Self::of_schema(schema, open)),
        };
        let atomic = schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
        Self::Map { atomic, fields, rest: rest.map(Box::new) }
    }

    fn of_array(schema: &Value, open: bool) -> Self {
        let item = Box::new(schema.get("items").map_or(Self::Any, |items| Self::of_schema(items, open)));
        match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Self::Set(item),
            Some("map") => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
                Self::Keyed { keys, item }
            }
            _ => Self::List(item),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Any)
    }

    pub(super) fn field(&self, name: &str) -> Option<Node<'_>> {
        match self {
            Self::Map { fields, rest, .. } => match (fields.get(name), rest) {
                (Some(member), _) => Some(Node::Custom(&member.node)),
                (None, rest) => rest.as_deref().map(Node::Custom),
            },
            _ => None,
        }
    }

    pub(super) fn declares(&self, name: &str) -> bool {
        matches!(self, Self::Map { fields, .. } if fields.contains_key(name))
    }

    pub(super) fn default_of(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Map { fields, .. } => fields.get(name).and_then(|member| member.default.as_ref()),
            _ => None,
        }
    }
}
