//! Answers in protobuf, as typed Go clients like them. Entry points: [`encode`] for an object, a list or a Status, [`frame`] for an
//! event of a watch.
//!
//! Made from the JSON of the object with the schema and the numbers that bodies are read with. As Go's code does, fields stand in the
//! order of their numbers, and those that are no pointers are written even when they are empty.

mod discovery;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

pub use discovery::encode as encode_discovery;

use crate::http::field_numbers::{self, MAGIC, Numbers, SchemaOr, Target};
use crate::resources::schema::{self, Field, Presence, Shape, Type};

/// The object behind an envelope that names its kind; none if the kind has no form in protobuf.
pub fn encode(value: &Value) -> Option<Vec<u8>> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let fields = value.as_object()?;
    let raw = match field_numbers::envelope_of(api_version, kind) {
        Some(ty) => message(ty, fields),
        None => list(field_numbers::envelope_of(api_version, kind.strip_suffix("List")?)?, fields)?,
    };
    Some(envelope(api_version, kind, &raw))
}

fn envelope(api_version: &str, kind: &str, raw: &Message) -> Vec<u8> {
    let mut type_meta = Message::default();
    type_meta.bytes(1, api_version.as_bytes());
    type_meta.bytes(2, kind.as_bytes());
    let mut envelope = Message(MAGIC.to_vec());
    envelope.bytes(1, &type_meta.0);
    envelope.bytes(2, &raw.0);
    envelope.bytes(3, b"");
    envelope.bytes(4, b"");
    envelope.0
}

/// An event of a watch: its length in four bytes, then the event.
pub fn frame(kind: &str, object: &Value) -> Option<Bytes> {
    let mut raw = Message::default();
    raw.bytes(1, &encode(object)?);
    let mut event = Message::default();
    event.bytes(1, kind.as_bytes());
    event.bytes(2, &raw.0);
    let length = u32::try_from(event.0.len()).ok()?;
    Some([&length.to_be_bytes()[..], &event.0].concat().into())
}

fn list(ty: &'static Type, fields: &Map<String, Value>) -> Option<Message> {
    let mut out = Message::default();
    let meta = fields.get("metadata").and_then(Value::as_object)?;
    out.bytes(1, &message(schema::of("meta/v1", "ListMeta")?, meta).0);
    for item in fields.get("items")?.as_array()? {
        out.bytes(2, &message(ty, item.as_object()?).0);
    }
    Some(out)
}

fn message(ty: &'static Type, fields: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    if let Some(numbers) = field_numbers::of(ty) {
        out.fill(ty, numbers, fields);
    }
    out
}

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn fill(&mut self, ty: &'static Type, numbers: &Numbers, fields: &Map<String, Value>) {
        for (number, target) in numbers {
            match target {
                Target::Inline(inner) => {
                    let mut message = Message::default();
                    message.fill(ty, inner, fields);
                    self.bytes(*number, &message.0);
                }
                Target::Field(name) => {
                    let Some(field) = ty.field(name) else { continue };
                    match fields.get(*name).filter(|value| !value.is_null()) {
                        None => self.absent(*number, field),
                        Some(value) => match SchemaOr::of(ty, name) {
                            Some(kind) => self.schema_or(*number, kind, ty, value),
                            None => self.field(*number, &field.shape, value),
                        },
                    }
                }
            }
        }
    }

    /// What Go writes of a field that has no value: nothing for a pointer, a list or a map.
    fn absent(&mut self, number: u32, field: &'static Field) {
        match (field.presence, &field.shape) {
            (Presence::OmitEmpty | Presence::Always, Shape::Str) => self.bytes(number, b""),
            (Presence::OmitEmpty | Presence::Always, Shape::Int | Shape::Long | Shape::Bool) => self.number(number, 0),
            (Presence::Always, Shape::Struct(at)) => self.bytes(number, &message(schema::at(*at), &Map::new()).0),
            (Presence::Always, Shape::Quantity) => self.field(number, &field.shape, &Value::from("0")),
            (Presence::Always, Shape::IntOrString) => self.field(number, &field.shape, &Value::from(0)),
            (Presence::Always, Shape::Time | Shape::MicroTime) => self.bytes(number, b""),
            _ => {}
        }
    }

    fn field(&mut self, number: u32, shape: &'static Shape, value: &Value) {
        match (shape, value) {
            (Shape::List(inner), Value::Array(items)) => items.iter().for_each(|item| self.one(number, inner, item)),
            (Shape::Map(inner), Value::Object(entries)) => {
                sorted(entries).for_each(|(key, value)| self.entry(number, key, |entry| entry.one(2, inner, value)));
            }
            (shape, value) => self.one(number, shape, value),
        }
    }

    fn entry(&mut self, number: u32, key: &str, value: impl FnOnce(&mut Message)) {
        let mut entry = Message::default();
        entry.bytes(1, key.as_bytes());
        value(&mut entry);
        self.bytes(number, &entry.0);
    }

    /// One value. A list inside a map is a message with the items in its field 1.
    fn one(&mut self, number: u32, shape: &'static Shape, value: &Value) {
        match shape {
            Shape::Str => self.bytes(number, value.as_str().unwrap_or_default().as_bytes()),
            Shape::Bytes => {
                self.bytes(number, &STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default())
            }
            Shape::Int | Shape::Long => self.number(number, value.as_i64().unwrap_or_default()),
            Shape::Bool => self.number(number, i64::from(value.as_bool().unwrap_or_default())),
            Shape::Float => self.fixed(number, value.as_f64().unwrap_or_default()),
            Shape::Time => self.bytes(number, &time(value, false).0),
            Shape::MicroTime => self.bytes(number, &time(value, true).0),
            Shape::Quantity => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                self.inner(number, |out| out.bytes(1, text.as_bytes()));
            }
            Shape::IntOrString => self.inner(number, |out| {
                out.number(1, i64::from(value.is_string()));
                out.number(2, value.as_i64().unwrap_or_default());
                out.bytes(3, value.as_str().unwrap_or_default().as_bytes());
            }),
            Shape::Any => self.inner(number, |out| out.bytes(1, value.to_string().as_bytes())),
            Shape::Struct(at) => {
                let none = Map::new();
                self.bytes(number, &message(schema::at(*at), value.as_object().unwrap_or(&none)).0);
            }
            Shape::List(_) | Shape::Map(_) => self.inner(number, |out| out.field(1, shape, value)),
        }
    }

    /// A field of a schema that holds a schema or something else, or named ones.
    fn schema_or(&mut self, number: u32, kind: SchemaOr, ty: &'static Type, value: &Value) {
        match (kind, value) {
            (SchemaOr::Names, Value::Object(entries)) => {
                for (key, value) in sorted(entries) {
                    self.entry(number, key, |entry| entry.inner(2, |out| out.schema_or_names(ty, value)));
                }
            }
            (SchemaOr::Schemas, value) => self.inner(number, |out| match value {
                Value::Array(schemas) => schemas.iter().for_each(|schema| out.schema(2, ty, schema)),
                schema => out.schema(1, ty, schema),
            }),
            (SchemaOr::Bool | SchemaOr::Names, value) => self.inner(number, |out| {
                out.number(1, i64::from(value.as_bool().unwrap_or(true)));
                if value.is_object() {
                    out.schema(2, ty, value);
                }
            }),
        }
    }

    fn schema_or_names(&mut self, ty: &'static Type, value: &Value) {
        match value {
            Value::Array(names) => {
                names.iter().filter_map(Value::as_str).for_each(|name| self.bytes(2, name.as_bytes()));
            }
            schema => self.schema(1, ty, schema),
        }
    }

    fn schema(&mut self, number: u32, ty: &'static Type, value: &Value) {
        if let Some(fields) = value.as_object() {
            self.bytes(number, &message(ty, fields).0);
        }
    }

    fn inner(&mut self, number: u32, write: impl FnOnce(&mut Message)) {
        let mut message = Message::default();
        write(&mut message);
        self.bytes(number, &message.0);
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number << 3 | 2));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Negative ones take ten bytes, as their two's complement.
    fn number(&mut self, number: u32, value: i64) {
        self.varint(u64::from(number << 3));
        self.varint(value.cast_unsigned());
    }

    fn fixed(&mut self, number: u32, value: f64) {
        self.varint(u64::from(number << 3 | 1));
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Seconds and nanoseconds; only some times have more than seconds.
fn time(value: &Value, fraction: bool) -> Message {
    let mut out = Message::default();
    if let Some(at) = value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        out.number(1, at.as_second());
        out.number(2, if fraction { i64::from(at.subsec_nanosecond()) } else { 0 });
    }
    out
}

fn sorted(entries: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::protobuf::parse;
    use serde_json::json;

    fn there_and_back(value: &Value) -> Value {
        parse(&encode(value).expect("it has a form"), "", "").expect("it is read")
    }

    /// What is read of what is written is what was written.
    #[test]
    fn objects_come_back() {
        let meta = json!({"name": "a", "labels": {"b": "1", "a": "2"}, "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 3,
            "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2026-01-02T03:04:05Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:k": {}}}}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": false}]});
        let table = [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": "", "j": "v"}, "binaryData": {"b": "AAE="}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {}, "spec": {
                "priority": -5, "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "w", "configMap": {"name": "c"}}],
                "containers": [{"name": "c", "image": "i", "args": ["", "b"], "resources": {"requests": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 10},
                    "ports": [{"containerPort": 80}]}]}}),
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
                "spec": {"renewTime": "2026-01-02T03:04:05.000678Z", "leaseDurationSeconds": 40}}),
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "revision": 1, "data": {"a": [1, "b"]}}),
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "n"}}),
            json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
                "message": "m", "details": {"name": "n", "causes": [{"reason": "r", "message": "m", "field": "f"}], "retryAfterSeconds": 1}}),
            json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7", "continue": "c", "remainingItemCount": 3},
                "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}, "immutable": false}]}),
        ];
        for value in table {
            assert_eq!(there_and_back(&value), value);
        }
    }

    #[test]
    fn schemas_come_back() {
        let schema = json!({"type": "object", "additionalProperties": {"type": "string"}, "items": [{"type": "string"}, {"minimum": 1.5}],
            "dependencies": {"a": ["b", "c"], "d": {"type": "object"}}, "additionalItems": false, "default": {"x": 1},
            "properties": {"l": {"type": "array", "items": {"type": "integer", "enum": [1, 2]}}, "m": {"additionalProperties": true}}});
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "d"},
            "spec": {"group": "g", "scope": "Cluster", "names": {"plural": "ds", "kind": "D"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
            "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null}});
        assert_eq!(there_and_back(&definition), definition);
    }

    /// The bytes that Go's generated code writes.
    #[test]
    fn empty_fields_are_written_as_go_does() {
        let bytes =
            encode(&json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"})).expect("bytes");
        let list_meta = [0x0a, 0, 0x12, 0, 0x1a, 0];
        let status = [&[0x0a, 6][..], &list_meta, &[0x12, 7], b"Success", &[0x1a, 0, 0x22, 0, 0x30, 0]].concat();
        let type_meta = [&[0x0a, 2][..], b"v1", &[0x12, 6], b"Status"].concat();
        let expected = [
            b"k8s\0",
            &[0x0a, type_meta.len() as u8][..],
            &type_meta,
            &[0x12, status.len() as u8],
            &status,
            &[0x1a, 0, 0x22, 0],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn events_are_framed() {
        let bookmark = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "5"}});
        let frame = frame("BOOKMARK", &bookmark).expect("a frame");
        let (length, event) = frame.split_at(4);
        assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, event.len());
        assert!(event.starts_with(&[&[0x0a, 8][..], b"BOOKMARK"].concat()));
    }

    #[test]
    fn what_has_no_form_is_not_encoded() {
        for (version, kind) in
            [("example.com/v1", "Widget"), ("meta.k8s.io/v1", "Table"), ("example.com/v1", "WidgetList")]
        {
            assert!(encode(&json!({"apiVersion": version, "kind": kind, "metadata": {}, "items": []})).is_none());
        }
    }
}
