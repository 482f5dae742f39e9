//! `namespaces/finalize`: the only way to the finalizers in the spec of a namespace. The object goes with the last of them.

use api::ApiError;
use serde_json::Value;

use crate::http::body::decode_value;
use crate::object::Object;
use crate::resources::Strategy;

/// The object as the client wants it, with the status that is stored.
pub(super) fn prepare(
    strategy: &dyn Strategy,
    new: Box<dyn Object>,
    old: &dyn Object,
) -> Result<Box<dyn Object>, ApiError> {
    let mut value = new.to_value();
    if let (Value::Object(fields), Value::Object(stored)) = (&mut value, old.to_value()) {
        match stored.get("status") {
            Some(status) => drop(fields.insert("status".to_owned(), status.clone())),
            None => drop(fields.remove("status")),
        }
    }
    decode_value(strategy, value)
}
