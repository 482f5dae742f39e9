//! THE TABLE of kinds, and what the handlers may ask of a kind.
//!
//! A built-in kind is one file `resources/<kind>.rs` (a type that implements [`Kind`]) and one row in [`table`]. [`BuiltIn`] turns
//! a `Kind` into the object-safe [`Strategy`]; a CustomResourceDefinition builds the same thing at run time. Handlers cannot
//! tell the two apart and know no kind by name.

mod address_warnings;
pub mod admission_policy;
pub mod api_service;
mod built_in;
pub mod certificate_signing_request;
pub(crate) mod checks;
pub mod component_status;
mod config_map;
mod controller_revision;
mod cron_job;
mod csi;
pub mod custom;
pub mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod dynamic_resources;
mod endpoint_slice;
mod endpoints;
mod event;
mod flow_schema;
mod horizontal_pod_autoscaler;
mod ingress;
pub mod internal;
mod ip_address;
mod job;
mod lease;
mod limit_range;
pub mod match_conditions;
pub mod mutating_admission_policy;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod pod_spec;
mod pod_template;
mod printing;
pub mod priorities;
mod priority_class;
mod priority_level_configuration;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod reviews;
mod runtime_class;
pub mod schema;
mod secret;
mod served;
pub(crate) mod service;
mod service_account;
mod service_cidr;
mod stateful_set;
mod storage_class;
mod table;
mod validating_admission_policy;
mod volume_attributes_class;
mod volume_sources;
pub mod webhook_address;
pub mod webhook_configuration;
pub mod wire;
mod workload;

use std::borrow::Cow;

use api::error::ApiError;
use api::field::FieldErrors;
use api::names::GroupKind;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

pub use self::built_in::BuiltIn;
pub use self::custom_resource_definition as definition;
pub use self::served::{Resources, Served};
pub use self::table::table;
use crate::authn::User;
use crate::cache::SelectableField;
use crate::object::Object;
use crate::write::managed_fields::{Node, sparse};
use crate::write::metadata::MetadataCheck;

/// Upstream deletes some kinds with code of their own, which differs in what it says and looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletedBy {
    /// The code for all kinds.
    All,
    /// The kind's own, which has other words for preconditions that do not hold.
    Kind,
    /// The same; the first delete does not look at the propagation policy.
    KindAlone,
}

/// A subresource that a kind serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subresource {
    /// `/status`: the same object, written by its controller.
    Status,
    /// `/scale`: an autoscaling/v1 Scale view.
    Scale,
    /// `pods/binding`, written by schedulers.
    Binding,
    /// `pods/eviction`.
    Eviction,
    /// `pods/log`, a stream from the kubelet.
    Log,
    /// `pods/exec`, a stream from the kubelet.
    Exec,
    /// `pods/attach`, a stream from the kubelet.
    Attach,
    /// `pods/portforward`, a stream from the kubelet.
    PortForward,
    /// `/proxy` of nodes, pods and services.
    Proxy,
    /// `serviceaccounts/token`.
    Token,
    /// `namespaces/finalize`.
    Finalize,
    /// `pods/ephemeralcontainers`.
    EphemeralContainers,
    /// `pods/resize`: requests and limits of containers that run.
    Resize,
    /// `certificatesigningrequests/approval`.
    Approval,
}

/// What discovery and the router know of a resource.
#[derive(Clone, Debug)]
pub struct ResourceInfo {
    /// API group, empty for core.
    pub group: String,
    /// Group of the stored form, which validation errors name; differs from `group` for a second face of a kind.
    pub stored_group: String,
    /// Version, for example `v1`.
    pub version: String,
    /// Kind, for example `Pod`.
    pub kind: String,
    /// Name in URLs, for example `pods`.
    pub plural: String,
    /// For example `pod`.
    pub singular: String,
    /// False for cluster-scoped kinds.
    pub namespaced: bool,
    /// For example `po`.
    pub short_names: Vec<String>,
    /// For example `all`.
    pub categories: Vec<String>,
    /// In discovery order.
    pub subresources: Vec<Subresource>,
    /// False for kinds that are only created and never stored (reviews).
    pub stored: bool,
    /// Path below `/registry/` that holds the objects; kinds served in two groups share it (events).
    pub storage_prefix: String,
    /// Selectable fields besides `metadata.name` and `metadata.namespace`.
    pub fields: Vec<SelectableField>,
    /// The kind of lists, for example `PodList`.
    pub list_kind: String,
    /// The version in which objects are stored, or in which upstream's discovery says they are.
    pub stored_version: String,
    /// Defined at run time by a CustomResourceDefinition.
    pub custom: bool,
}

/// One column of a Table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading, for example `Age`.
    pub name: Cow<'static, str>,
    /// OpenAPI type: string, integer, number, boolean, date.
    pub kind: Cow<'static, str>,
    /// `name` for the Name column, else empty.
    pub format: Cow<'static, str>,
    /// Shown by clients that ask for it.
    pub description: Cow<'static, str>,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// How a kind prints as a Table.
pub struct Columns<T> {
    /// Headings.
    pub columns: Vec<Column>,
    /// The cells of one object, one for each column.
    pub cells: fn(&T, now: Timestamp) -> Vec<Value>,
}

/// A second face of a stored kind: the same objects in another group or version. In memory and in the store the object always
/// has the stored type; the two functions translate whole JSON objects at the edge (request bodies, patches, answers).
pub struct ServedAs {
    /// Group that is served.
    pub group: &'static str,
    /// Version that is served.
    pub version: &'static str,
    /// Kind that is served.
    pub kind: &'static str,
    /// From the stored form to the served one.
    pub from_stored: fn(Value) -> Value,
    /// From the served form to the stored one.
    pub to_stored: fn(Value) -> Value,
}

/// When something is written, and by whom.
pub struct Stamp<'a> {
    /// The time of the write.
    pub now: Timestamp,
    /// Who writes.
    pub user: &'a User,
}

/// What is ours to say about a built-in kind; group, version, kind, plural and scope come from `k8s_openapi::Resource`.
pub trait Kind: Send + Sync + 'static {
    /// The k8s-openapi type.
    type Object: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + JsonSchema
        + Clone
        + Send
        + Sync;
    /// See [`ResourceInfo::singular`]; the lower-cased kind unless said otherwise.
    const SHORT_NAMES: &'static [&'static str] = &[];
    /// See [`ResourceInfo::categories`].
    const CATEGORIES: &'static [&'static str] = &[];
    /// See [`ResourceInfo::singular`]; empty is the lower-cased kind.
    const SINGULAR: &'static str = "";
    /// False for kinds that are only created and answered, never stored (reviews).
    const STORED: bool = true;
    /// Objects that are made when they are read: nothing is stored, and nothing created.
    const COMPUTED: bool = false;
    /// See [`ResourceInfo::storage_prefix`]; empty is the usual one of group and plural.
    const STORAGE_PREFIX: &'static str = "";
    /// See [`ResourceInfo::stored_version`]; empty is the version of the type.
    const STORED_VERSION: &'static str = "";
    /// Where the row serves another group or version than the one its objects are stored in.
    const SERVED_AS: Option<&'static ServedAs> = None;
    /// Every answer carries this warning.
    const DEPRECATION: Option<&'static str> = None;
    /// A delete without a propagation policy orphans the dependents (upstream's oldest controllers).
    const ORPHANS_BY_DEFAULT: bool = false;
    /// Upstream's warning on a delete without a propagation policy.
    const DELETE_WARNING: Option<&'static str> = None;
    /// Whose code upstream deletes objects with.
    const DELETED_BY: DeletedBy = DeletedBy::All;
    /// A delete that removes the object answers the object instead of a Status.
    const RETURNS_DELETED: bool = false;
    /// Whether the collection can be deleted.
    const DELETE_COLLECTION: bool = true;
    /// Whether PUT works without a resourceVersion.
    const UNCONDITIONAL_UPDATE: bool = true;
    /// What upstream's own check of an update of this kind looks at in the metadata, in its order.
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change];
    /// See [`ResourceInfo::subresources`].
    const SUBRESOURCES: &'static [Subresource] = &[];
    /// See [`ResourceInfo::fields`].
    const FIELDS: &'static [(&'static str, &'static [&'static str])] = &[];
    /// How long an object lives after its last write, if it expires by itself (Events: one hour).
    const TTL: Option<std::time::Duration> = None;
    /// PUT to a name that does not exist creates the object (upstream's AllowCreateOnUpdate: leases, events, rbac … ; see upstream).
    const CREATE_ON_UPDATE: bool = false;
    /// True where spec changes count in `metadata.generation`.
    const GENERATION: bool = false;

    /// What is said of a field that is not selectable, where some fields are.
    fn unknown_field(field: &str) -> String {
        format!("field label not supported: {field}")
    }
    /// The template of the pods that the object makes, if it makes any.
    fn template(_: &mut Self::Object) -> Option<&mut PodTemplateSpec> {
        None
    }
    /// Fills in what upstream's defaulting fills in. Runs at every decode, before admission and after each mutation.
    fn set_defaults(_: &mut Self::Object) {}
    /// Clears what clients may not set (status) and sets what the server sets. Runs after metadata.
    fn prepare_for_create(_: &mut Self::Object) {}
    /// Main-resource update: keeps the old status.
    fn prepare_for_update(_new: &mut Self::Object, _old: &Self::Object) {}
    /// `/status` update: everything but status and metadata comes from `old`.
    fn prepare_for_status_update(_new: &mut Self::Object, _old: &Self::Object) {}
    /// All errors of the object, metadata excluded (`names::validate_object_meta` is the write path's).
    fn validate(_: &Self::Object) -> FieldErrors;
    /// All errors of the change; immutable fields too.
    fn validate_update(new: &Self::Object, _old: &Self::Object) -> FieldErrors {
        Self::validate(new)
    }
    /// All errors of a `/status` write.
    fn validate_status_update(_new: &Self::Object, _old: &Self::Object) -> FieldErrors {
        FieldErrors::default()
    }
    /// Fills in what depends on the request, after what prepares a write to the object or its subresources; a new object has no old one.
    fn stamp(_new: &mut Self::Object, _old: Option<&Self::Object>, _by: &Stamp<'_>) {}
    /// A write to another subresource that has the object's own form: what of it counts.
    fn prepare_for_subresource_update(_: Subresource, new: &mut Self::Object, old: &Self::Object) {
        Self::prepare_for_update(new, old);
    }
    /// All errors of such a write.
    fn validate_subresource_update(_: Subresource, new: &Self::Object, old: &Self::Object) -> FieldErrors {
        Self::validate_update(new, old)
    }
    /// Errors of `metadata.name`; the default is a DNS-1123 subdomain. `prefix` is true for generateName.
    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(api::names::is_dns1123_subdomain, name, prefix)
    }
    /// Columns of the Table format; none means that the kind has no Table (406).
    fn columns() -> Columns<Self::Object>;
    /// Rows of a Table are in ascending order of this, then of their names.
    fn table_rank(_: &Self::Object) -> i64 {
        0
    }
    /// Why and in what words a row of a Table shows something that has come to its end: a reason and a message.
    fn completion(_: &Self::Object) -> Option<(&'static str, &'static str)> {
        None
    }
    /// Warnings for a create or update (`Warning: 299`), as upstream words them.
    fn warnings(_new: &Self::Object, _old: Option<&Self::Object>) -> Vec<String> {
        Vec::new()
    }
    /// Adds what reading the new object back would: defaults that follow from what its creation set.
    fn read_back(_object: &mut Self::Object) {}
    /// Warnings for a write to `/status`.
    fn status_warnings(_new: &Self::Object) -> Vec<String> {
        Vec::new()
    }
    /// Why an object of this name can't be deleted by itself, if it can't.
    fn refuses_deletion(_name: &str) -> Option<&'static str> {
        None
    }
    /// Seconds that a deleted object has to end by itself, given the client's wish; none where objects go at once.
    fn grace_period(_: &Self::Object, _requested: Option<i64>) -> Option<i64> {
        None
    }
    /// Marks an object whose first delete only begins its end (a namespace becomes Terminating); false where there is no such thing.
    fn begin_deletion(_: &mut Self::Object, _now: Timestamp) -> bool {
        false
    }
    /// Whether something of the kind's own keeps a deleted object (the finalizers in the spec of a namespace).
    fn holds_removal(_: &Self::Object) -> bool {
        false
    }
    /// Paths of the only fields that a write can change, `*` standing for any item; none if it is all but the reset ones.
    fn kept_fields(_subresource: Option<Subresource>) -> &'static [&'static str] {
        &[]
    }
    /// Paths of fields that a write can't change, so that nobody comes to own them by it.
    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        match subresource {
            Some(Subresource::Status) => &["spec"],
            _ if Self::SUBRESOURCES.contains(&Subresource::Status) => &["status"],
            _ => &[],
        }
    }
}

/// Applies a name rule to a name, or to a generateName, which may end with a dash that the generated suffix will follow.
pub fn name_or_prefix(rule: fn(&str) -> Vec<String>, name: &str, prefix: bool) -> Vec<String> {
    match name.strip_suffix('-') {
        Some(stem) if prefix && !stem.is_empty() => rule(&format!("{stem}a")),
        Some(_) | None => rule(name),
    }
}

/// The object-safe face of a kind: all that handlers, write path, cache and discovery know of it.
pub trait Strategy: Send + Sync + 'static {
    /// Names, scope, subresources.
    fn info(&self) -> &ResourceInfo;
    /// Decodes, without defaults; the error is upstream's 400 for a malformed object. Unknown fields are dropped here, and
    /// reported by the codec by comparing what went in with what came out.
    fn decode(&self, value: Value) -> Result<Box<dyn Object>, ApiError>;
    /// Decodes stored bytes.
    fn decode_stored(&self, bytes: &[u8]) -> Result<Box<dyn Object>, ApiError>;
    /// See [`Kind::set_defaults`].
    fn set_defaults(&self, object: &mut dyn Object);
    /// See [`Kind::prepare_for_create`].
    fn prepare_for_create(&self, object: &mut dyn Object);
    /// See [`Kind::prepare_for_update`].
    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object);
    /// See [`Kind::prepare_for_status_update`].
    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object);
    /// See [`Kind::validate`].
    fn validate(&self, object: &dyn Object) -> FieldErrors;
    /// See [`Kind::validate_update`].
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    /// See [`Kind::validate_status_update`].
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    /// See [`Kind::prepare_for_subresource_update`].
    fn prepare_for_subresource_update(&self, subresource: Subresource, new: &mut dyn Object, old: &dyn Object);
    /// See [`Kind::stamp`].
    fn stamp(&self, _new: &mut dyn Object, _old: Option<&dyn Object>, _by: &Stamp<'_>) {}
    /// See [`Kind::validate_subresource_update`].
    fn validate_subresource_update(&self, subresource: Subresource, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    /// See [`Kind::validate_name`].
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String>;
    /// See [`Kind::TTL`].
    fn ttl(&self) -> Option<std::time::Duration>;
    /// See [`Kind::CREATE_ON_UPDATE`].
    fn create_on_update(&self) -> bool;
    /// See [`Kind::GENERATION`].
    fn generation(&self) -> bool;
    /// See [`Kind::SERVED_AS`].
    fn served_as(&self) -> Option<&'static ServedAs>;
    /// See [`Kind::COMPUTED`].
    fn computed(&self) -> bool {
        false
    }
    /// See [`Kind::DEPRECATION`].
    fn deprecation(&self) -> Option<&str>;
    /// See [`Kind::ORPHANS_BY_DEFAULT`].
    fn orphans_by_default(&self) -> bool;
    /// See [`Kind::DELETE_WARNING`].
    fn delete_warning(&self) -> Option<&'static str>;
    /// See [`Kind::DELETED_BY`].
    fn deleted_by(&self) -> DeletedBy {
        DeletedBy::All
    }
    /// See [`Kind::RETURNS_DELETED`].
    fn returns_deleted(&self) -> bool;
    /// See [`Kind::DELETE_COLLECTION`].
    fn delete_collection(&self) -> bool;
    /// See [`Kind::UNCONDITIONAL_UPDATE`].
    fn unconditional_update(&self) -> bool;
    /// See [`Kind::METADATA_ON_UPDATE`].
    fn metadata_on_update(&self) -> &'static [MetadataCheck] {
        &[MetadataCheck::Change]
    }
    /// Headings of the Table format.
    fn columns(&self) -> &[Column];
    /// Cells of one stored object.
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value>;
    /// See [`Kind::table_rank`].
    fn table_rank(&self, _object: &dyn Object) -> i64 {
        0
    }
    /// See [`Kind::completion`].
    fn completion(&self, _object: &dyn Object) -> Option<(&'static str, &'static str)> {
        None
    }
    /// See [`Kind::warnings`].
    fn warnings(&self, new: &dyn Object, old: Option<&dyn Object>) -> Vec<String>;
    /// See [`Kind::read_back`].
    fn read_back(&self, _object: &mut dyn Object) {}
    /// See [`Kind::status_warnings`].
    fn status_warnings(&self, _new: &dyn Object) -> Vec<String> {
        Vec::new()
    }
    /// What an update may leave wrong, because it was so before; clients are warned of it.
    fn tolerated(&self, _new: &dyn Object, _old: &dyn Object) -> Vec<String> {
        Vec::new()
    }
    /// See [`Kind::unknown_field`].
    fn unknown_field(&self, field: &str) -> String {
        format!("field label not supported: {field}")
    }
    /// See [`Kind::refuses_deletion`].
    fn refuses_deletion(&self, _name: &str) -> Option<&'static str> {
        None
    }
    /// See [`Kind::grace_period`].
    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64>;
    /// See [`Kind::begin_deletion`].
    fn begin_deletion(&self, object: &mut dyn Object, now: Timestamp) -> bool;
    /// See [`Kind::holds_removal`].
    fn holds_removal(&self, object: &dyn Object) -> bool;
    /// See [`Kind::kept_fields`].
    fn kept_fields(&self, _subresource: Option<Subresource>) -> &'static [&'static str] {
        &[]
    }
    /// See [`Kind::reset_fields`].
    fn reset_fields(&self, subresource: Option<Subresource>) -> &'static [&'static str];
    /// The type of the objects for field ownership and apply. A kind that was defined at run time keeps a
    /// [`Custom`](crate::write::managed_fields::Custom) for it.
    fn node(&self) -> Option<Node<'_>> {
        schema::of(&self.info().api_version(), &self.info().kind).map(Node::Type)
    }
    /// Adds the type of a built-in kind to those that k8s-openapi shall describe.
    fn describe(&self, _generator: &mut SchemaGenerator) {}
    /// The OpenAPI schema of a kind that was defined at run time; built-in kinds are described by [`schema`].
    fn custom_schema(&self) -> Option<std::sync::Arc<Value>> {
        None
    }
    /// Fields of a body that a kind defined at run time does not have; none for built-in kinds, which [`schema`] describes.
    fn unknown_fields(&self, _value: &Value) -> Option<Vec<String>> {
        None
    }
    /// Whether nothing differs that counts for `metadata.generation`: for built-in kinds everything but metadata and status.
    fn same_desired(&self, new: &dyn Object, old: &dyn Object) -> bool {
        let mut same = false;
        old.inspect(&mut |old| new.inspect(&mut |new| same = sparse::same_desired(old, new)));
        same
    }
    /// As errors name the kind of an object.
    fn group_kind_of(&self, _object: &dyn Object) -> GroupKind {
        self.info().group_kind()
    }
    /// Where the kind keeps its replicas, if it is not where built-in kinds do.
    fn scale_paths(&self) -> Option<&custom::ScalePaths> {
        None
    }
    /// How stored objects, which may be of other versions, become objects of this one; none where all are.
    fn conversion(&self) -> Option<&custom::Conversion> {
        None
    }
    /// Whether that has to be done for objects of the cache, too, which shows most as they are now.
    fn converts_reads(&self) -> bool {
        self.conversion().is_some()
    }
    /// Why no new objects may be created.
    fn refuses_creation(&self) -> Option<ApiError> {
        None
    }
}
