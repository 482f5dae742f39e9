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
mod edit;
pub mod eviction;
pub mod finalize;
pub mod managed_fields;
mod members;
pub(crate) mod metadata;
pub mod patch;
pub mod quota;
pub mod recent;
pub mod scale;
pub mod tracking;
mod update;

use std::sync::{Arc, Mutex};

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
use crate::object::{self, Object, encode};
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

    /// The 409 for a precondition that does not hold, in the words of upstream's store.
    pub fn not_met(&self, why: &str) -> ApiError {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {why}",
            self.info().key_upstream(self.namespace, self.name)
        );
        ApiError::conflict(&self.info().group_resource(), self.name, &why)
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

    /// Lets the mutating plugins change an object that is no object of the place's kind (a Scale, a Binding): no defaults of the
    /// kind. What it became is in `other` too.
    pub async fn mutate_other(
        &self,
        operation: Operation,
        object: &mut dyn Object,
        other: &mut Other,
    ) -> Result<(), ApiError> {
        let rounds = Rounds::default();
        let context = Context { place: self, other: Some(other), rounds: &rounds };
        let attributes = self.attributes(operation, self.name, None, context);
        self.mutate(&attributes, Some(&mut *object)).await?;
        if rounds.begin_second() {
            self.mutate(&attributes, Some(&mut *object)).await?;
        }
        other.object = object.to_value();
        Ok(())
    }

    /// The whole admission of such an object, where the resource's own is not looked at (a TokenRequest).
    pub async fn admit_other(
        &self,
        operation: Operation,
        object: &mut dyn Object,
        mut other: Other,
    ) -> Result<(), ApiError> {
        self.mutate_other(operation, object, &mut other).await?;
        let rounds = Rounds::default();
        let context = Context { place: self, other: Some(&other), rounds: &rounds };
        self.refuse(&self.attributes(operation, self.name, None, context), Some(&*object)).await
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

    /// The same for a request whose object is of another kind: `object` and `old` are the resource's own, `other` is what was sent,
    /// after [`Self::mutate_other`]; nobody can change the options of a connection.
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
        if other.is_some() && operation == Operation::Connect {
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

    /// What the cache holds under a key, where asking the store takes longer and the cache shows objects as they are stored.
    async fn cached(&self, key: &str) -> Option<Stored> {
        if !self.server.storage.is_remote() || self.info().custom {
            return None;
        }
        let entry = self.server.cache.resource(&self.info().key_prefix())?.get(key)?;
        let item = KeyValue { key: key.to_owned(), value: entry.stored().clone(), revision: entry.revision };
        self.stored(item).await.ok()
    }

    /// What is stored under a key now.
    async fn read(&self, key: &str) -> Result<Option<Stored>, ApiError> {
        let (found, _) = self.server.storage.get(key).await.map_err(storage_error)?;
        match found {
            Some(item) => self.stored(item).await.map(Some),
            None => Ok(None),
        }
    }

    /// The object that a stored text is.
    async fn stored(&self, item: KeyValue) -> Result<Stored, ApiError> {
        let recent = self.strategy.served_as().is_none().then(|| self.server.recent.get(&item.key, item.revision));
        if let Some(object) = recent.flatten() {
            return Ok(Stored { object, bytes: item.value, revision: item.revision });
        }
        let mut object = custom::from_store(self.strategy, &item.value).await?;
        object.metadata_mut().resource_version = Some(item.revision.to_string());
        Ok(Stored { object: object.into(), bytes: item.value, revision: item.revision })
    }
}

/// An object as it is in the store.
pub struct Stored {
    /// The object, with its resourceVersion.
    pub object: Arc<dyn Object>,
    /// The stored bytes, without it.
    pub bytes: Bytes,
    /// The revision of its last write.
    pub revision: Revision,
}

impl Stored {
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
    pub object: Arc<dyn Object>,
    /// Whether it exists now but did not before.
    pub created: bool,
    /// Whether it was removed.
    pub removed: bool,
    /// What is stored now, where that is what the object looks like.
    stored: Option<Bytes>,
}

impl Committed {
    /// The object as text, which follows from one part to the next.
    pub fn text(&self) -> [Bytes; 3] {
        let version = self.object.metadata().resource_version.as_deref().unwrap_or_default();
        let stored = self.stored.as_ref().and_then(|stored| object::with_version(stored, version));
        stored.unwrap_or_else(|| [self.object.to_bytes().into(), Bytes::new(), Bytes::new()])
    }
}

/// Makes a change true.
pub async fn commit(at: &Place<'_>, key: &str, change: &mut dyn Change) -> Result<Committed, ApiError> {
    let Some(cached) = at.cached(key).await else {
        let current = at.read(key).await?;
        return commit_on(at, key, current, change).await;
    };
    // What the cache holds is nearly always what is stored. Only a write that the store took is true then; whatever else came out
    // is decided again on what is stored, unless that is the same.
    match step(at, key, Some(&cached), change).await {
        Ok(Step::Done(committed)) if !at.dry_run => Ok(committed),
        Ok(Step::Raced(current)) => commit_on(at, key, current, change).await,
        outcome => {
            let current = at.read(key).await?;
            if current.as_ref().is_some_and(|current| current.revision == cached.revision) {
                return match outcome? {
                    Step::Done(committed) => Ok(committed),
                    Step::Same | Step::Raced(_) => unchanged(at, current),
                };
            }
            commit_on(at, key, current, change).await
        }
    }
}

/// As [`commit`], given what is stored, or was a moment ago.
pub async fn commit_on(
    at: &Place<'_>,
    key: &str,
    mut current: Option<Stored>,
    change: &mut dyn Change,
) -> Result<Committed, ApiError> {
    for _ in 0..MAX_ATTEMPTS {
        match step(at, key, current.as_ref(), change).await? {
            Step::Done(committed) => return Ok(committed),
            Step::Same => return unchanged(at, current),
            Step::Raced(now) => current = now,
        }
    }
    Err(ApiError::conflict(&at.info().group_resource(), at.name, api::error::MODIFIED))
}

/// How one attempt ended.
enum Step {
    /// It is true.
    Done(Committed),
    /// There is nothing to change.
    Same,
    /// Somebody else was faster, and this is there now.
    Raced(Option<Stored>),
}

fn unchanged(at: &Place<'_>, current: Option<Stored>) -> Result<Committed, ApiError> {
    match current {
        Some(stored) => Ok(Committed { object: stored.object, created: false, removed: false, stored: None }),
        None => Err(at.not_found()),
    }
}

async fn step(at: &Place<'_>, key: &str, current: Option<&Stored>, change: &mut dyn Change) -> Result<Step, ApiError> {
    let (mut object, write, exact) = match change.decide(current).await? {
        Decision::Unchanged => return Ok(Step::Same),
        Decision::Write(mut object) => {
            let (value, exact) = stored_form(at.strategy, object.as_mut()).await?;
            if current.is_some_and(|stored| stored.bytes == value) {
                return Ok(Step::Same);
            }
            (object, Write::Put { value, ttl: at.strategy.ttl() }, exact)
        }
        Decision::Remove(object) => (object, Write::Delete, false),
    };
    let (removed, text) = match &write {
        Write::Put { value, .. } => (false, Some(value.clone())),
        Write::Delete => (true, None),
    };
    if at.dry_run {
        return Ok(Step::Done(dry_run(object, current, removed)));
    }
    let expect = current.map_or(Expect::Absent, |stored| Expect::Revision(stored.revision));
    Ok(match at.server.storage.commit(key, expect, write).await.map_err(storage_error)? {
        Outcome::Committed(revision) => {
            at.server.written.note(&at.info().storage_prefix, revision);
            object.metadata_mut().resource_version = Some(revision.to_string());
            let object = Arc::from(object);
            // What was written twice is likely to be written a third time.
            if let (true, Some(text)) = (exact && current.is_some(), &text) {
                at.server.recent.note(key, revision, &object, text.len());
            }
            let stored = text.filter(|_| at.strategy.conversion().is_none());
            Step::Done(Committed { object, created: current.is_none(), removed, stored })
        }
        Outcome::Conflict(None) => Step::Raced(None),
        Outcome::Conflict(Some(item)) => Step::Raced(Some(at.stored(item).await?)),
    })
}

/// The text of an object, which loses its resourceVersion, and whether whoever reads the text gets the same object.
async fn stored_form(strategy: &dyn Strategy, object: &mut dyn Object) -> Result<(Bytes, bool), ApiError> {
    object.metadata_mut().resource_version = None;
    if strategy.conversion().is_some() {
        let value = custom::to_store(strategy, object.to_value()).await?;
        return Ok((Bytes::from(encode(&value)), false));
    }
    let encoded = object.encoded();
    Ok((Bytes::from(encoded.text), encoded.exact && strategy.served_as().is_none()))
}

/// What a write would have answered.
fn dry_run(mut object: Box<dyn Object>, current: Option<&Stored>, removed: bool) -> Committed {
    object.metadata_mut().resource_version = current.map(|stored| stored.revision.to_string());
    Committed { object: object.into(), created: current.is_none(), removed, stored: None }
}
