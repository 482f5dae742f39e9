//! What a structural schema says about values: how to read them, which type expressions see, how large they can get.
//!
//! Entry point: [`Shape::of_schema`], with one node of a CustomResourceDefinition's `openAPIV3Schema`.
//! See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#type-system-integration>.
//! Invariant: what the schema does not type is not a field; names that CEL could not write are escaped.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value as Json;

use super::library::time;
use super::types::{Declared, Fields, Type};
use super::value::{Key, Text, Value};

/// The largest request, and so the most that a value without declared limits can hold.
const LARGEST: u64 = 3 * 1024 * 1024;

/// A schema as expressions see it.
#[derive(Debug)]
pub struct Shape {
    pub(super) form: Form,
    /// The most bytes, items or entries that a value can have.
    pub(super) largest: u64,
    /// The fewest bytes that a value takes as JSON.
    smallest: u64,
}

#[derive(Debug)]
pub(super) enum Form {
    Dyn,
    Bool,
    Int,
    Double,
    Text(Format),
    List { items: Arc<Shape>, order: Order },
    Map(Arc<Shape>),
    Object { declared: Arc<Declared>, fields: BTreeMap<String, (String, Arc<Shape>)> },
}

/// What a string stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    Plain,
    Bytes,
    Duration,
    Date,
    DateTime,
}

/// How the items of a list belong together.
#[derive(Debug, PartialEq)]
pub(super) enum Order {
    Atomic,
    Set,
    Map(Vec<String>),
}

impl Shape {
    /// The shape of one schema node; `root` for a whole resource (and an embedded one), whose kind and name are always there.
    pub fn of_schema(schema: &Json, root: bool) -> Arc<Shape> {
        Self::typed(schema, root, "selfType")
            .unwrap_or_else(|| Arc::new(Self { form: Form::Dyn, largest: LARGEST, smallest: 1 }))
    }

    /// The type that expressions see.
    pub fn cel_type(&self) -> Type {
        match &self.form {
            Form::Dyn => Type::Dyn,
            Form::Bool => Type::Bool,
            Form::Int => Type::Int,
            Form::Double => Type::Double,
            Form::Text(Format::Plain) => Type::String,
            Form::Text(Format::Bytes) => Type::Bytes,
            Form::Text(Format::Duration) => Type::Duration,
            Form::Text(Format::Date | Format::DateTime) => Type::Timestamp,
            Form::List { items, .. } => Type::list(items.cel_type()),
            Form::Map(values) => Type::map(Type::String, values.cel_type()),
            Form::Object { declared, .. } => Type::Object(Arc::clone(declared)),
        }
    }

    /// How many items or entries a list or a map can have at most, for whoever multiplies the cost of a rule in it.
    pub fn most_items(&self) -> u64 {
        self.largest
    }

    fn typed(schema: &Json, root: bool, name: &str) -> Option<Arc<Shape>> {
        if flag(schema, "x-kubernetes-int-or-string") {
            return Some(Arc::new(Self { form: Form::Dyn, largest: LARGEST - 2, smallest: 1 }));
        }
        let (form, largest, smallest) = match schema["type"].as_str()? {
            "boolean" => (Form::Bool, 1, 4),
            "integer" => (Form::Int, 1, 1),
            "number" => (Form::Double, 1, 1),
            "string" => text(schema),
            "array" => {
                let items = schema.get("items")?;
                let items = Self::typed(items, flag(items, "x-kubernetes-embedded-resource"), &format!("{name}.@idx"))?;
                let largest = limit(schema, "maxItems").unwrap_or((LARGEST - 2) / (items.smallest + 1));
                (Form::List { items, order: order(schema) }, largest, 2)
            }
            "object" => match schema.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) => {
                    let embedded = flag(values, "x-kubernetes-embedded-resource");
                    let values = Self::typed(values, embedded, &format!("{name}.@elem"))?;
                    let largest = limit(schema, "maxProperties").unwrap_or(LARGEST / (values.smallest + 6));
                    (Form::Map(values), largest, 2)
                }
                None => Self::object(schema, root, name),
            },
            _ => return None,
        };
        Some(Arc::new(Self { form, largest, smallest }))
    }

    fn object(schema: &Json, root: bool, name: &str) -> (Form, u64, u64) {
        let with_metadata = root.then(|| with_metadata(schema));
        let schema = with_metadata.as_ref().unwrap_or(schema);
        let required = |property: &str| {
            schema["required"].as_array().is_some_and(|names| names.iter().any(|name| name == property))
        };
        let (mut fields, mut types, mut smallest) = (BTreeMap::new(), BTreeMap::new(), 2);
        for (property, inner) in schema["properties"].as_object().into_iter().flatten() {
            let embedded = flag(inner, "x-kubernetes-embedded-resource");
            let Some(shape) = Self::typed(inner, embedded, &format!("{name}.{property}")) else { continue };
            if required(property) && inner.get("default").is_none() {
                smallest += property.len() as u64 + shape.smallest + 4;
            }
            if let Some(escaped) = escape(property) {
                types.insert(escaped.clone(), shape.cel_type());
                fields.insert(escaped, (property.clone(), shape));
            }
        }
        let declared = Arc::new(Declared { name: name.to_owned(), fields: Fields::Known(types) });
        (Form::Object { declared, fields }, LARGEST, smallest)
    }

    pub(super) fn name(&self) -> &str {
        match &self.form {
            Form::Object { declared, .. } => &declared.name,
            _ => "dyn",
        }
    }

    pub(super) fn order(&self) -> &Order {
        match &self.form {
            Form::List { order, .. } => order,
            _ => &Order::Atomic,
        }
    }

    pub(super) fn item<'a>(&'a self, item: &'a Json) -> Value<'a> {
        match &self.form {
            Form::List { items, .. } => Value::shaped(item, items),
            _ => Value::json(item),
        }
    }

    /// The shape of a field, an item or a value.
    pub(super) fn child(&self, step: &str) -> Option<&Shape> {
        match &self.form {
            Form::Object { fields, .. } => fields.get(step).map(|(_, shape)| &**shape),
            Form::List { items, .. } => Some(items),
            Form::Map(values) => Some(values),
            _ => None,
        }
    }

    pub(super) fn field<'a>(&'a self, object: &'a serde_json::Map<String, Json>, name: &str) -> Option<Value<'a>> {
        let Form::Object { fields, .. } = &self.form else { return None };
        let (name, shape) = fields.get(name)?;
        Some(Value::shaped(object.get(name)?, shape))
    }

    pub(super) fn entries<'a>(&'a self, object: &'a serde_json::Map<String, Json>) -> Vec<(Key, Value<'a>)> {
        let Form::Object { fields, .. } = &self.form else { return Vec::new() };
        let present = fields.iter().filter_map(|(escaped, (name, shape))| {
            Some((Key::String(escaped.as_str().into()), Value::shaped(object.get(name)?, shape)))
        });
        present.collect()
    }
}

impl Format {
    /// A string as what it stands for; as itself where it does not parse (the schema's own validation reports that).
    pub(super) fn read<'a>(self, text: &'a str) -> Value<'a> {
        use base64::Engine;
        let read = match self {
            Self::Plain => None,
            Self::Bytes => {
                base64::engine::general_purpose::STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into()))
            }
            Self::Duration => time::parse_duration(text).map(Value::Duration),
            Self::Date => time::parse_timestamp(&format!("{text}T00:00:00Z")).map(Value::Timestamp),
            Self::DateTime => time::parse_timestamp(text).map(Value::Timestamp),
        };
        read.unwrap_or(Value::String(Text::Borrowed(text)))
    }
}

fn flag(schema: &Json, name: &str) -> bool {
    schema[name].as_bool().unwrap_or(false)
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    schema.get(name)?.as_i64().map(|limit| limit.max(0).unsigned_abs())
}

/// Form, most bytes and fewest bytes of a string.
fn text(schema: &Json) -> (Form, u64, u64) {
    let length = limit(schema, "maxLength");
    match schema["format"].as_str() {
        Some("byte") => (Form::Text(Format::Bytes), length.unwrap_or(LARGEST - 2), 2),
        Some("duration") => (Form::Text(Format::Duration), 32, 4),
        Some("date") => (Form::Text(Format::Date), 12, 12),
        Some("date-time") => (Form::Text(Format::DateTime), 29, 22),
        _ => {
            let choices = schema["enum"].as_array().filter(|choices| !choices.is_empty());
            let longest =
                choices.map(|choices| choices.iter().filter_map(Json::as_str).map(str::len).max().unwrap_or(0) as u64);
            // A character takes up to four bytes.
            let largest = length.map(|length| length * 4).or(longest).unwrap_or(LARGEST - 2);
            (Form::Text(Format::Plain), largest, 2)
        }
    }
}

fn order(schema: &Json) -> Order {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Order::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            Order::Map(keys.filter_map(Json::as_str).map(|key| escape(key).unwrap_or_else(|| key.to_owned())).collect())
        }
        _ => Order::Atomic,
    }
}

/// A resource's schema with what every resource has, if it does not say so itself.
fn with_metadata(schema: &Json) -> Json {
    static METADATA: LazyLock<Json> = LazyLock::new(|| {
        let text = serde_json::json!({"type": "string"});
        serde_json::json!({"type": "object", "properties": {"name": text, "generateName": text}})
    });
    let mut schema = schema.clone();
    let is_text = |pointer: &str| schema.pointer(pointer).is_some_and(|property| property["type"] == "string");
    let metadata = ["/properties/metadata/properties/name", "/properties/metadata/properties/generateName"];
    if metadata.into_iter().chain(["/properties/kind", "/properties/apiVersion"]).all(is_text) {
        return schema;
    }
    if !schema["properties"].is_object() {
        schema["properties"] = serde_json::json!({});
    }
    let text = serde_json::json!({"type": "string"});
    schema["properties"]["kind"] = text.clone();
    schema["properties"]["apiVersion"] = text;
    schema["properties"]["metadata"] = METADATA.clone();
    schema
}

/// A property's name as expressions write it; none if they can't.
pub fn escape(name: &str) -> Option<String> {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-' | '/');
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(allowed) {
        return None;
    }
    let escaped = name.replace("__", "__underscores__");
    Some(escaped.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_escaped() {
        let cases = [
            ("foo", Some("foo")),
            ("namespace", Some("__namespace__")),
            ("a-b.c/d", Some("a__dash__b__dot__c__slash__d")),
            ("a__b", Some("a__underscores__b")),
            ("1a", None),
            ("a b", None),
        ];
        for (name, escaped) in cases {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
        }
    }

    #[test]
    fn a_schema_types_what_it_declares() {
        let schema = json!({"type": "object", "properties": {
            "n": {"type": "number"}, "when": {"type": "string", "format": "date-time"},
            "any": {"x-kubernetes-preserve-unknown-fields": true}, "port": {"x-kubernetes-int-or-string": true},
            "list": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "free": {"type": "object", "additionalProperties": {"type": "integer"}},
        }});
        let shape = Shape::of_schema(&schema, true);
        let Type::Object(declared) = shape.cel_type() else { panic!() };
        let Fields::Known(fields) = &declared.fields else { panic!() };
        let types: Vec<String> = fields.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        assert_eq!(
            types,
            [
                "apiVersion: string",
                "free: map(string, int)",
                "kind: string",
                "list: list(string)",
                "metadata: selfType.metadata",
                "n: double",
                "port: dyn",
                "when: google.protobuf.Timestamp"
            ]
        );
        let object = json!({"n": 1, "list": ["a", "b"], "when": "2024-01-02T03:04:05Z"});
        let value = Value::shaped(&object, &shape);
        assert!(matches!(value.field("n"), Ok(Some(Value::Double(_)))));
        assert!(matches!(value.field("when"), Ok(Some(Value::Timestamp(_)))));
        let made = Value::list(vec![Value::text("b"), Value::text("a")]);
        assert!(value.field("list").expect("readable").expect("present").equals(&made));
    }
}
