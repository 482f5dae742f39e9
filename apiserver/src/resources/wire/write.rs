//! Writing an object as Go does, straight from its type into text. Entry point: [`encode`].
//!
//! Every write of an object ends here, so nothing is built on the way: fields of the schema come in their order, those that are left
//! out are taken back, those that Go always writes are put in. Invariant: the text is that of [`super::canonical`], `kind` and
//! `apiVersion` first.

use serde::ser::{Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde_json::{Error, Map, Value};

use super::super::schema::{self, Field, Presence, Shape, Type};
use super::{ZERO_TIME, canonical_struct, zero};
use crate::draft;

/// An object as text that begins with `kind` and `apiVersion`.
pub struct Encoded {
    /// The text, in memory of just its size.
    pub text: Vec<u8>,
    /// Whether reading it gives an equal object: nothing that the object has was left out, nothing that it lacks was put in.
    pub exact: bool,
}

/// Writes an object.
pub fn encode<T: Serialize>(api_version: &str, kind: &str, object: &T) -> Encoded {
    draft::with(|draft| {
        let exact = write(draft, api_version, kind, object);
        Encoded { text: draft.to_vec(), exact }
    })
}

/// As [`encode`], for somebody who only looks at the text.
pub fn inspect<T: Serialize>(api_version: &str, kind: &str, object: &T, look: &mut dyn FnMut(&[u8])) {
    draft::with(|draft| {
        write(draft, api_version, kind, object);
        look(draft);
    });
}

/// Answers whether the text is exact: see [`Encoded::exact`].
fn write<T: Serialize>(draft: &mut Vec<u8>, api_version: &str, kind: &str, object: &T) -> bool {
    let mut out = Out { text: std::mem::take(draft), exact: true };
    out.put(b"{\"kind\":");
    out.json(kind).expect("writing to memory succeeds");
    out.put(b",\"apiVersion\":");
    out.json(api_version).expect("writing to memory succeeds");
    let ty = schema::of(api_version, kind);
    let form = ty.map_or(Form::Unknown, Form::Type);
    object.serialize(Writer { out: &mut out, form, part: Part::Object }).expect("API types always serialize");
    *draft = out.text;
    out.exact
}

/// The text so far.
struct Out {
    text: Vec<u8>,
    /// See [`Encoded::exact`].
    exact: bool,
}

impl Out {
    fn put(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(&mut self.text, value)
    }
}

/// What is known of the value that comes next.
#[derive(Clone, Copy)]
enum Form {
    Unknown,
    Type(&'static Type),
    Shape(&'static Shape),
}

impl Form {
    fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Any => Self::Unknown,
            Shape::Struct(at) => Self::Type(schema::at(*at)),
            shape => Self::Shape(shape),
        }
    }

    /// Of the items of a list or map.
    fn inner(self) -> Self {
        match self {
            Self::Shape(Shape::List(inner) | Shape::Map(inner)) => Self::of(inner),
            Self::Unknown | Self::Type(_) | Self::Shape(_) => Self::Unknown,
        }
    }
}

/// Where in the object a value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The object itself, whose head is written already.
    Object,
    /// In its metadata.
    Metadata,
    /// The text of `fieldsV1` in its metadata (see [`super::packed`]).
    Packed,
    /// Anywhere else.
    Rest,
}

impl Part {
    fn of_field(self, name: &str) -> Self {
        match (self, name) {
            (Self::Object, "metadata") => Self::Metadata,
            (Self::Metadata, "fieldsV1") => Self::Packed,
            (Self::Metadata, _) => Self::Metadata,
            (Self::Object | Self::Packed | Self::Rest, _) => Self::Rest,
        }
    }
}

/// Appends one value.
struct Writer<'a> {
    out: &'a mut Out,
    form: Form,
    part: Part,
}

impl Writer<'_> {
    fn plain<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.out.json(value)
    }
}

macro_rules! scalars {
    ($($name:ident: $ty:ty),*) => {
        $(fn $name(self, value: $ty) -> Result<(), Error> {
            self.plain(&value)
        })*
    };
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    scalars!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32, serialize_char: char,
        serialize_bytes: &[u8]
    );

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        if self.part == Part::Packed {
            self.out.put(value.as_bytes());
            return Ok(());
        }
        match self.form {
            Form::Shape(Shape::Time) if value == ZERO_TIME => {
                self.out.exact = false;
                self.serialize_unit()
            }
            Form::Unknown | Form::Type(_) | Form::Shape(_) => self.plain(value),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        match super::as_whole(value) {
            Some(whole) => self.plain(&whole),
            None => self.plain(&value),
        }
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.put(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(foreign())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Error> {
        self.out.put(b"[");
        Ok(Items { out: self.out, inner: self.form.inner(), part: self.part, first: true })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, Error> {
        if let Form::Type(ty) = self.form {
            return Ok(Entries::Struct { out: self.out, ty, fields: Map::new(), name: String::new() });
        }
        self.out.put(b"{");
        Ok(Entries::Map { out: self.out, inner: self.form.inner(), first: true })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Error> {
        let expected: &[Field] = match self.form {
            Form::Type(ty) => &ty.fields,
            Form::Unknown | Form::Shape(_) => &[],
        };
        let head = self.part == Part::Object;
        if !head {
            self.out.put(b"{");
        }
        Ok(Fields { out: self.out, expected, first: !head, part: self.part })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(foreign())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        Err(foreign())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(foreign())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(foreign())
    }
}

fn foreign() -> Error {
    Error::custom("no form of an API type")
}

/// A list.
struct Items<'a> {
    out: &'a mut Out,
    inner: Form,
    part: Part,
    first: bool,
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        comma(self.out, &mut self.first);
        value.serialize(Writer { out: self.out, form: self.inner, part: self.part })
    }

    fn end(self) -> Result<(), Error> {
        self.out.put(b"]");
        Ok(())
    }
}

fn comma(out: &mut Out, first: &mut bool) {
    if !std::mem::take(first) {
        out.put(b",");
    }
}

/// A map; one that stands for a struct is put in order first.
enum Entries<'a> {
    Map { out: &'a mut Out, inner: Form, first: bool },
    Struct { out: &'a mut Out, ty: &'static Type, fields: Map<String, Value>, name: String },
}

impl SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        match self {
            Self::Map { out, first, .. } => {
                comma(out, first);
                key.serialize(Writer { out, form: Form::Unknown, part: Part::Rest })
            }
            Self::Struct { name, .. } => {
                let Value::String(key) = serde_json::to_value(key)? else { return Err(foreign()) };
                *name = key;
                Ok(())
            }
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        match self {
            Self::Map { out, inner, .. } => {
                out.put(b":");
                value.serialize(Writer { out, form: *inner, part: Part::Rest })
            }
            Self::Struct { fields, name, .. } => {
                fields.insert(std::mem::take(name), serde_json::to_value(value)?);
                Ok(())
            }
        }
    }

    fn end(self) -> Result<(), Error> {
        match self {
            Self::Map { out, .. } => {
                out.put(b"}");
                Ok(())
            }
            Self::Struct { out, ty, mut fields, .. } => {
                canonical_struct(ty, &mut fields);
                out.exact = false;
                out.json(&fields)
            }
        }
    }
}

/// A struct. Its fields come in the order of their names, as those of the schema do.
struct Fields<'a> {
    out: &'a mut Out,
    /// Fields of the schema that have not come yet.
    expected: &'static [Field],
    first: bool,
    part: Part,
}

impl Fields<'_> {
    /// Puts in what Go always writes, up to a field.
    fn fill(&mut self, count: usize) {
        let (absent, rest) = self.expected.split_at(count);
        self.expected = rest;
        for field in absent {
            let value = match field.presence {
                Presence::Always => zero(field),
                Presence::Nullable => Value::Null,
                Presence::OmitEmpty | Presence::Pointer => continue,
            };
            self.out.exact &= value.is_null();
            self.name(field.name);
            self.out.json(&value).expect("writing to memory succeeds");
        }
    }

    fn name(&mut self, name: &str) {
        comma(self.out, &mut self.first);
        self.out.json(name).expect("writing to memory succeeds");
        self.out.put(b":");
    }

    /// What the schema says of the field that comes now.
    fn next(&mut self, name: &str) -> Option<&'static Field> {
        let before = self.expected.iter().take_while(|field| field.name < name).count();
        self.fill(before);
        let (field, rest) = self.expected.split_first().filter(|(field, _)| field.name == name)?;
        self.expected = rest;
        Some(field)
    }
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        if self.part == Part::Object && matches!(name, "kind" | "apiVersion") {
            return Ok(());
        }
        let field = self.next(name);
        let (before, was_first) = (self.out.text.len(), self.first);
        self.name(name);
        let start = self.out.text.len();
        let form = field.map_or(Form::Unknown, |field| Form::of(&field.shape));
        value.serialize(Writer { out: self.out, form, part: self.part.of_field(name) })?;
        let Some(field) = field else { return Ok(()) };
        let written = &self.out.text[start..];
        match field.presence {
            Presence::OmitEmpty if is_empty(written) => self.take_back(before, was_first),
            Presence::Pointer if written == b"null" => self.take_back(before, was_first),
            Presence::Always if is_empty(written) => {
                let end = self.out.text.len();
                self.out.json(&zero(field))?;
                let (empty, zero) = self.out.text[start..].split_at(end - start);
                self.out.exact &= empty == zero;
                self.out.text.drain(start..end);
            }
            Presence::OmitEmpty | Presence::Pointer | Presence::Always | Presence::Nullable => {}
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Error> {
        self.fill(self.expected.len());
        self.out.put(b"}");
        Ok(())
    }
}

impl Fields<'_> {
    fn take_back(&mut self, length: usize, was_first: bool) {
        self.out.exact = false;
        self.out.text.truncate(length);
        self.first = was_first;
    }
}

fn is_empty(written: &[u8]) -> bool {
    matches!(written, b"null" | b"false" | b"\"\"" | b"[]" | b"{}" | b"0" | b"0.0" | b"-0.0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;
    use crate::resources::table;
    use serde_json::json;

    /// A value of each field, or an empty one; types that hold themselves end somewhere.
    fn sample(shape: &Shape, full: bool, depth: usize) -> Value {
        match shape {
            Shape::Str => Value::from(if full { "x\"\n\u{1}ü" } else { "" }),
            Shape::Bytes => Value::from(if full { "eA==" } else { "" }),
            Shape::Int | Shape::Long => Value::from(i32::from(full)),
            Shape::Float => json!(if full { 1.5 } else { 0.0 }),
            Shape::Bool => Value::from(full),
            Shape::Time => Value::from("2020-01-01T00:00:00Z"),
            Shape::MicroTime => Value::from("2020-01-01T00:00:00.000000Z"),
            Shape::Quantity => Value::from(if full { "1Gi" } else { "0" }),
            Shape::IntOrString if full => Value::from("http"),
            Shape::IntOrString => Value::from(0),
            Shape::Any => json!({"b": [1, null, {}], "a": {"x": ""}}),
            Shape::List(inner) if full => json!([sample(inner, full, depth)]),
            Shape::List(_) => json!([]),
            Shape::Map(inner) if full => json!({"b": sample(inner, full, depth), "a": sample(inner, full, depth)}),
            Shape::Map(_) => json!({}),
            Shape::Struct(at) if schema::at(*at).name.contains("JSONSchemaProps") => json!({}),
            Shape::Struct(at) => object_of(schema::at(*at), full, depth.saturating_sub(1)),
        }
    }

    fn object_of(ty: &Type, full: bool, depth: usize) -> Value {
        // What names the kind of an object can't be just anything.
        let object = ty.field("metadata").is_some();
        let fields = ty.fields.iter().filter(|field| !(object && matches!(field.name, "apiVersion" | "kind")));
        // At the end of the depth stand only times, which have no empty form.
        let fields = fields.filter(|field| depth > 0 || matches!(field.shape, Shape::Time | Shape::MicroTime));
        Value::Object(fields.map(|field| (field.name.to_owned(), sample(&field.shape, full, depth))).collect())
    }

    #[test]
    fn a_whole_float_has_no_fraction() {
        let rows = table();
        let row = rows.iter().find(|row| row.info().kind == "CustomResourceDefinition").expect("a kind with floats");
        let limits = json!({"type": "number", "maximum": 10.0, "multipleOf": 0.5});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"a": limits}}});
        let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
        let names = json!({"kind": "K", "plural": "ks"});
        let spec = json!({"group": "g.io", "scope": "Namespaced", "names": names, "versions": [version]});
        let decoded = row.decode(json!({"metadata": {"name": "ks.g.io"}, "spec": spec}));
        let text = String::from_utf8(decoded.expect("decoded").to_bytes().to_vec()).expect("text");
        assert!(text.contains(r#""maximum":10,"#) && text.contains(r#""multipleOf":0.5"#), "{text}");
    }

    #[test]
    fn a_time_that_was_never_set_is_null() {
        let rows = table();
        let row = rows.iter().find(|row| row.info().kind == "PodDisruptionBudget").expect("a kind with conditions");
        for given in [
            json!({"type": "A"}),
            json!({"type": "A", "lastTransitionTime": null}),
            json!({"type": "A", "lastTransitionTime": ZERO_TIME}),
        ] {
            let decoded = row.decode(json!({"metadata": {"name": "a"}, "status": {"conditions": [given]}}));
            let object = decoded.expect("decoded");
            let shown = json!({"type": "A", "status": "", "reason": "", "message": "", "lastTransitionTime": null});
            assert_eq!(object.to_value()["status"]["conditions"][0], shown);
            let text = object.to_bytes();
            assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&object::encode(&object.to_value())));
            let again = row.decode_stored(&text).expect("stored");
            assert_eq!(again.to_bytes(), text);
        }
    }

    #[test]
    fn every_kind_is_written_as_its_canonical_value() {
        let (mut kinds, mut exact) = (0, 0);
        for row in table().iter().filter(|row| row.served_as().is_none()) {
            let (info, mut longest) = (row.info(), 0);
            kinds += 1;
            let ty = schema::of(&info.api_version(), &info.kind).expect("it has a schema");
            for (full, depth) in [(true, 9), (true, 2), (false, 9), (false, 1)] {
                let decoded = row.decode(object_of(ty, full, depth));
                let object = decoded.unwrap_or_else(|error| panic!("{}: {error:?}", info.kind));
                let (encoded, value) = (object.encoded(), object.to_value());
                let text = encoded.text;
                assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&object::encode(&value)));
                let again = row.decode_stored(&text).expect("stored");
                let same = again.to_sent_value() == object.to_sent_value();
                assert!(same || !encoded.exact, "{} is read as another object", info.kind);
                // Where the sample ends, required lists are missing.
                if full && depth == 9 && again.encoded().exact {
                    exact += 1;
                }
                longest = longest.max(text.len());
            }
            assert!(longest > 500, "{} has hardly been written", info.kind);
        }
        assert!(exact * 10 > kinds * 9, "only {exact} of {kinds} kinds are read as they were");
    }
}
