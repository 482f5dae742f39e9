//! What a document says of a path and its operations, without the form of either OpenAPI version: [`PathItem`], [`Operation`].

use serde_json::{Value, json};

use super::definitions::PATCH;
use super::parameters::{self, Parameter};

/// A kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gvk {
    group: String,
    version: String,
    kind: String,
}

impl Gvk {
    /// From its parts.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// As the documents show it.
    pub fn to_value(&self) -> Value {
        json!({"group": self.group, "kind": self.kind, "version": self.version})
    }
}

/// What a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// Perhaps an object of this definition.
    Optional(String),
    /// An object of this definition.
    Required(String),
    /// A patch in one of these media types.
    Patch(&'static [&'static str]),
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An object of this definition.
    Object(String),
    /// Text, or bytes.
    Text,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `get`, `put`, `post`, `delete`, `options`, `head`, `patch`.
    pub method: &'static str,
    /// Unique in all documents.
    pub id: String,
    /// For people.
    pub description: String,
    /// `list`, `watchlist`, `connect`, …; empty for paths that are no resources.
    pub action: &'static str,
    /// The kind that it is about; none for paths that are no resources.
    pub kind: Option<Gvk>,
    /// Groups the operations of a client.
    pub tag: String,
    /// All of them, those in the path too, by name.
    pub parameters: Vec<Parameter>,
    /// See [`Body`].
    pub body: Body,
    /// Codes besides 401.
    pub codes: &'static [u16],
    /// See [`Answer`].
    pub answer: Answer,
    /// Media types of the answer.
    pub produces: &'static [&'static str],
}

/// A path.
#[derive(Clone, Debug)]
pub struct PathItem {
    /// With `{parameters}`.
    pub path: String,
    /// By method.
    pub operations: Vec<Operation>,
}

impl PathItem {
    /// The parameters that all operations share, by name; the documents say them once for the path.
    pub fn shared_parameters(&self) -> Vec<&Parameter> {
        let Some((first, others)) = self.operations.split_first() else { return Vec::new() };
        let shared = |parameter: &&Parameter| {
            others.iter().all(|operation| operation.parameters.iter().any(|other| parameters::same(parameter, other)))
        };
        first.parameters.iter().filter(shared).collect()
    }

    /// The parameters of one operation that not all share.
    pub fn own_parameters<'a>(&self, operation: &'a Operation) -> Vec<&'a Parameter> {
        let shared = self.shared_parameters();
        operation.parameters.iter().filter(|own| !shared.iter().any(|shared| parameters::same(shared, own))).collect()
    }
}

/// Media types of objects.
pub const OBJECT: &[&str] = &["application/json", "application/yaml"];
/// Media types of lists, which may be watches.
pub const LIST: &[&str] = &["application/json", "application/yaml", "application/json;stream=watch"];

impl Body {
    /// The definition that it names.
    pub fn definition(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Optional(name) | Self::Required(name) => Some(name),
            Self::Patch(_) => Some(PATCH),
        }
    }
}
