//! Protobuf in, as typed Go clients send objects: `k8s\0`, an envelope that names the kind, the object. Entry point: [`parse`].
//!
//! The result is the JSON of the object. Shapes come from the schema, numbers from [`field_numbers`].
//! Unknown fields are skipped. Invariant: no input makes this panic, and its work is linear in the input.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Number, Value, json};

use crate::http::field_numbers::{self, MAGIC, Numbers, SchemaOr, Target};
use crate::resources::schema::{self, Shape, Type};
use crate::resources::wire;

const MAX_DEPTH: usize = 100;

/// Reads an object; `api_version` and `kind` are what it is if the envelope does not say.
pub fn parse(bytes: &[u8], api_version: &str, kind: &str) -> Result<Value, String> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or("provided data does not appear to be a protobuf message")?;
    let (mut named_version, mut named_kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => named_version = string(text)?,
                        (2, Wire::Bytes(text)) => named_kind = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(object)) => raw = object,
            _ => {}
        }
    }
    let api_version = if named_version.is_empty() { api_version } else { &named_version };
    let kind = if named_kind.is_empty() { kind } else { &named_kind };
    let item = || field_numbers::envelope_of(api_version, kind.strip_suffix("List")?);
    let mut value = match field_numbers::envelope_of(api_version, kind) {
        Some(ty) => canonical(ty, raw)?,
        None => list(item().ok_or_else(|| unknown(api_version, kind))?, raw)?,
    };
    value["apiVersion"] = Value::from(api_version);
    value["kind"] = Value::from(kind);
    Ok(value)
}

fn unknown(api_version: &str, kind: &str) -> String {
    format!("no protobuf form of kind \"{kind}\" in version \"{api_version}\" is known")
}

/// A list: its metadata and items of this type.
fn list(ty: &'static Type, bytes: &[u8]) -> Result<Value, String> {
    let meta = schema::of("meta/v1", "ListMeta").ok_or("lists have no metadata")?;
    let (mut metadata, mut items) = (json!({}), Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => metadata = canonical(meta, bytes)?,
            (2, Wire::Bytes(bytes)) => items.push(canonical(ty, bytes)?),
            _ => {}
        }
    }
    Ok(json!({"metadata": metadata, "items": items}))
}

/// A message as Go writes it in JSON.
fn canonical(ty: &'static Type, bytes: &[u8]) -> Result<Value, String> {
    let mut value = Value::Object(message(ty, bytes, 0)?);
    wire::canonical_as(ty, &mut value);
    Ok(value)
}

fn message(ty: &'static Type, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    if let Some(numbers) = field_numbers::of(ty) {
        fill(&mut object, ty, numbers, bytes, depth)?;
    }
    Ok(object)
}

fn fill(
    object: &mut Map<String, Value>,
    ty: &'static Type,
    numbers: &Numbers,
    bytes: &[u8],
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("the message is nested too deeply".to_owned());
    }
    for field in Fields(bytes) {
        let (number, wire) = field?;
        match (numbers.get(&number), wire) {
            (Some(Target::Inline(inner)), Wire::Bytes(bytes)) => fill(object, ty, inner, bytes, depth + 1)?,
            (Some(Target::Field(name)), wire) => {
                if let Some(kind) = SchemaOr::of(ty, name) {
                    add_schema_or(object, name, kind, ty, wire, depth)?;
                } else if let Some(field) = ty.field(name) {
                    add(object, name, &field.shape, wire, depth)?;
                }
            }
            (Some(Target::Inline(_)) | None, _) => {}
        }
    }
    Ok(())
}

fn add(
    object: &mut Map<String, Value>,
    name: &str,
    shape: &'static Shape,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), String> {
    match (shape, wire) {
        (Shape::List(inner), wire) => {
            let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = list {
                push(items, inner, wire, depth)?;
            }
        }
        (Shape::Map(inner), Wire::Bytes(entry)) => {
            let (key, value) = map_entry(inner, entry, depth)?;
            let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = map {
                entries.insert(key, value);
            }
        }
        (shape, wire) => drop(object.insert(name.to_owned(), scalar(shape, wire, depth)?)),
    }
    Ok(())
}

/// A field of a schema that holds a schema or something else, or named ones.
fn add_schema_or(
    object: &mut Map<String, Value>,
    name: &str,
    kind: SchemaOr,
    ty: &'static Type,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), String> {
    let Wire::Bytes(bytes) = wire else { return Err(format!("{name} has the wrong wire type")) };
    if kind != SchemaOr::Names {
        object.insert(name.to_owned(), schema_or(kind, ty, bytes, depth)?);
        return Ok(());
    }
    let (mut key, mut value) = (String::new(), Value::Null);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => key = string(text)?,
            (2, Wire::Bytes(bytes)) => value = schema_or(kind, ty, bytes, depth)?,
            _ => {}
        }
    }
    let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(entries) = map {
        entries.insert(key, value);
    }
    Ok(())
}

fn schema_or(kind: SchemaOr, ty: &'static Type, bytes: &[u8], depth: usize) -> Result<Value, String> {
    let (mut schema, mut allows, mut others) = (None, false, Vec::new());
    for field in Fields(bytes) {
        match (kind, field?) {
            (SchemaOr::Bool, (1, Wire::Varint(number))) => allows = number != 0,
            (SchemaOr::Bool, (2, Wire::Bytes(bytes)))
            | (SchemaOr::Schemas | SchemaOr::Names, (1, Wire::Bytes(bytes))) => {
                let mut found = Value::Object(message(ty, bytes, depth + 1)?);
                wire::canonical_as(ty, &mut found);
                schema = Some(found);
            }
            (SchemaOr::Schemas, (2, Wire::Bytes(bytes))) => {
                others.push(Value::Object(message(ty, bytes, depth + 1)?));
            }
            (SchemaOr::Names, (2, Wire::Bytes(text))) => others.push(Value::from(string(text)?)),
            _ => {}
        }
    }
    Ok(match (schema, kind) {
        (Some(schema), _) => schema,
        (None, SchemaOr::Bool) => Value::from(allows),
        (None, SchemaOr::Schemas | SchemaOr::Names) => Value::Array(others),
    })
}

/// Numbers may be packed.
fn push(items: &mut Vec<Value>, inner: &'static Shape, wire: Wire<'_>, depth: usize) -> Result<(), String> {
    match (inner, wire) {
        (Shape::Int | Shape::Long | Shape::Bool, Wire::Bytes(packed)) => {
            let mut rest = packed;
            while !rest.is_empty() {
                let (number, after) = varint(rest)?;
                items.push(scalar(inner, Wire::Varint(number), depth)?);
                rest = after;
            }
        }
        (inner, wire) => items.push(scalar(inner, wire, depth)?),
    }
    Ok(())
}

fn map_entry(inner: &'static Shape, bytes: &[u8], depth: usize) -> Result<(String, Value), String> {
    let (mut key, mut value) = (String::new(), None);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => key = string(text)?,
            (2, wire) => value = Some(scalar(inner, wire, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => scalar(inner, Wire::Bytes(&[]), depth)?,
    };
    Ok((key, value))
}

fn scalar(shape: &'static Shape, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    Ok(match (shape, wire) {
        (Shape::Str, Wire::Bytes(text)) => Value::from(string(text)?),
        (Shape::Bytes, Wire::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
        (Shape::Bool, Wire::Varint(number)) => Value::from(number != 0),
        (Shape::Int, Wire::Varint(number)) => Value::from(number as i32),
        (Shape::Long, Wire::Varint(number)) => Value::from(number as i64),
        (Shape::Float, Wire::Fixed(bits)) => Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number),
        (Shape::Time, Wire::Bytes(bytes)) => time(bytes, 0)?,
        (Shape::MicroTime, Wire::Bytes(bytes)) => time(bytes, 6)?,
        (Shape::Quantity, Wire::Bytes(bytes)) => Value::from(first_string(bytes)?),
        (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Shape::Any, Wire::Bytes(bytes)) => any(bytes)?,
        (Shape::Struct(at), Wire::Bytes(bytes)) => Value::Object(message(schema::at(*at), bytes, depth + 1)?),
        (Shape::List(inner), Wire::Bytes(bytes)) => {
            // A list inside a map or a list: a message with the items in its field 1.
            let mut items = Vec::new();
            for field in Fields(bytes) {
                if let (1, wire) = field? {
                    push(&mut items, inner, wire, depth + 1)?;
                }
            }
            Value::Array(items)
        }
        (shape, _) => return Err(format!("a field has the wrong wire type for {shape:?}")),
    })
}

/// Seconds and nanoseconds; an empty message is no time.
fn time(bytes: &[u8], digits: usize) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => seconds = Some(number as i64),
            (2, Wire::Varint(number)) => nanos = number as i32,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(Value::Null) };
    let at = Timestamp::new(seconds, if digits == 0 { 0 } else { nanos }).map_err(|error| error.to_string())?;
    Ok(Value::from(if digits == 0 { at.to_string() } else { format!("{at:.6}") }))
}

fn first_string(bytes: &[u8]) -> Result<String, String> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(text)) = field? {
            return string(text);
        }
    }
    Ok("0".to_owned())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_string, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(kind)) => is_string = kind != 0,
            (2, Wire::Varint(value)) => number = value as i32,
            (3, Wire::Bytes(value)) => text = string(value)?,
            _ => {}
        }
    }
    Ok(if is_string { Value::from(text) } else { Value::from(number) })
}

/// JSON as it is, in field 1.
fn any(bytes: &[u8]) -> Result<Value, String> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(raw)) = field? {
            return super::json::parse(raw).map(|parsed| parsed.value);
        }
    }
    Ok(Value::Null)
}

fn string(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a string is not UTF-8".to_owned())
}

/// A value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message in their order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Wire<'a>), String> {
        let (tag, rest) = varint(self.0)?;
        let number = u32::try_from(tag >> 3).map_err(|_| "a field number is too large".to_owned())?;
        let (wire, rest) = match tag & 7 {
            0 => varint(rest).map(|(value, rest)| (Wire::Varint(value), rest))?,
            1 => fixed::<8>(rest).map(|(bytes, rest)| (Wire::Fixed(u64::from_le_bytes(bytes)), rest))?,
            2 => {
                let (length, rest) = varint(rest)?;
                let length =
                    usize::try_from(length).ok().filter(|length| *length <= rest.len()).ok_or("unexpected EOF")?;
                let (bytes, rest) = rest.split_at(length);
                (Wire::Bytes(bytes), rest)
            }
            5 => fixed::<4>(rest).map(|(bytes, rest)| (Wire::Fixed(u64::from(u32::from_le_bytes(bytes))), rest))?,
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        self.0 = rest;
        Ok((number, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), String> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[i + 1..]));
        }
    }
    Err(if bytes.len() < 10 { "unexpected EOF" } else { "proto: integer overflow" }.to_owned())
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), String> {
    bytes.split_first_chunk::<N>().map(|(chunk, rest)| (*chunk, rest)).ok_or_else(|| "unexpected EOF".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a message: (number, bytes) or (number, varint).
    fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, u64::from(number << 3 | 2));
        put(&mut out, bytes.len() as u64);
        out.extend_from_slice(bytes);
        out
    }

    fn number(field: u32, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, u64::from(field << 3));
        put(&mut out, value);
        out
    }

    fn put(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn envelope(kind: &str, object: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &type_meta), field(2, object), field(3, b""), field(4, b"")].concat()
    }

    #[test]
    fn objects_become_their_json() {
        let meta =
            [field(1, b"a"), field(3, b""), field(8, b""), field(11, &[field(1, b"k"), field(2, b"v")].concat())]
                .concat();
        let port =
            [field(1, b"web"), number(3, 80), field(4, &[number(1, 1), number(2, 0), field(3, b"http")].concat())]
                .concat();
        let spec = [field(1, &port), field(4, b"ClusterIP"), number(13, (-5_i64) as u64)].concat();
        let service = parse(&envelope("Service", &[field(1, &meta), field(2, &spec)].concat()), "", "").unwrap();
        assert_eq!(service["metadata"], json!({"name": "a", "labels": {"k": "v"}}));
        assert_eq!(service["spec"]["ports"], json!([{"name": "web", "port": 80, "targetPort": "http"}]));
        assert_eq!(service["kind"], "Service");
        let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
        let requests = field(2, &[field(1, b"cpu"), field(2, &field(1, b"100m"))].concat());
        let container = [field(1, b"c"), field(8, &requests)].concat();
        let pod =
            parse(&envelope("Pod", &field(2, &[field(1, &volume), field(2, &container)].concat())), "", "").unwrap();
        assert_eq!(pod["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
        assert_eq!(pod["spec"]["containers"], json!([{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]));
    }

    #[test]
    fn rubbish_is_refused() {
        for bytes in [&b"rubbish"[..], b"k8s\0\xff", b"k8s\0\x12\x05ab", b"k8s\0\x0b"] {
            assert!(parse(bytes, "v1", "Pod").is_err(), "{bytes:?}");
        }
        assert!(parse(&envelope("Nothing", b""), "", "").is_err());
    }
}
