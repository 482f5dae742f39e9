//! `fieldsV1` of an object in memory: its text instead of a tree of values, which would take ten times the room of the rest of its
//! metadata and be built and taken apart by every write. Entry points: [`pack`] and [`decode`] for what was read, [`unpack`] for what
//! is shown as a value; [`super::encode`] writes the text as it is.
//!
//! Invariant: the metadata of every [`Object`](crate::object::Object) is packed. Metadata inside an object (a template's) are not.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta, Time};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Error, Value};

use crate::{draft, object};

/// Fields from the text of `fieldsV1`.
pub fn of_text(text: String) -> FieldsV1 {
    FieldsV1(Value::String(text))
}

/// The text of `fieldsV1`.
pub fn text(fields: FieldsV1) -> String {
    match fields.0 {
        Value::String(text) => text,
        unpacked => unpacked.to_string(),
    }
}

/// Packs metadata that were read from JSON; not to be done twice.
pub fn pack(meta: &mut ObjectMeta) {
    for entry in meta.managed_fields.iter_mut().flatten() {
        entry.fields_v1 = entry.fields_v1.take().map(|fields| of_text(fields.0.to_string()));
    }
}

/// Puts the values back into metadata that were made a value.
pub fn unpack(meta: Option<&mut Value>) {
    let entries = meta.and_then(|meta| meta.get_mut("managedFields")).and_then(Value::as_array_mut);
    for fields in entries.into_iter().flatten().filter_map(|entry| entry.get_mut("fieldsV1")) {
        if let Value::String(text) = fields {
            *fields = serde_json::from_str(text).unwrap_or_default();
        }
    }
}

/// Decodes the text that [`super::encode`] made of an object.
pub fn decode<T: DeserializeOwned + Metadata<Ty = ObjectMeta>>(text: &[u8]) -> Result<T, Error> {
    let Some((head, entries, tail)) = split(text) else {
        let mut object: T = serde_json::from_slice(text)?;
        pack(object.metadata_mut());
        return Ok(object);
    };
    let mut object: T = draft::with(|draft| {
        for part in [head, b"null", tail] {
            draft.extend_from_slice(part);
        }
        serde_json::from_slice(draft)
    })?;
    let entries: Vec<PackedEntry<'_>> = serde_json::from_str(entries.get())?;
    object.metadata_mut().managed_fields = Some(entries.into_iter().map(PackedEntry::entry).collect());
    Ok(object)
}

#[derive(Deserialize)]
struct Owned<'a> {
    #[serde(borrow, rename = "managedFields")]
    entries: Option<&'a RawValue>,
}

/// What stands before and after the value of `metadata.managedFields`, and that; none if there is none, or if it can't be found
/// without reading everything.
fn split(text: &[u8]) -> Option<(&[u8], &RawValue, &[u8])> {
    let meta = &text[object::metadata_at(text)? - 1..];
    let owned = serde_json::Deserializer::from_slice(meta).into_iter::<Owned<'_>>().next()?.ok()?;
    let entries = owned.entries?;
    let start = entries.get().as_ptr() as usize - text.as_ptr() as usize;
    Some((&text[..start], entries, &text[start + entries.get().len()..]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PackedEntry<'a> {
    api_version: Option<String>,
    fields_type: Option<String>,
    #[serde(borrow)]
    fields_v1: Option<&'a RawValue>,
    manager: Option<String>,
    operation: Option<String>,
    subresource: Option<String>,
    time: Option<Time>,
}

impl PackedEntry<'_> {
    fn entry(self) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            api_version: self.api_version,
            fields_type: self.fields_type,
            fields_v1: self.fields_v1.map(|fields| of_text(fields.get().to_owned())),
            manager: self.manager,
            operation: self.operation,
            subresource: self.subresource,
            time: self.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Object;
    use crate::resources::table;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pods() -> Box<dyn Fn(Value) -> Box<dyn Object>> {
        let row = table().into_iter().find(|row| row.info().kind == "Pod").expect("there are pods");
        Box::new(move |value| row.decode(value).unwrap_or_else(|error| panic!("{}", error.message)))
    }

    #[test]
    fn owners_are_text_between_reading_and_writing() {
        let entry = |fields: Value| {
            json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2020-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": fields})
        };
        let fields = json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\\\\\"}": {".": {}, "f:name": {}}}}});
        let table = [
            json!({"name": "a"}),
            json!({"name": "a", "managedFields": []}),
            json!({"name": "a", "managedFields": [entry(fields.clone()), entry(json!({}))], "labels": {"a": "\"}"}}),
            // What no server of ours writes.
            json!({"name": "a", "managedFields": [entry(json!("{\"f:x\":{}}")), {"manager": "m"}]}),
        ];
        for meta in table {
            let object = pods()(json!({"metadata": meta, "spec": {"containers": []}}));
            let text = object.to_bytes();
            let again: Pod = decode(&text).expect("it can be read");
            assert_eq!(Object::to_bytes(&again), text);
            let value: Value = serde_json::from_slice(&text).expect("it is JSON");
            assert_eq!(again.to_value(), value);
            let entries = meta["managedFields"].as_array().cloned().unwrap_or_default();
            for (at, entry) in entries.iter().enumerate() {
                assert_eq!(value["metadata"]["managedFields"][at].get("fieldsV1"), entry.get("fieldsV1"));
                let held = again.metadata.managed_fields.as_ref().and_then(|held| held[at].fields_v1.as_ref());
                assert_eq!(held.map(|held| held.0.is_string()), entry.get("fieldsV1").map(|_| true));
            }
        }
    }

    #[test]
    fn metadata_of_a_template_are_as_they_were_sent() {
        let row = table().into_iter().find(|row| row.info().kind == "PodTemplate").expect("there are templates");
        let entry = json!({"manager": "m", "fieldsV1": "{\"f:x\":{}}"});
        let template = json!({"metadata": {"managedFields": [entry]}, "spec": {"containers": []}});
        let object = row.decode(json!({"metadata": {"name": "a"}, "template": template})).expect("decoded");
        let value: Value = serde_json::from_slice(&object.to_bytes()).expect("it is JSON");
        assert_eq!(value["template"]["metadata"]["managedFields"][0]["fieldsV1"], entry["fieldsV1"]);
        assert_eq!(object.to_value(), value);
    }
}
