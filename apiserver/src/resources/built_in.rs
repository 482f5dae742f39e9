//! [`BuiltIn`] turns a [`Kind`] into the object-safe [`Strategy`] that handlers use.
//!
//! Invariant: an object given to a strategy has the strategy's own type; handlers only pass objects back to the strategy that
//! decoded them.

use std::any::TypeId;
use std::time::Duration;

use api::error::ApiError;
use api::field::FieldErrors;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::schemars::SchemaGenerator;
use k8s_openapi::{NamespaceResourceScope, Resource};
use serde_json::Value;

use super::{Column, Columns, DeletedBy, Kind, ResourceInfo, ServedAs, Stamp, Strategy, Subresource, pod_spec, wire};
use crate::cache::SelectableField;
use crate::object::{self, Object};
use crate::write::metadata::MetadataCheck;

/// A kind of the table, ready for the handlers.
pub struct BuiltIn<K: Kind> {
    info: ResourceInfo,
    columns: Columns<K::Object>,
}

impl<K: Kind> Default for BuiltIn<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kind> BuiltIn<K> {
    /// The strategy of `K`.
    pub fn new() -> Self {
        Self { info: info::<K>(), columns: K::columns() }
    }

    fn own<'a>(&self, object: &'a dyn Object) -> &'a K::Object {
        object::downcast(object).expect("a strategy gets objects of its own kind")
    }

    fn own_mut<'a>(&self, object: &'a mut dyn Object) -> &'a mut K::Object {
        object::downcast_mut(object).expect("a strategy gets objects of its own kind")
    }

    /// As upstream does last whenever a template is written.
    fn drop_what_is_off(&self, object: &mut dyn Object) {
        if let Some(spec) = K::template(self.own_mut(object)).and_then(|template| template.spec.as_mut()) {
            pod_spec::drop_what_is_off(spec);
        }
    }

    fn decode_null_times(&self, bytes: &[u8]) -> Option<K::Object> {
        let mut value = serde_json::from_slice(bytes).ok()?;
        wire::accept(K::Object::API_VERSION, K::Object::KIND, &mut value).ok()?;
        let mut object: K::Object = serde_json::from_value(value).ok()?;
        wire::packed::pack(Object::metadata_mut(&mut object));
        Some(object)
    }

    fn malformed(&self, error: &str) -> ApiError {
        let ResourceInfo { kind, version, .. } = &self.info;
        ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"))
    }
}

fn info<K: Kind>() -> ResourceInfo {
    let stored_group = K::Object::GROUP;
    let plural = K::Object::URL_PATH_SEGMENT.to_owned();
    let (group, version, kind) = match K::SERVED_AS {
        Some(served) => (served.group, served.version, served.kind),
        None => (stored_group, K::Object::VERSION, K::Object::KIND),
    };
    let singular = if K::SINGULAR.is_empty() { kind.to_lowercase() } else { K::SINGULAR.to_owned() };
    let storage_prefix = match (K::STORAGE_PREFIX, stored_group) {
        ("", "") => plural.clone(),
        ("", group) => format!("{group}/{plural}"),
        (prefix, _) => prefix.to_owned(),
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ResourceInfo {
        group: group.to_owned(),
        stored_group: stored_group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        singular,
        namespaced: TypeId::of::<<K::Object as Resource>::Scope>() == TypeId::of::<NamespaceResourceScope>(),
        short_names: owned(K::SHORT_NAMES),
        categories: owned(K::CATEGORIES),
        subresources: K::SUBRESOURCES.to_vec(),
        stored: K::STORED,
        storage_prefix,
        fields: K::FIELDS.iter().map(|field| SelectableField::from(*field)).collect(),
        list_kind: format!("{kind}List"),
        stored_version: if K::STORED_VERSION.is_empty() { K::Object::VERSION } else { K::STORED_VERSION }.to_owned(),
        custom: false,
        plural,
    }
}

impl<K: Kind> Strategy for BuiltIn<K> {
    fn info(&self) -> &ResourceInfo {
        &self.info
    }

    fn describe(&self, generator: &mut SchemaGenerator) {
        generator.subschema_for::<K::Object>();
    }

    fn decode(&self, mut value: Value) -> Result<Box<dyn Object>, ApiError> {
        wire::accept(K::Object::API_VERSION, K::Object::KIND, &mut value)
            .map_err(|error| self.malformed(&error.to_string()))?;
        wire::leave_out_empty(K::Object::API_VERSION, K::Object::KIND, &mut value, false);
        match serde_json::from_value::<K::Object>(value) {
            Ok(mut object) => {
                wire::packed::pack(Object::metadata_mut(&mut object));
                Ok(Box::new(object))
            }
            Err(error) => Err(self.malformed(&format!("json: {error}"))),
        }
    }

    fn decode_stored(&self, bytes: &[u8]) -> Result<Box<dyn Object>, ApiError> {
        // Times that were never set are stored as null, which not every type can hold; few objects have any.
        let read = wire::packed::decode::<K::Object>(bytes)
            .map_err(|error| error.to_string())
            .or_else(|error| self.decode_null_times(bytes).ok_or(error));
        match read {
            Ok(object) => Ok(Box::new(object)),
            Err(error) => {
                Err(ApiError::internal(format_args!("unable to decode a stored {}: {error}", self.info.kind)))
            }
        }
    }

    fn set_defaults(&self, object: &mut dyn Object) {
        K::set_defaults(self.own_mut(object));
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        K::prepare_for_create(self.own_mut(object));
        self.drop_what_is_off(object);
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        K::prepare_for_update(self.own_mut(new), self.own(old));
        self.drop_what_is_off(new);
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        K::prepare_for_status_update(self.own_mut(new), self.own(old));
    }

    fn validate(&self, object: &dyn Object) -> FieldErrors {
        K::validate(self.own(object))
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        K::validate_update(self.own(new), self.own(old))
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        K::validate_status_update(self.own(new), self.own(old))
    }

    fn prepare_for_subresource_update(&self, subresource: Subresource, new: &mut dyn Object, old: &dyn Object) {
        K::prepare_for_subresource_update(subresource, self.own_mut(new), self.own(old));
    }

    fn stamp(&self, new: &mut dyn Object, old: Option<&dyn Object>, by: &Stamp<'_>) {
        K::stamp(self.own_mut(new), old.map(|old| self.own(old)), by);
    }

    fn validate_subresource_update(&self, subresource: Subresource, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        K::validate_subresource_update(subresource, self.own(new), self.own(old))
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        K::validate_name(name, prefix)
    }

    fn ttl(&self) -> Option<Duration> {
        K::TTL
    }

    fn create_on_update(&self) -> bool {
        K::CREATE_ON_UPDATE
    }

    fn generation(&self) -> bool {
        K::GENERATION
    }

    fn served_as(&self) -> Option<&'static ServedAs> {
        K::SERVED_AS
    }

    fn computed(&self) -> bool {
        K::COMPUTED
    }

    fn deprecation(&self) -> Option<&str> {
        K::DEPRECATION
    }

    fn orphans_by_default(&self) -> bool {
        K::ORPHANS_BY_DEFAULT
    }

    fn delete_warning(&self) -> Option<&'static str> {
        K::DELETE_WARNING
    }

    fn deleted_by(&self) -> DeletedBy {
        K::DELETED_BY
    }

    fn returns_deleted(&self) -> bool {
        K::RETURNS_DELETED
    }

    fn delete_collection(&self) -> bool {
        K::DELETE_COLLECTION
    }

    fn unconditional_update(&self) -> bool {
        K::UNCONDITIONAL_UPDATE
    }

    fn metadata_on_update(&self) -> &'static [MetadataCheck] {
        K::METADATA_ON_UPDATE
    }

    fn columns(&self) -> &[Column] {
        &self.columns.columns
    }

    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        (self.columns.cells)(self.own(object), now)
    }

    fn table_rank(&self, object: &dyn Object) -> i64 {
        K::table_rank(self.own(object))
    }

    fn completion(&self, object: &dyn Object) -> Option<(&'static str, &'static str)> {
        K::completion(self.own(object))
    }

    fn warnings(&self, new: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
        K::warnings(self.own(new), old.map(|old| self.own(old)))
    }

    fn read_back(&self, object: &mut dyn Object) {
        K::read_back(self.own_mut(object));
    }

    fn status_warnings(&self, new: &dyn Object) -> Vec<String> {
        K::status_warnings(self.own(new))
    }

    fn unknown_field(&self, field: &str) -> String {
        K::unknown_field(field)
    }

    fn refuses_deletion(&self, name: &str) -> Option<&'static str> {
        K::refuses_deletion(name)
    }

    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64> {
        K::grace_period(self.own(object), requested)
    }

    fn begin_deletion(&self, object: &mut dyn Object, now: Timestamp) -> bool {
        K::begin_deletion(self.own_mut(object), now)
    }

    fn holds_removal(&self, object: &dyn Object) -> bool {
        K::holds_removal(self.own(object))
    }

    fn kept_fields(&self, subresource: Option<Subresource>) -> &'static [&'static str] {
        K::kept_fields(subresource)
    }

    fn reset_fields(&self, subresource: Option<Subresource>) -> &'static [&'static str] {
        K::reset_fields(subresource)
    }
}
