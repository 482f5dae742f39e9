//! [`Instance`]: an object of a kind that was defined at run time. Metadata is typed, the rest is JSON.

use std::any::Any;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::embedded;
use crate::object::{Object, encode};
use crate::resources::wire::{Encoded, packed};

/// See the module.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its metadata.
    pub meta: ObjectMeta,
    /// Everything else, `apiVersion` and `kind` included.
    pub content: Value,
}

impl Instance {
    /// Takes an object apart; the error is what Go's decoder says about its metadata.
    pub fn new(mut value: Value) -> Result<Self, String> {
        let meta = value.as_object_mut().and_then(|fields| fields.remove("metadata")).unwrap_or_default();
        let mut meta = embedded::typed(meta)?;
        packed::pack(&mut meta);
        Ok(Self { meta, content: value })
    }

    /// The kind that it says it is.
    pub fn kind(&self) -> &str {
        self.content.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    /// The version that it says it is of.
    pub fn api_version(&self) -> &str {
        self.content.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
    }

    /// The fields besides metadata.
    pub fn fields_mut(&mut self) -> &mut Map<String, Value> {
        if !self.content.is_object() {
            self.content = Value::Object(Map::new());
        }
        self.content.as_object_mut().expect("it was made an object")
    }
}

impl Object for Instance {
    fn metadata(&self) -> &ObjectMeta {
        &self.meta
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    fn encoded(&self) -> Encoded {
        // Other versions of the kind may read it.
        Encoded { text: encode(&self.to_value()), exact: false }
    }

    fn to_value(&self) -> Value {
        let mut value = self.content.clone();
        if let Value::Object(fields) = &mut value {
            let mut meta = embedded::canonical(&self.meta);
            packed::unpack(Some(&mut meta));
            fields.insert("metadata".to_owned(), meta);
        }
        value
    }

    fn assign(&mut self, value: Value) -> Result<(), String> {
        *self = Self::new(value)?;
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
