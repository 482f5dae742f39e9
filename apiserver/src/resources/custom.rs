//! Kinds that a CustomResourceDefinition defines at run time. Entry point: [`rows`], one [`CustomResource`] for each served version;
//! for the handlers it is a [`Strategy`] like any other.
//!
//! Invariant: objects are pruned and have their defaults whenever they are decoded, from a request or from the store, so that a
//! schema that changed shows in old objects, too.

pub mod check;
mod columns;
pub mod conversion;
pub mod default;
pub mod embedded;
mod format;
mod instance;
pub mod list_type;
pub mod prune;
mod rules;
pub mod scale;
pub mod schema;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use api::error::ApiError;
use api::field::FieldErrors;
use api::names::{GroupKind, is_dns1123_subdomain};
use bytes::Bytes;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub use self::conversion::Conversion;
pub use self::instance::Instance;
pub use self::scale::ScalePaths;
pub use self::schema::Schema;

use self::columns::Printer;
use self::rules::Rules;
use super::{Column, ResourceInfo, ServedAs, Strategy, Subresource};
use crate::cache::{SelectableField, Shown};
use crate::object::{self, Object};
use crate::write::managed_fields::{self, Node};
use crate::write::metadata;

/// A served version of a kind.
pub struct CustomResource {
    info: ResourceInfo,
    schema: Arc<Schema>,
    /// The schemas of all versions by their names.
    schemas: Arc<[(String, Arc<Schema>)]>,
    /// The schema as OpenAPI shows it.
    document: Arc<Value>,
    /// The schema as field ownership sees it.
    ownership: managed_fields::Custom,
    printer: Printer,
    has_status: bool,
    scale: Option<ScalePaths>,
    conversion: Option<Arc<Conversion>>,
    rules: Option<Rules>,
    deprecation: Option<String>,
    terminating: bool,
}

/// Why a definition can't be served.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// A schema is none.
    #[error("the schema of version {version} can't be read")]
    Schema {
        /// Which.
        version: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The rows of a definition, one for each version, served or not. `conversion` is how its versions become each other.
pub fn rows(
    definition: &apiextensions::CustomResourceDefinition,
    conversion: Option<&Arc<Conversion>>,
) -> Result<Vec<Arc<CustomResource>>, RowError> {
    let versions = &definition.spec.versions;
    let documents: Vec<Value> = versions.iter().map(document).collect();
    let schemas = versions.iter().zip(&documents).map(|(version, document)| {
        let name = version.name.clone();
        match Schema::parse(document) {
            Ok(schema) => Ok((name, Arc::new(schema))),
            Err(source) => Err(RowError::Schema { version: name, source }),
        }
    });
    let schemas: Arc<[_]> = schemas.collect::<Result<Vec<_>, _>>()?.into();
    let each = versions.iter().zip(documents).zip(schemas.iter());
    Ok(each
        .map(|((version, document), (_, schema))| {
            let schemas = (Arc::clone(schema), Arc::clone(&schemas));
            Arc::new(row(definition, version, document, schemas, conversion))
        })
        .collect())
}

fn row(
    definition: &apiextensions::CustomResourceDefinition,
    version: &apiextensions::CustomResourceDefinitionVersion,
    document: Value,
    (schema, schemas): (Arc<Schema>, Arc<[(String, Arc<Schema>)]>),
    conversion: Option<&Arc<Conversion>>,
) -> CustomResource {
    let subresources = version.subresources.as_ref();
    let scale = subresources.and_then(|subresources| subresources.scale.as_ref());
    let columns = serde_json::to_value(&version.additional_printer_columns).unwrap_or_default();
    CustomResource {
        info: info(definition, version),
        ownership: managed_fields::Custom::of_resource(Some(&document)),
        printer: Printer::new(&columns),
        has_status: subresources.is_some_and(|subresources| subresources.status.is_some()),
        scale: scale.map(|scale| {
            ScalePaths::new(
                &scale.spec_replicas_path,
                &scale.status_replicas_path,
                scale.label_selector_path.as_deref(),
            )
        }),
        conversion: conversion.cloned(),
        deprecation: version.deprecated.unwrap_or_default().then(|| deprecation(&definition.spec, version)),
        terminating: definition.metadata.deletion_timestamp.is_some(),
        rules: Rules::new(&schema, &document, true),
        document: Arc::new(document),
        schema,
        schemas,
    }
}

/// The schema of a version as JSON; a version without one takes anything.
pub fn document(version: &apiextensions::CustomResourceDefinitionVersion) -> Value {
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let open = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    schema.map_or_else(open, |schema| serde_json::to_value(schema).unwrap_or_default())
}

fn info(
    definition: &apiextensions::CustomResourceDefinition,
    version: &apiextensions::CustomResourceDefinitionVersion,
) -> ResourceInfo {
    let spec = &definition.spec;
    let accepted = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    let names = accepted.filter(|names| !names.plural.is_empty()).unwrap_or(&spec.names);
    let subresources = version.subresources.as_ref();
    let has =
        |status: bool| subresources.is_some_and(|sub| if status { sub.status.is_some() } else { sub.scale.is_some() });
    let served = [(has(true), Subresource::Status), (has(false), Subresource::Scale)];
    let stored = spec.versions.iter().find(|version| version.storage);
    ResourceInfo {
        group: spec.group.clone(),
        stored_group: spec.group.clone(),
        version: version.name.clone(),
        kind: names.kind.clone(),
        plural: spec.names.plural.clone(),
        singular: names.singular.clone().unwrap_or_default(),
        namespaced: spec.scope == "Namespaced",
        short_names: names.short_names.clone().unwrap_or_default(),
        categories: names.categories.clone().unwrap_or_default(),
        subresources: served.into_iter().filter(|(has, _)| *has).map(|(_, subresource)| subresource).collect(),
        stored: true,
        storage_prefix: format!("{}/{}", spec.group, spec.names.plural),
        fields: selectable(version),
        list_kind: names.list_kind.clone().unwrap_or_default(),
        stored_version: stored.map(|version| version.name.clone()).unwrap_or_default(),
        custom: true,
    }
}

fn selectable(version: &apiextensions::CustomResourceDefinitionVersion) -> Vec<SelectableField> {
    let fields = version.selectable_fields.iter().flatten();
    let field = |path: &str| {
        let name = path.strip_prefix('.').unwrap_or(path);
        let pointer: String =
            name.split('.').map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect();
        // A missing value is selected as an empty one.
        SelectableField { name: name.to_owned(), pointers: vec![pointer, String::new()] }
    };
    fields.map(|selectable| field(&selectable.json_path)).collect()
}

/// What clients of a deprecated version are told.
fn deprecation(
    spec: &apiextensions::CustomResourceDefinitionSpec,
    version: &apiextensions::CustomResourceDefinitionVersion,
) -> String {
    if let Some(warning) = &version.deprecation_warning {
        return warning.clone();
    }
    let name = |version: &str| format!("{}/{version} {}", spec.group, spec.names.kind);
    let rank = |name: &str| crate::http::discovery::version_rank(name);
    let better = spec.versions.iter().filter(|other| {
        other.served && !other.deprecated.unwrap_or_default() && rank(&other.name) > rank(&version.name)
    });
    match better.max_by_key(|other| rank(&other.name)) {
        Some(better) => format!("{} is deprecated; use {}", name(&version.name), name(&better.name)),
        None => format!("{} is deprecated", name(&version.name)),
    }
}

/// An object as it comes from the store, in the version of the strategy, with its defaults.
pub async fn from_store(strategy: &dyn Strategy, bytes: &[u8]) -> Result<Box<dyn Object>, ApiError> {
    let Some(conversion) = strategy.conversion() else { return strategy.decode_stored(bytes) };
    let value: Value = serde_json::from_slice(bytes).map_err(ApiError::internal)?;
    let own = strategy.info().api_version();
    if value.get("apiVersion").and_then(Value::as_str) == Some(own.as_str()) {
        return strategy.decode_stored(bytes);
    }
    let converted = conversion.convert(vec![value], &own).await?;
    let converted = converted.into_iter().next().unwrap_or_default();
    // Defaults are those of the version in which an object is stored or sent.
    strategy.decode(converted).map_err(|error| ApiError::internal(error.message))
}

/// Objects of the cache in the version of the strategy, as JSON; asked for at once.
pub async fn served(strategy: &dyn Strategy, objects: Vec<Bytes>) -> Result<Vec<Bytes>, ApiError> {
    let Some(conversion) = strategy.conversion().filter(|_| strategy.converts_reads()) else { return Ok(objects) };
    let read = |bytes: &Bytes| serde_json::from_slice(bytes).map_err(ApiError::internal);
    let values = objects.iter().map(read).collect::<Result<Vec<Value>, _>>()?;
    let converted = conversion.convert(values, &strategy.info().api_version()).await?;
    let write = |value: Value| {
        let object = strategy.decode(value).map_err(|error| ApiError::internal(error.message))?;
        Ok(Bytes::from(object.to_bytes()))
    };
    converted.into_iter().map(write).collect()
}

/// How the cache shows stored objects: by the schema as it is now, in the version in which they are stored now. Objects of other
/// versions that only a webhook can convert stay as they are until they are read.
pub fn shown(strategy: &Arc<CustomResource>) -> Shown {
    let strategy = Arc::clone(strategy);
    Shown(Arc::new(move |bytes| {
        let own = strategy.info.api_version();
        let mut value: Value = serde_json::from_slice(bytes).ok()?;
        if value.get("apiVersion").and_then(Value::as_str) != Some(own.as_str()) {
            if matches!(strategy.conversion.as_deref(), Some(Conversion::Webhook(_))) {
                return None;
            }
            value = Conversion::rename(value, &own);
        }
        let mut object = strategy.read(value).ok()?;
        strategy.set_defaults(&mut object);
        let shown = object.to_bytes();
        (shown != bytes).then(|| Bytes::from(shown))
    }))
}

/// An object in the version in which the kind is stored.
pub async fn to_store(strategy: &dyn Strategy, value: Value) -> Result<Value, ApiError> {
    let Some(conversion) = strategy.conversion() else { return Ok(value) };
    let info = strategy.info();
    let stored = format!("{}/{}", info.group, info.stored_version);
    let converted = conversion.convert(vec![value], &stored).await?;
    Ok(converted.into_iter().next().unwrap_or_default())
}

impl CustomResource {
    fn own<'a>(&self, object: &'a dyn Object) -> &'a Instance {
        object::downcast(object).expect("a strategy gets objects of its own kind")
    }

    fn own_mut<'a>(&self, object: &'a mut dyn Object) -> &'a mut Instance {
        object::downcast_mut(object).expect("a strategy gets objects of its own kind")
    }

    /// Whether an object is of this kind and version; a client may send one that is not.
    fn is_own(&self, value: &Value) -> bool {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        text("kind") == Some(&self.info.kind) && text("apiVersion") == Some(self.info.api_version().as_str())
    }

    /// Admission may have added what the schema does not name.
    fn prune(&self, object: &mut dyn Object) {
        let object = self.own_mut(object);
        if self.is_own(&object.content) {
            prune::prune(&mut object.content, Some(self.schema.as_ref()));
        }
    }

    /// Prunes an object and gives its parts their types.
    fn read(&self, mut value: Value) -> Result<Instance, String> {
        if self.is_own(&value) {
            prune::prune(&mut value, Some(self.schema.as_ref()));
            default::drop_nulls(&mut value, &self.schema);
            embedded::coerce(&mut value, &self.schema).map_err(|error| error.to_string())?;
        }
        Instance::new(value)
    }
}

impl Strategy for CustomResource {
    fn info(&self) -> &ResourceInfo {
        &self.info
    }

    fn decode(&self, value: Value) -> Result<Box<dyn Object>, ApiError> {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match self.read(value) {
            Ok(object) => Ok(Box::new(object)),
            Err(why) => {
                let ResourceInfo { kind: own, version, .. } = &self.info;
                Err(ApiError::bad_request(format!(
                    "{kind} in version \"{version}\" cannot be handled as a {own}: {why}"
                )))
            }
        }
    }

    fn decode_stored(&self, bytes: &[u8]) -> Result<Box<dyn Object>, ApiError> {
        let unreadable =
            |why: String| ApiError::internal(format_args!("unable to decode a stored {}: {why}", self.info.kind));
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if self.conversion.is_none() {
            // It may have been stored in a version that was taken away since.
            value = Conversion::rename(value, &self.info.api_version());
        }
        let mut object = self.read(value).map_err(unreadable)?;
        self.set_defaults(&mut object);
        Ok(Box::new(object))
    }

    fn set_defaults(&self, object: &mut dyn Object) {
        let object = self.own_mut(object);
        if self.is_own(&object.content) {
            default::set_defaults(&mut object.content, &self.schema);
        }
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        self.prune(object);
        if self.has_status {
            self.own_mut(object).fields_mut().remove("status");
        }
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.prune(new);
        if self.has_status {
            let fields = self.own_mut(new).fields_mut();
            match self.own(old).content.get("status") {
                Some(status) => drop(fields.insert("status".to_owned(), status.clone())),
                None => drop(fields.remove("status")),
            }
        }
    }

    /// Only the status counts; owners of fields are those of this write.
    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let (new, old) = (self.own_mut(new), self.own(old));
        self.prune(new);
        let status = new.fields_mut().remove("status");
        let owners = new.meta.managed_fields.take();
        *new = old.clone();
        new.meta.managed_fields = owners;
        match status {
            Some(status) => drop(new.fields_mut().insert("status".to_owned(), status)),
            None => drop(new.fields_mut().remove("status")),
        }
    }

    fn validate(&self, object: &dyn Object) -> FieldErrors {
        self.errors(self.own(object), None, validate::Part::Whole)
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.errors(self.own(new), Some(self.own(old)), validate::Part::Whole)
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.errors(self.own(new), Some(self.own(old)), validate::Part::Status)
    }

    fn prepare_for_subresource_update(&self, _: Subresource, new: &mut dyn Object, old: &dyn Object) {
        self.prepare_for_update(new, old);
    }

    fn validate_subresource_update(&self, _: Subresource, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.validate_update(new, old)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        super::name_or_prefix(is_dns1123_subdomain, name, prefix)
    }

    fn ttl(&self) -> Option<Duration> {
        None
    }

    fn create_on_update(&self) -> bool {
        false
    }

    fn generation(&self) -> bool {
        true
    }

    fn served_as(&self) -> Option<&'static ServedAs> {
        None
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    fn orphans_by_default(&self) -> bool {
        false
    }

    fn delete_warning(&self) -> Option<&'static str> {
        None
    }

    fn returns_deleted(&self) -> bool {
        false
    }

    fn delete_collection(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        &self.printer.columns
    }

    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        self.printer.cells(self.own(object), now)
    }

    fn warnings(&self, new: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
        let known = old.and_then(|old| old.metadata().finalizers.clone()).unwrap_or_default();
        let added = new.metadata().finalizers.iter().flatten().filter(|name| !known.contains(name));
        let odd = added.filter(|name| !name.contains('/') && !metadata::is_standard_finalizer(name));
        let warning = |name: &String| {
            format!(
                "metadata.finalizers: {}: prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts \
                 with other finalizer writers",
                api::field::go_quote(name)
            )
        };
        odd.map(warning).collect()
    }

    fn tolerated(&self, new: &dyn Object, old: &dyn Object) -> Vec<String> {
        let found = self.rules.as_ref().map(|rules| rules.tolerated(&new.to_value(), &old.to_value()));
        found.iter().flat_map(|found| found.iter()).map(ToString::to_string).collect()
    }

    fn grace_period(&self, _: &dyn Object, _: Option<i64>) -> Option<i64> {
        None
    }

    fn begin_deletion(&self, _: &mut dyn Object, _: Timestamp) -> bool {
        false
    }

    fn holds_removal(&self, _: &dyn Object) -> bool {
        false
    }

    fn reset_fields(&self, subresource: Option<Subresource>) -> &'static [&'static str] {
        match subresource {
            Some(Subresource::Status) => &["metadata", "spec"],
            _ if self.has_status => &["status"],
            _ => &[],
        }
    }

    fn node(&self) -> Option<Node<'_>> {
        Some(Node::Custom(&self.ownership))
    }

    fn custom_schema(&self) -> Option<Arc<Value>> {
        Some(Arc::clone(&self.document))
    }

    fn unknown_fields(&self, value: &Value) -> Option<Vec<String>> {
        let mut found = value.get("metadata").map(embedded::unknown_metadata).unwrap_or_default();
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or_default();
        if text("kind") == self.info.kind && group == self.info.group {
            let schema = self.schemas.iter().find(|(name, _)| name == version);
            found.extend(prune::unknown_fields(value, schema.map(|(_, schema)| schema.as_ref())));
        }
        Some(found)
    }

    /// All but metadata; a status that is a subresource never differs here.
    fn same_desired(&self, new: &dyn Object, old: &dyn Object) -> bool {
        self.own(new).content == self.own(old).content
    }

    fn group_kind_of(&self, object: &dyn Object) -> GroupKind {
        GroupKind::new(&self.info.group, self.own(object).kind())
    }

    fn scale_paths(&self) -> Option<&ScalePaths> {
        self.scale.as_ref()
    }

    fn conversion(&self) -> Option<&Conversion> {
        self.conversion.as_deref()
    }

    /// The cache shows objects in the stored version where nobody has to be asked for that.
    fn converts_reads(&self) -> bool {
        match self.conversion.as_deref() {
            None => false,
            Some(Conversion::None) => self.info.version != self.info.stored_version,
            Some(Conversion::Webhook(_)) => true,
        }
    }

    fn refuses_creation(&self) -> Option<ApiError> {
        let mut error = ApiError::method_not_allowed();
        error.message = "create not allowed while custom resource definition is terminating".to_owned();
        error.details.get_or_insert_default().kind = Some(self.info.plural.clone());
        error.details.get_or_insert_default().group = Some(self.info.group.clone());
        self.terminating.then_some(error)
    }
}
