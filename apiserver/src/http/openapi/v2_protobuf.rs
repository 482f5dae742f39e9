//! The document of version 2 in gnostic's protobuf, which kubectl asks for where version 3 says nothing of a type (a Scale) and which
//! kubectl before 1.27 validates and patches with. Entry point: [`encode`].
//!
//! Field numbers are those of OpenAPIv2.proto (<https://github.com/google/gnostic-models>). Only what our documents contain is encoded:
//! the messages are few, and a map is a list of named values. What JSON has and the messages have not are extensions, as YAML texts.

use serde_json::{Map, Value};

/// Fields of a message that hold a text: number and JSON name.
type Texts = &'static [(u32, &'static str)];

/// The document in protobuf, made of the one in JSON.
pub fn encode(json: &[u8]) -> serde_json::Result<Vec<u8>> {
    let document: Value = serde_json::from_slice(json)?;
    let mut out = Message::default();
    out.texts(&document, &[(1, "swagger")]);
    out.inner(2, |info| info.texts(&document["info"], &[(1, "title"), (2, "version")]));
    out.inner(8, |paths| paths.named(2, &document["paths"], path_item));
    out.inner(9, |definitions| definitions.named(1, &document["definitions"], schema));
    out.inner(10, |parameters| parameters.named(1, &document["parameters"], parameter));
    for requirement in list(&document["security"]) {
        out.inner(12, |out| out.named(1, requirement, |out, scopes| list(scopes).for_each(|scope| out.text(1, scope))));
    }
    out.inner(13, |definitions| {
        definitions.named(1, &document["securityDefinitions"], |out, one| {
            out.inner(2, |key| key.texts(one, &[(1, "type"), (2, "name"), (3, "in"), (4, "description")]));
        });
    });
    Ok(out.0)
}

fn path_item(out: &mut Message, item: &Value) {
    let methods = [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")];
    for (number, method) in methods {
        if item[method].is_object() {
            out.inner(number, |out| operation(out, &item[method]));
        }
    }
    list(&item["parameters"]).for_each(|one| out.inner(9, |out| parameter_or_reference(out, one)));
    out.extensions(10, item);
}

fn operation(out: &mut Message, operation: &Value) {
    list(&operation["tags"]).for_each(|tag| out.text(1, tag));
    out.texts(operation, &[(3, "description"), (5, "operationId")]);
    list(&operation["produces"]).for_each(|one| out.text(6, one));
    list(&operation["consumes"]).for_each(|one| out.text(7, one));
    list(&operation["parameters"]).for_each(|one| out.inner(8, |out| parameter_or_reference(out, one)));
    out.inner(9, |out| {
        out.named(1, &operation["responses"], |out, response| {
            out.inner(1, |out| {
                out.texts(response, &[(1, "description")]);
                if response["schema"].is_object() {
                    out.inner(2, |out| out.inner(1, |out| schema(out, &response["schema"])));
                }
            });
        });
    });
    list(&operation["schemes"]).for_each(|one| out.text(10, one));
    out.extensions(13, operation);
}

fn parameter_or_reference(out: &mut Message, one: &Value) {
    match one["$ref"].is_string() {
        true => out.inner(2, |out| out.texts(one, &[(1, "$ref")])),
        false => out.inner(1, |out| parameter(out, one)),
    }
}

fn parameter(out: &mut Message, one: &Value) {
    const IN_QUERY: Texts = &[(2, "in"), (3, "description"), (4, "name"), (6, "type"), (7, "format")];
    const IN_PATH: Texts = &[(2, "in"), (3, "description"), (4, "name"), (5, "type"), (6, "format")];
    match one["in"].as_str() {
        Some("body") => out.inner(1, |out| {
            out.texts(one, &[(1, "description"), (2, "name"), (3, "in")]);
            out.flag(4, &one["required"]);
            out.inner(5, |out| schema(out, &one["schema"]));
        }),
        place => {
            let (kind, texts, unique) = if place == Some("path") { (4, IN_PATH, 19) } else { (3, IN_QUERY, 20) };
            out.inner(2, |out| {
                out.inner(kind, |out| {
                    out.flag(1, &one["required"]);
                    out.texts(one, texts);
                    out.flag(unique, &one["uniqueItems"]);
                });
            });
        }
    }
}

fn schema(out: &mut Message, schema_of: &Value) {
    out.texts(schema_of, &[(1, "$ref"), (2, "format"), (3, "title"), (4, "description")]);
    for (number, name) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        out.number(number, &schema_of[name]);
    }
    for (number, name) in [(8, "exclusiveMaximum"), (10, "exclusiveMinimum"), (16, "uniqueItems")] {
        out.flag(number, &schema_of[name]);
    }
    let sizes = [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ];
    sizes.into_iter().for_each(|(number, name)| out.integer(number, &schema_of[name]));
    out.texts(schema_of, &[(13, "pattern")]);
    list(&schema_of["required"]).for_each(|name| out.text(19, name));
    list(&schema_of["enum"]).for_each(|value| out.inner(20, |out| out.any(value)));
    match &schema_of["additionalProperties"] {
        Value::Bool(allowed) => out.inner(21, |out| out.flag(2, &Value::Bool(*allowed))),
        values @ Value::Object(_) => out.inner(21, |out| out.inner(1, |out| schema(out, values))),
        _ => {}
    }
    if schema_of["type"].is_string() {
        out.inner(22, |out| out.text(1, &schema_of["type"]));
    }
    if schema_of["items"].is_object() {
        out.inner(23, |out| out.inner(1, |out| schema(out, &schema_of["items"])));
    }
    if schema_of["properties"].is_object() {
        out.inner(25, |out| out.named(1, &schema_of["properties"], schema));
    }
    out.extensions(31, schema_of);
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The bytes of a message. Zero values are left out, as proto3 has it.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn inner(&mut self, number: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    fn text(&mut self, number: u32, text: &Value) {
        self.bytes(number, text.as_str().unwrap_or_default().as_bytes());
    }

    fn texts(&mut self, object: &Value, fields: Texts) {
        for (number, name) in fields {
            if object[name].as_str().is_some_and(|text| !text.is_empty()) {
                self.text(*number, &object[name]);
            }
        }
    }

    fn flag(&mut self, number: u32, value: &Value) {
        if value == true {
            self.varint(u64::from(number) << 3);
            self.varint(1);
        }
    }

    fn integer(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_i64().filter(|value| *value != 0) {
            self.varint(u64::from(number) << 3);
            self.varint(value as u64);
        }
    }

    fn number(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_f64().filter(|value| *value != 0.0) {
            self.varint(u64::from(number) << 3 | 1);
            self.0.extend(value.to_le_bytes());
        }
    }

    /// A map: in each entry field 1 is the name, field 2 the value.
    fn named(&mut self, number: u32, object: &Value, write: impl Fn(&mut Message, &Value)) {
        for (name, value) in object.as_object().into_iter().flat_map(Map::iter) {
            self.inner(number, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.inner(2, |out| write(out, value));
            });
        }
    }

    /// Any value, as YAML (of which JSON is a part).
    fn any(&mut self, value: &Value) {
        self.bytes(2, format!("{value}\n").as_bytes());
    }

    fn extensions(&mut self, number: u32, object: &Value) {
        for (name, value) in
            object.as_object().into_iter().flat_map(Map::iter).filter(|(name, _)| name.starts_with("x-"))
        {
            self.inner(number, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.inner(2, |out| out.any(value));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_have_gnostics_shape() {
        let document = json!({"swagger": "2.0", "info": {"title": "K", "version": "v1"}, "paths": {}, "definitions": {
            "a": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "x-y": [1]},
        }});
        let bytes = encode(document.to_string().as_bytes()).unwrap();
        let mut wanted = b"\x0a\x032.0\x12\x07\x0a\x01K\x12\x02v1\x42\x00".to_vec();
        // minimum 9 (double), type 22
        let mut field = b"\x49".to_vec();
        field.extend(1.0f64.to_le_bytes());
        field.extend(b"\xb2\x01\x09\x0a\x07integer");
        let wrap = |tag: &[u8], inner: &[u8]| [tag, &[inner.len() as u8], inner].concat();
        let property = [b"\x0a\x01n".to_vec(), wrap(b"\x12", &field)].concat();
        let mut schema = b"\xb2\x01\x08\x0a\x06object".to_vec();
        schema.extend(wrap(b"\xca\x01", &wrap(b"\x0a", &property)));
        schema.extend(wrap(b"\xfa\x01", b"\x0a\x03x-y\x12\x06\x12\x04[1]\n"));
        let definition = [b"\x0a\x01a".to_vec(), wrap(b"\x12", &schema)].concat();
        wanted.extend(wrap(b"\x4a", &wrap(b"\x0a", &definition)));
        wanted.extend(b"\x52\x00\x6a\x00");
        assert_eq!(bytes, wanted);
    }
}
