//! A definition as upstream's validation sees it: what all versions share stands at the top. Entry point: [`Internal::of`].
//!
//! Error paths follow from that (`spec.validation.…` for a schema that all versions have), and so do the values that errors show:
//! [`shown_versions`] writes them as Go writes its internal types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::object::Object;

/// See the module.
pub(super) struct Internal {
    /// What all versions share.
    pub shared: Facets,
    /// What each has of its own.
    pub versions: Vec<Version>,
}

/// What can be shared by versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facets {
    /// `schema.openAPIV3Schema`.
    pub schema: Option<Value>,
    /// `subresources`.
    pub subresources: Option<Value>,
    /// `additionalPrinterColumns`.
    pub columns: Vec<Value>,
    /// `selectableFields`.
    pub selectable: Vec<Value>,
}

/// A version.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    pub deprecated: bool,
    pub deprecation_warning: Option<String>,
    pub own: Facets,
}

impl Internal {
    /// Moves what is the same in all versions to the top.
    pub(super) fn of(definition: &CustomResourceDefinition) -> Self {
        let value = definition.to_value();
        let listed = value.pointer("/spec/versions").and_then(Value::as_array);
        let mut versions: Vec<Version> = listed.into_iter().flatten().map(version).collect();
        let mut shared = Facets::default();
        let Some(first) = versions.first().map(|first| first.own.clone()) else { return Self { shared, versions } };
        let alike = versions.iter().all(|version| version.own.schema == first.schema);
        if alike {
            shared.schema = first.schema;
            versions.iter_mut().for_each(|version| version.own.schema = None);
        }
        if versions.iter().all(|version| version.own.subresources == first.subresources) {
            shared.subresources = first.subresources;
            versions.iter_mut().for_each(|version| version.own.subresources = None);
        }
        if versions.iter().all(|version| version.own.columns == first.columns) {
            shared.columns = first.columns;
            versions.iter_mut().for_each(|version| version.own.columns = Vec::new());
        }
        // What is selected is judged by the schema that stands beside it.
        if alike && versions.iter().all(|version| version.own.selectable == first.selectable) {
            shared.selectable = first.selectable;
            versions.iter_mut().for_each(|version| version.own.selectable = Vec::new());
        }
        Self { shared, versions }
    }
}

fn version(value: &Value) -> Version {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    Version {
        name: text("name").unwrap_or_default(),
        served: flag("served"),
        storage: flag("storage"),
        deprecated: flag("deprecated"),
        deprecation_warning: text("deprecationWarning"),
        own: Facets {
            schema: value.pointer("/schema/openAPIV3Schema").cloned(),
            subresources: value.get("subresources").cloned(),
            columns: list("additionalPrinterColumns"),
            selectable: list("selectableFields"),
        },
    }
}

/// A value as Go's JSON encoder writes it.
pub(super) fn go_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn object(fields: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn list(items: &[Value], item: impl Fn(&Value) -> String) -> String {
    if items.is_empty() {
        return "null".to_owned();
    }
    format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(","))
}

/// A field that is written whatever it is: what it is when it was never set.
fn or(value: &Value, name: &str, zero: &str) -> String {
    value.get(name).map_or_else(|| zero.to_owned(), go_json)
}

/// The versions in errors about all of them.
pub(super) fn shown_versions(versions: &[Version]) -> String {
    let shown: Vec<String> = versions.iter().map(shown_version).collect();
    format!("[{}]", shown.join(","))
}

fn shown_version(version: &Version) -> String {
    let text = |text: &str| go_json(&Value::from(text));
    let own = &version.own;
    let schema = own.schema.as_ref().map(|schema| object([("OpenAPIV3Schema", shown_schema(schema))]));
    let column = |column: &Value| {
        object([
            ("Name", or(column, "name", "\"\"")),
            ("Type", or(column, "type", "\"\"")),
            ("Format", or(column, "format", "\"\"")),
            ("Description", or(column, "description", "\"\"")),
            ("Priority", or(column, "priority", "0")),
            ("JSONPath", or(column, "jsonPath", "\"\"")),
        ])
    };
    let selectable = |field: &Value| object([("JSONPath", or(field, "jsonPath", "\"\""))]);
    object([
        ("Name", text(&version.name)),
        ("Served", version.served.to_string()),
        ("Storage", version.storage.to_string()),
        ("Deprecated", version.deprecated.to_string()),
        ("DeprecationWarning", version.deprecation_warning.as_deref().map_or("null".to_owned(), text)),
        ("Schema", schema.unwrap_or_else(|| "null".to_owned())),
        ("Subresources", own.subresources.as_ref().map_or("null".to_owned(), shown_subresources)),
        ("AdditionalPrinterColumns", list(&own.columns, column)),
        ("SelectableFields", list(&own.selectable, selectable)),
    ])
}

fn shown_subresources(value: &Value) -> String {
    let scale = |scale: &Value| {
        object([
            ("SpecReplicasPath", or(scale, "specReplicasPath", "\"\"")),
            ("StatusReplicasPath", or(scale, "statusReplicasPath", "\"\"")),
            ("LabelSelectorPath", or(scale, "labelSelectorPath", "null")),
        ])
    };
    object([
        ("Status", value.get("status").map_or("null".to_owned(), |_| "{}".to_owned())),
        ("Scale", value.get("scale").map_or("null".to_owned(), scale)),
    ])
}

/// How a field of a schema is written.
enum Written {
    /// As it is, or this if it is not set.
    Plain(&'static str),
    /// A schema.
    Schema,
    /// A list of schemas.
    Schemas,
    /// A map of schemas.
    Map,
    /// `items`.
    Items,
    /// `additionalProperties` and the like.
    SchemaOrBool,
    /// `x-kubernetes-validations`.
    Rules,
}

/// The fields of a schema in the order of Go's internal type: its name there, its name in JSON, how it is written.
const SCHEMA: [(&str, &str, Written); 43] = {
    use Written::{Items, Map, Plain, Schema, SchemaOrBool, Schemas};
    [
        ("ID", "id", Plain("\"\"")),
        ("Schema", "$schema", Plain("\"\"")),
        ("Ref", "$ref", Plain("null")),
        ("Description", "description", Plain("\"\"")),
        ("Type", "type", Plain("\"\"")),
        ("Nullable", "nullable", Plain("false")),
        ("Format", "format", Plain("\"\"")),
        ("Title", "title", Plain("\"\"")),
        ("Default", "default", Plain("null")),
        ("Maximum", "maximum", Plain("null")),
        ("ExclusiveMaximum", "exclusiveMaximum", Plain("false")),
        ("Minimum", "minimum", Plain("null")),
        ("ExclusiveMinimum", "exclusiveMinimum", Plain("false")),
        ("MaxLength", "maxLength", Plain("null")),
        ("MinLength", "minLength", Plain("null")),
        ("Pattern", "pattern", Plain("\"\"")),
        ("MaxItems", "maxItems", Plain("null")),
        ("MinItems", "minItems", Plain("null")),
        ("UniqueItems", "uniqueItems", Plain("false")),
        ("MultipleOf", "multipleOf", Plain("null")),
        ("Enum", "enum", Plain("null")),
        ("MaxProperties", "maxProperties", Plain("null")),
        ("MinProperties", "minProperties", Plain("null")),
        ("Required", "required", Plain("null")),
        ("Items", "items", Items),
        ("AllOf", "allOf", Schemas),
        ("OneOf", "oneOf", Schemas),
        ("AnyOf", "anyOf", Schemas),
        ("Not", "not", Schema),
        ("Properties", "properties", Map),
        ("AdditionalProperties", "additionalProperties", SchemaOrBool),
        ("PatternProperties", "patternProperties", Map),
        ("Dependencies", "dependencies", Plain("null")),
        ("AdditionalItems", "additionalItems", SchemaOrBool),
        ("Definitions", "definitions", Map),
        ("ExternalDocs", "externalDocs", Plain("null")),
        ("Example", "example", Plain("null")),
        ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", Plain("null")),
        ("XEmbeddedResource", "x-kubernetes-embedded-resource", Plain("false")),
        ("XIntOrString", "x-kubernetes-int-or-string", Plain("false")),
        ("XListMapKeys", "x-kubernetes-list-map-keys", Plain("null")),
        ("XListType", "x-kubernetes-list-type", Plain("null")),
        ("XMapType", "x-kubernetes-map-type", Plain("null")),
    ]
};

const RULES: (&str, &str, Written) = ("XValidations", "x-kubernetes-validations", Written::Rules);

/// The fields of a schema that are set, by their names in Go, in Go's order.
pub(super) fn fields_of(schema: &Value) -> Vec<&'static str> {
    let set = |(_, name, _): &&(&'static str, &str, Written)| schema.get(name).is_some();
    SCHEMA.iter().chain([&RULES]).filter(set).map(|(go, _, _)| *go).collect()
}

/// A schema in errors.
pub(super) fn shown_schema(schema: &Value) -> String {
    let nested = |value: &Value| -> String { shown_schema(value) };
    let null = || "null".to_owned();
    let field = |(go, name, written): &(&'static str, &str, Written)| {
        let value = schema.get(name);
        let shown = match (written, value) {
            (Written::Plain(zero), None) => (*zero).to_owned(),
            (Written::Plain(_), Some(value)) => go_json(value),
            (_, None) => null(),
            (Written::Schema, Some(value)) => nested(value),
            (Written::Schemas, Some(value)) => list(value.as_array().map(Vec::as_slice).unwrap_or_default(), nested),
            (Written::Map, Some(value)) => {
                let entries = value.as_object().into_iter().flatten();
                let shown =
                    entries.map(|(key, value)| format!("{}:{}", go_json(&Value::from(key.as_str())), nested(value)));
                format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
            }
            (Written::Items, Some(Value::Array(items))) => {
                object([("Schema", null()), ("JSONSchemas", list(items, nested))])
            }
            (Written::Items, Some(value)) => object([("Schema", nested(value)), ("JSONSchemas", null())]),
            (Written::SchemaOrBool, Some(Value::Bool(allows))) => {
                object([("Allows", allows.to_string()), ("Schema", null())])
            }
            (Written::SchemaOrBool, Some(value)) => object([("Allows", "true".to_owned()), ("Schema", nested(value))]),
            (Written::Rules, Some(value)) => list(value.as_array().map(Vec::as_slice).unwrap_or_default(), shown_rule),
        };
        (*go, shown)
    };
    object(SCHEMA.iter().chain([&RULES]).map(field))
}

/// One of `x-kubernetes-validations` in errors.
pub(super) fn shown_rule(rule: &Value) -> String {
    object([
        ("Rule", or(rule, "rule", "\"\"")),
        ("Message", or(rule, "message", "\"\"")),
        ("MessageExpression", or(rule, "messageExpression", "\"\"")),
        ("Reason", or(rule, "reason", "null")),
        ("FieldPath", or(rule, "fieldPath", "\"\"")),
        ("OptionalOldSelf", or(rule, "optionalOldSelf", "null")),
    ])
}
