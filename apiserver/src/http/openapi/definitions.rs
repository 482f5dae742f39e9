//! The schemas that operations refer to, with everything these mention. Entry points: [`Definitions::add`], then
//! [`Definitions::names`] and [`Definitions::schema`].
//!
//! Built-in types come from the type graph in [`schema`]; kinds that are defined at run time bring their own schema. Schemas are
//! made one at a time while a document is written. They have the form of version 3; [`super::v2`] rewrites them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::operation::Gvk;
use super::required;
use crate::resources::schema::{self, Field, Merge, Shape, Type};

const LIST_METADATA: &str = "Revision of the list, and how to go on.";

/// Where references point in a version 3 document.
pub const REFERENCE: &str = "#/components/schemas/";

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// The answer of deletes, and of errors.
pub const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
/// The body of deletes.
pub const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
/// The body of patches.
pub const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
/// What watches answer.
pub const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
/// What `/version` answers.
pub const VERSION_INFO: &str = "io.k8s.apimachinery.pkg.version.Info";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

/// Where a schema comes from.
enum Source {
    /// The type graph.
    Type(&'static Type),
    /// Ready.
    Written(Value),
}

/// See the module's documentation.
#[derive(Default)]
pub struct Definitions {
    sources: BTreeMap<String, Source>,
    kinds: BTreeMap<String, BTreeSet<Gvk>>,
    descriptions: Descriptions,
}

/// The name of a built-in type's definition: that of its Go package, reversed.
pub fn name_of(type_name: &str) -> String {
    let (group_version, name) = type_name.rsplit_once('.').unwrap_or(("", type_name));
    let (group, version) = group_version.split_once('/').unwrap_or(("core", group_version));
    match group {
        "meta" => format!("{META}{name}"),
        "apiextensions.k8s.io" => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{name}"),
        "apiregistration.k8s.io" => format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{name}"),
        group => format!("io.k8s.api.{}.{version}.{name}", group.split('.').next().unwrap_or(group)),
    }
}

/// A reference to a definition.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("{REFERENCE}{name}")})
}

impl Definitions {
    /// Adds a built-in type of this full name, for example `v1.Pod`, and all that it mentions.
    pub fn add_named(&mut self, type_name: &str) {
        if let Some(ty) = schema::named(type_name) {
            self.add(ty);
        }
    }

    /// Adds a built-in type and all that it mentions.
    pub fn add(&mut self, ty: &'static Type) {
        if self.sources.insert(name_of(ty.name), Source::Type(ty)).is_some() {
            return;
        }
        for field in &ty.fields {
            let mut shape = &field.shape;
            while let Shape::List(inner) | Shape::Map(inner) = shape {
                shape = inner;
            }
            match (shape, referred(ty, field, shape)) {
                (Shape::Struct(at), _) => self.add(schema::at(*at)),
                (_, Some(name)) => self.write(&name, scalar(&name)),
                (_, None) => {}
            }
        }
    }

    /// Adds a ready schema.
    pub fn write(&mut self, name: &str, schema: Value) {
        self.sources.insert(name.to_owned(), Source::Written(schema));
    }

    /// Adds the schema of a kind that was defined at run time: what all objects have stands in front of its own.
    pub fn add_custom(&mut self, name: &str, schema: &Value) {
        self.add_named("meta/v1.ObjectMeta");
        let mut schema = schema.clone();
        if !schema["properties"].is_object() {
            schema["properties"] = json!({});
        }
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        schema["properties"]["metadata"] = json!({"allOf": [reference(OBJECT_META)]});
        self.write(name, schema);
    }

    /// Adds the list of a kind.
    pub fn add_list(&mut self, name: &str, item: &str, kind: &str) {
        self.add_named("meta/v1.ListMeta");
        let items = format!("The objects of kind {kind}.");
        self.write(
            name,
            json!({
                "description": format!("Objects of kind {kind}."),
                "properties": {
                    "apiVersion": {"type": "string"},
                    "items": {"description": items, "items": reference(item), "type": "array"},
                    "kind": {"type": "string"},
                    "metadata": described_reference(LIST_META, LIST_METADATA),
                },
                "required": ["items"],
                "type": "object",
            }),
        );
    }

    /// Adds what every group has: options of deletes, patches, events of watches, errors.
    pub fn add_machinery(&mut self) {
        for name in ["meta/v1.APIResourceList", "meta/v1.DeleteOptions", "meta/v1.Status"] {
            self.add_named(name);
        }
        for name in [PATCH, WATCH_EVENT, RAW] {
            self.write(name, scalar(name));
        }
        self.mark(DELETE_OPTIONS, Gvk::new("", "v1", "DeleteOptions"));
        self.mark(WATCH_EVENT, Gvk::new("", "v1", "WatchEvent"));
        self.mark(STATUS, Gvk::new("", "v1", "Status"));
        self.mark(&format!("{META}APIResourceList"), Gvk::new("", "v1", "APIResourceList"));
    }

    /// A definition is the schema of this kind.
    pub fn mark(&mut self, name: &str, kind: Gvk) {
        self.kinds.entry(name.to_owned()).or_default().insert(kind);
    }

    /// Has all of them described where the words are known.
    pub fn describe(&mut self, descriptions: Descriptions) {
        self.descriptions = descriptions;
    }

    /// All definitions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The schema of one.
    pub fn schema(&self, name: &str) -> Value {
        let mut schema = match self.sources.get(name) {
            Some(Source::Type(ty)) => object(ty),
            Some(Source::Written(schema)) => schema.clone(),
            None => json!({}),
        };
        self.descriptions.add_to(name, &mut schema);
        if let Some(kinds) = self.kinds.get(name) {
            schema["x-kubernetes-group-version-kind"] = kinds.iter().map(Gvk::to_value).collect();
        }
        schema
    }
}

fn object(ty: &'static Type) -> Value {
    let mut schema = json!({"type": "object"});
    let properties: Map<String, Value> =
        ty.fields.iter().map(|field| (field.name.to_owned(), property(ty, field))).collect();
    if !properties.is_empty() {
        schema["properties"] = properties.into();
    }
    let required = required::of(ty.name);
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if ty.atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    schema
}

fn property(ty: &Type, field: &Field) -> Value {
    let mut schema = shape(ty, field, &field.shape);
    if schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    extend(&mut schema, field);
    schema
}

/// How patches and server-side apply merge the field.
fn extend(schema: &mut Value, field: &Field) {
    let is_list = matches!(field.shape, Shape::List(_));
    match (&field.merge, is_list) {
        (Merge::Plain | Merge::Atomic, true) => schema["x-kubernetes-list-type"] = "atomic".into(),
        (Merge::Plain, false) => {}
        (Merge::Atomic, false) => schema["x-kubernetes-map-type"] = "atomic".into(),
        (Merge::Granular, _) => schema["x-kubernetes-map-type"] = "granular".into(),
        (Merge::Set, _) => schema["x-kubernetes-list-type"] = "set".into(),
        (Merge::Keys(keys), _) => {
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = keys.clone().into();
        }
    }
    if let Some(key) = field.merge_key.filter(|key| !key.is_empty()) {
        schema["x-kubernetes-patch-merge-key"] = key.into();
    }
    let strategies =
        [(field.merge_key.is_some(), "merge"), (field.retain_keys, "retainKeys"), (field.replaces, "replace")];
    let strategies: Vec<&str> = strategies.into_iter().filter(|(applies, _)| *applies).map(|(_, name)| name).collect();
    if !strategies.is_empty() {
        schema["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
}

fn shape(ty: &Type, field: &Field, of: &Shape) -> Value {
    if let Some(name) = referred(ty, field, of) {
        return reference(&name);
    }
    match of {
        Shape::Str => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Int => json!({"type": "integer", "format": "int32"}),
        Shape::Long => json!({"type": "integer", "format": "int64"}),
        Shape::Float => json!({"type": "number", "format": "double"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::List(inner) => json!({"type": "array", "items": shape(ty, field, inner)}),
        Shape::Map(inner) => json!({"type": "object", "additionalProperties": shape(ty, field, inner)}),
        Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString | Shape::Any | Shape::Struct(_) => {
            json!({})
        }
    }
}

/// The definition that a shape refers to. JSON of no certain form stands inline in schemas of schemas.
fn referred(ty: &Type, field: &Field, shape: &Shape) -> Option<String> {
    match shape {
        Shape::Struct(at) => Some(name_of(schema::at(*at).name)),
        Shape::Time => Some(TIME.to_owned()),
        Shape::MicroTime => Some(MICRO_TIME.to_owned()),
        Shape::Quantity => Some(QUANTITY.to_owned()),
        Shape::IntOrString => Some(INT_OR_STRING.to_owned()),
        Shape::Any if field.name == "fieldsV1" => Some(FIELDS.to_owned()),
        Shape::Any if !ty.name.contains("JSONSchema") => Some(RAW.to_owned()),
        Shape::Any | Shape::Str | Shape::Bytes | Shape::Int | Shape::Long | Shape::Float | Shape::Bool => None,
        Shape::List(_) | Shape::Map(_) => None,
    }
}

fn described_reference(name: &str, description: &str) -> Value {
    json!({"allOf": [reference(name)], "description": description})
}

/// The definitions that are no objects of the type graph.
pub fn scalar(name: &str) -> Value {
    match name {
        TIME => json!({
            "description": "Time is a wrapper around time.Time which supports correct marshaling to YAML and JSON.  Wrappers are provided for many of the factory methods that the time package offers.",
            "format": "date-time",
            "type": "string",
        }),
        MICRO_TIME => {
            json!({"description": "MicroTime is version of Time with microsecond level precision.", "format": "date-time", "type": "string"})
        }
        QUANTITY => json!({
            "description": "Quantity is a fixed-point representation of a number: a signed decimal number with a suffix of the International System of units (m, k, M, G, T, P, E), a binary one (Ki, Mi, Gi, Ti, Pi, Ei) or a decimal exponent, for example 100m, 1.5Gi, 12e6. It is shown in canonical form, with the kind of suffix that it was given.",
            "oneOf": [{"type": "string"}, {"type": "number"}],
        }),
        INT_OR_STRING => json!({
            "description": "IntOrString is a type that can hold an int32 or a string.  When used in JSON or YAML marshalling and unmarshalling, it produces or consumes the inner type.  This allows you to have, for example, a JSON field that can accept a name or number.",
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
        }),
        FIELDS => json!({
            "description": "FieldsV1 stores a set of fields in a data structure like a Trie, in JSON format.\n\nEach key is either a '.' representing the field itself, and will always map to an empty set, or a string representing a sub-field or item. The string will follow one of these four formats: 'f:<name>', where <name> is the name of a field in a struct, or key in a map 'v:<value>', where <value> is the exact json formatted value of a list item 'i:<index>', where <index> is position of a item in a list 'k:<keys>', where <keys> is a map of  a list item's key fields to their unique values If a key maps to an empty Fields value, the field that key represents is part of the set.\n\nThe exact format is defined in sigs.k8s.io/structured-merge-diff",
            "type": "object",
        }),
        PATCH => {
            json!({"description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.", "type": "object"})
        }
        WATCH_EVENT => json!({
            "description": "Event represents a single event to a watched resource.",
            "properties": {
                "object": described_reference(RAW, "Object is:\n * If Type is Added or Modified: the new state of the object.\n * If Type is Deleted: the state of the object immediately before deletion.\n * If Type is Error: *Status is recommended; other types may make sense\n   depending on context."),
                "type": {"type": "string"},
            },
            "required": ["type", "object"],
            "type": "object",
        }),
        VERSION_INFO => version_info(),
        RAW => json!({"description": "RawExtension is an object of any kind, as it was given.", "type": "object"}),
        _ => json!({}),
    }
}

fn version_info() -> Value {
    let always =
        ["buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "major", "minor", "platform"];
    let emulated = ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
    let properties: Map<String, Value> =
        always.into_iter().chain(emulated).map(|name| (name.to_owned(), json!({"type": "string"}))).collect();
    json!({
        "description": "Info contains versioning information. how we'll want to distribute that information.",
        "properties": properties,
        "required": always,
        "type": "object",
    })
}
