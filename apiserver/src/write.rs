//! THE write path: the only place that changes the store. Entry points: [`create`], [`update`], [`delete`], [`delete_collection`]
//! and the subresources' [`scale`], [`binding`], [`finalize`].
//!
//! Each write is a [`Change`]: given what is stored now it decides what shall be stored, and [`commit`] makes that true by
//! compare-and-swap, asking again on every conflict. Invariant: what is stored has passed defaults, admission and validation;
//! a write that changes nothing keeps the resourceVersion.

pub mod apply;
pub mod binding;
pub mod claims;
mod create;
mod delete;
pub mod deletion;
pub mod eviction;
pub mod finalize;
pub mod managed_fields;
pub(crate) mod metadata;
pub mod patch;
pub mod quota;
pub mod scale;
pub mod tracking;
mod update;

use std::sync::Mutex;

use api::ApiError;
use api::names::Revision;
use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::ApiServer;
use crate::admission::{self, Attributes, Context, Operation, Other, Rounds};
use crate::audit::Annotations;
use crate::authn::User;
use crate::http::options::Options;
use crate::object::{Object, encode};
use crate::read::storage_error;
use crate::resources::{ResourceInfo, Stamp, Strategy, Subresource, custom};
use crate::storage::{Expect, KeyValue, Outcome, Write};

pub use create::create;
pub use delete::{Deleted, delete, delete_collection};
pub use tracking::Wanted;
pub use update::{Replacement, Updated, update};

/// A write that loses this many races in a row gives up.
const MAX_ATTEMPTS: usize = 100;

/// Warnings of one request, in order and each once.
#[derive(Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds a warning.
    pub fn add(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut list = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !list.contains(&warning) {
            list.push(warning);
        }
    }

    /// Adds several.
    pub fn extend(&self, warnings: impl IntoIterator<Item = String>) {
        warnings.into_iter().for_each(|warning| self.add(warning));
    }

    /// All of them.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Where and for whom a write happens.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The server.
    pub server: &'a ApiServer,
    /// The kind.
    pub strategy: &'a dyn Strategy,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The name in the URL; empty for a create.
    pub name: &'a str,
    /// The subresource that is written.
    pub subresource: Option<Subresource>,
    /// Who asks.
    pub user: &'a User,
    /// Who owns the fields that are written: the field manager; deletes have none.
    pub manager: &'a str,
    /// Do everything but store.
    pub dry_run: bool,
    /// What the client is told besides the answer.
    pub warnings: &'a Warnings,
    /// What the audit log is told.
    pub annotations: &'a Annotations,
    /// The options of the request.
    pub options: Options<'a>,
}

impl<'a> Place<'a> {
    /// Names and scope of the kind.
    pub fn info(&self) -> &'a ResourceInfo {
        self.strategy.info()
    }

    /// The key of an object of this place.
    pub fn key(&self, name: &str) -> String {
        self.info().key(self.namespace, name)
    }

    /// The 404 for this place's name.
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.info().group_resource(), self.name)
    }

    /// When this is written, and by whom.
    fn stamp(&self) -> Stamp<'a> {
        Stamp { now: self.server.clock.now_seconds(), user: self.user }
    }

    /// The same place with another name.
    pub fn named<'b>(&self, name: &'b str) -> Place<'b>
    where
        'a: 'b,
    {
        Place { name, ..*self }
    }

    fn attributes<'b>(
        &'b self,
        operation: Operation,
        name: &'b str,
        old: Option<&'b dyn Object>,
        context: Context<'b>,
    ) -> Attributes<'b> {
        Attributes {
            operation,
            resource: self.info(),
            subresource: self.subresource,
            namespace: self.namespace,
            name,
            user: self.user,
            old,
            dry_run: self.dry_run,
            context: Some(context),
        }
    }

    /// Lets the mutating plugins change the object; defaults are applied again.
    pub async fn admit(
        &self,
        operation: Operation,
        object: Option<&mut dyn Object>,
        old: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let rounds = Rounds::default();
        let name = self.name_of(object.as_deref());
        let attributes = self.attributes(operation, &name, old, Context { place: self, other: None, rounds: &rounds });
        let Some(object) = object else { return self.mutate(&attributes, None).await };
        self.mutate(&attributes, Some(&mut *object)).await?;
        self.strategy.set_defaults(object);
        if rounds.begin_second() {
            self.mutate(&attributes, Some(&mut *object)).await?;
            self.strategy.set_defaults(object);
        }
        Ok(())
    }

    /// Admission of an object that is no object of the place's kind (a TokenRequest): no defaults of the kind.
    pub async fn admit_other(
        &self,
        operation: Operation,
        object: &mut dyn Object,
        other: &Other,
    ) -> Result<(), ApiError> {
        let rounds = Rounds::default();
        let context = Context { place: self, other: Some(other), rounds: &rounds };
        let attributes = self.attributes(operation, self.name, None, context);
        self.mutate(&attributes, Some(&mut *object)).await?;
        self.refuse(&attributes, Some(&*object)).await
    }

    /// Lets the validating plugins refuse.
    pub async fn check_admission(
        &self,
        operation: Operation,
        object: Option<&dyn Object>,
        old: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        self.check_admission_of(operation, object, old, None).await
    }

    /// The same for a request whose object is of another kind, which nobody may change: `object` and `old` are the resource's
    /// own, `other` is what was sent.
    pub async fn check_admission_of(
        &self,
        operation: Operation,
        object: Option<&dyn Object>,
        old: Option<&dyn Object>,
        other: Option<&Other>,
    ) -> Result<(), ApiError> {
        let rounds = Rounds::default();
        let name = self.name_of(object);
        let attributes = self.attributes(operation, &name, old, Context { place: self, other, rounds: &rounds });
        if other.is_some() {
            self.mutate(&attributes, None).await?;
        }
        self.refuse(&attributes, object).await
    }

    /// The name of the request, or of the object that it creates.
    fn name_of(&self, object: Option<&dyn Object>) -> String {
        match object {
            Some(object) if self.name.is_empty() => object.metadata().name.clone().unwrap_or_default(),
            _ => self.name.to_owned(),
        }
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: Option<&mut dyn Object>) -> Result<(), ApiError> {
        admission::mutate(&self.server.admission, attributes, object, self.server.lookup.as_ref()).await
    }

    async fn refuse(&self, attributes: &Attributes<'_>, object: Option<&dyn Object>) -> Result<(), ApiError> {
        admission::validate(&self.server.admission, attributes, object, self.server.lookup.as_ref()).await
    }

    /// What is stored under a key now.
    async fn read(&self, key: &str) -> Result<Option<Stored>, ApiError> {
        let (found, _) = self.server.storage.get(key).await.map_err(storage_error)?;
        match found {
            Some(item) => Stored::decode(self.strategy, item).await.map(Some),
            None => Ok(None),
        }
    }
}

/// An object as it is in the store.
pub struct Stored {
    /// The object, with its resourceVersion.
    pub object: Box<dyn Object>,
    /// The stored bytes, without it.
    pub bytes: Bytes,
    /// The revision of its last write.
    pub revision: Revision,
}

impl Stored {
    async fn decode(strategy: &dyn Strategy, item: KeyValue) -> Result<Self, ApiError> {
        let mut object = custom::from_store(strategy, &item.value).await?;
        object.metadata_mut().resource_version = Some(item.revision.to_string());
        Ok(Self { object, bytes: item.value, revision: item.revision })
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        self.object.metadata()
    }
}

/// What a change makes of the stored object.
pub enum Decision {
    /// Store this.
    Write(Box<dyn Object>),
    /// Remove the object; this was its last state.
    Remove(Box<dyn Object>),
    /// Leave everything as it is.
    Unchanged,
}

/// A write as a function of what is stored: asked again when somebody else was faster.
#[async_trait]
pub trait Change: Send {
    /// Decides; none is an object that does not exist.
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError>;
}

/// How a commit ended.
pub struct Committed {
    /// The object as it is now, or was when it was removed; with resourceVersion unless this was a dry run of a create.
    pub object: Box<dyn Object>,
    /// Whether it exists now but did not before.
    pub created: bool,
    /// Whether it was removed.
    pub removed: bool,
}

/// Makes a change true.
pub async fn commit(at: &Place<'_>, key: &str, change: &mut dyn Change) -> Result<Committed, ApiError> {
    let mut current = at.read(key).await?;
    for _ in 0..MAX_ATTEMPTS {
        let (object, write) = match change.decide(current.as_ref()).await? {
            Decision::Unchanged => match current {
                Some(stored) => return Ok(Committed { object: stored.object, created: false, removed: false }),
                None => return Err(at.not_found()),
            },
            Decision::Write(object) => {
                let value = stored_form(at.strategy, object).await?;
                if current.as_ref().is_some_and(|stored| stored.bytes == value.1) {
                    let object = current.map_or(value.0, |stored| stored.object);
                    return Ok(Committed { object, created: false, removed: false });
                }
                (value.0, Write::Put { value: value.1, ttl: at.strategy.ttl() })
            }
            Decision::Remove(object) => (object, Write::Delete),
        };
        let removed = matches!(write, Write::Delete);
        let expect = current.as_ref().map_or(Expect::Absent, |stored| Expect::Revision(stored.revision));
        let created = current.is_none();
        if at.dry_run {
            return Ok(dry_run(object, current.as_ref(), removed));
        }
        match at.server.storage.commit(key, expect, write).await.map_err(storage_error)? {
            Outcome::Committed(revision) => {
                at.server.written.note(&at.info().storage_prefix, revision);
                let mut object = object;
                object.metadata_mut().resource_version = Some(revision.to_string());
                return Ok(Committed { object, created, removed });
            }
            Outcome::Conflict(None) => current = None,
            Outcome::Conflict(Some(item)) => current = Some(Stored::decode(at.strategy, item).await?),
        }
    }
    Err(ApiError::conflict(&at.info().group_resource(), at.name, api::error::MODIFIED))
}

/// The object without resourceVersion, and its bytes.
async fn stored_form(
    strategy: &dyn Strategy,
    mut object: Box<dyn Object>,
) -> Result<(Box<dyn Object>, Bytes), ApiError> {
    object.metadata_mut().resource_version = None;
    if strategy.conversion().is_some() {
        let value = custom::to_store(strategy, object.to_value()).await?;
        return Ok((object, Bytes::from(encode(&value))));
    }
    let bytes = Bytes::from(object.to_bytes());
    Ok((object, bytes))
}

/// What a write would have answered.
fn dry_run(mut object: Box<dyn Object>, current: Option<&Stored>, removed: bool) -> Committed {
    object.metadata_mut().resource_version = current.map(|stored| stored.revision.to_string());
    Committed { object, created: current.is_none(), removed }
}
