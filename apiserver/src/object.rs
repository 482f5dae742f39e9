//! What a stored object is to the write path: typed metadata, and an opaque rest that only its kind understands.
//!
//! Handlers, patches and admission work on `Box<dyn Object>`; a kind's own code gets the concrete type back through
//! `as_any`. Built-in kinds are k8s-openapi types; objects of a CustomResourceDefinition implement the same trait.

use std::any::Any;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::resources::wire::{self, Encoded};

/// An API object in the middle of a request.
pub trait Object: Any + Send + Sync {
    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// The object's metadata, to be changed.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// The object as JSON text that begins with `kind` and `apiVersion`: see [`encode`].
    fn encoded(&self) -> Encoded;
    /// The text of [`Object::encoded`].
    fn to_bytes(&self) -> Vec<u8> {
        self.encoded().text
    }
    /// Shows [`Object::to_bytes`] to somebody who does not keep it.
    fn inspect(&self, look: &mut dyn FnMut(&[u8])) {
        look(&self.to_bytes());
    }
    /// The object as a JSON value, `apiVersion` and `kind` included.
    fn to_value(&self) -> Value;
    /// As [`Object::to_value`], but with the empty lists that the client sent and that are not stored.
    fn to_sent_value(&self) -> Value {
        self.to_value()
    }
    /// Becomes what a JSON document of the same kind says; the error is Go's.
    fn assign(&mut self, value: Value) -> Result<(), String>;
    /// A copy.
    fn clone_object(&self) -> Box<dyn Object>;
    /// For a kind's own code: the concrete type.
    fn as_any(&self) -> &dyn Any;
    /// For a kind's own code: the concrete type, to be changed.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T> Object for T
where
    T: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn metadata(&self) -> &ObjectMeta {
        k8s_openapi::Metadata::metadata(self)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        k8s_openapi::Metadata::metadata_mut(self)
    }

    fn encoded(&self) -> Encoded {
        wire::encode(T::API_VERSION, T::KIND, self)
    }

    fn inspect(&self, look: &mut dyn FnMut(&[u8])) {
        wire::inspect(T::API_VERSION, T::KIND, self, look);
    }

    fn to_value(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("API types always serialize");
        wire::packed::unpack(value.get_mut("metadata"));
        wire::canonical(T::API_VERSION, T::KIND, &mut value);
        value
    }

    fn to_sent_value(&self) -> Value {
        let mut value = self.to_value();
        wire::restore_empty_lists(T::API_VERSION, T::KIND, &mut value, || {
            serde_json::to_value(self).unwrap_or_default()
        });
        value
    }

    fn assign(&mut self, mut value: Value) -> Result<(), String> {
        wire::accept(T::API_VERSION, T::KIND, &mut value).map_err(|error| error.to_string())?;
        wire::leave_out_empty(T::API_VERSION, T::KIND, &mut value, false);
        *self = serde_json::from_value(value).map_err(|error| format!("json: {error}"))?;
        wire::packed::pack(self.metadata_mut());
        Ok(())
    }

    fn clone_object(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// JSON text that begins with `kind` and `apiVersion`, so that readers of lists can cut them off without parsing.
pub fn encode(value: &Value) -> Vec<u8> {
    let Value::Object(fields) = value else {
        return value.to_string().into_bytes();
    };
    let mut text = Vec::with_capacity(1024);
    let heads = ["kind", "apiVersion"].into_iter().filter_map(|name| Some((name, fields.get(name)?)));
    let rest = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion"));
    for (name, value) in heads.chain(rest.map(|(name, value)| (name.as_str(), value))) {
        text.push(if text.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut text, name).expect("writing to memory succeeds");
        text.push(b':');
        serde_json::to_writer(&mut text, value).expect("writing to memory succeeds");
    }
    if text.is_empty() {
        text.push(b'{');
    }
    text.push(b'}');
    text
}

/// Where the members of `metadata` begin in text that [`encode`] or [`Object::to_bytes`] made; found without reading the rest.
pub fn metadata_at(text: &[u8]) -> Option<usize> {
    let rest = past_string(text.strip_prefix(b"{\"kind\":")?)?;
    let rest = past_string(rest.strip_prefix(b",\"apiVersion\":")?)?;
    let members = rest.strip_prefix(b",\"metadata\":{")?;
    Some(text.len() - members.len())
}

/// What follows a string in which nothing is escaped.
fn past_string(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"\"")?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (rest[end] == b'"').then_some(&rest[end + 1..])
}

/// The text of a stored object with a resourceVersion, in parts, since most of it is there; none where its metadata are not found.
pub fn with_version(stored: &Bytes, version: &str) -> Option<[Bytes; 3]> {
    let at = metadata_at(stored)?;
    let (head, tail) = (stored.slice(..at), stored.slice(at..));
    let end = if tail.starts_with(b"}") { "" } else { "," };
    Some([head, format!("\"resourceVersion\":\"{version}\"{end}").into(), tail])
}

/// The concrete type behind an object, if it is `T`.
pub fn downcast<T: 'static>(object: &dyn Object) -> Option<&T> {
    object.as_any().downcast_ref()
}

/// The concrete type behind an object, if it is `T`, to be changed.
pub fn downcast_mut<T: 'static>(object: &mut dyn Object) -> Option<&mut T> {
    object.as_any_mut().downcast_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_is_put_into_the_metadata() {
        for meta in [json!({}), json!({"name": "x", "labels": {"a": "\"metadata\":{"}})] {
            let mut object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": {"metadata": {}}});
            let with = with_version(&encode(&object).into(), "7").expect("the metadata are found");
            object["metadata"]["resourceVersion"] = json!("7");
            assert_eq!(serde_json::from_slice::<Value>(&with.concat()).expect("it is JSON"), object);
        }
        for text in
            [r#"{"apiVersion":"v1","kind":"Pod","metadata":{}}"#, r#"{"kind":"a\"b","apiVersion":"v1","metadata":{}}"#]
        {
            assert_eq!(with_version(&Bytes::from_static(text.as_bytes()), "7"), None);
        }
    }
}
