//! Replacing or patching an object. Entry point: [`update`].
//!
//! The patch is applied, admitted and validated again on whatever the object is when a competing write was faster; a PUT that
//! names a resourceVersion fails instead.

use api::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind};
use async_trait::async_trait;
use serde_json::Value;

use super::claims::Claim;
use super::metadata::MetadataCheck;
use super::patch::{Patch, PatchType, sparse};
use super::quota::{self, Charges};
use super::{Change, Committed, Decision, Place, Stored, Wanted, commit, create, deletion, metadata, tracking};
use crate::admission::Operation;
use crate::http::body::{self, decode_value};
use crate::object::Object;
use crate::resources::Subresource;

/// What the object becomes.
pub enum Replacement {
    /// This.
    Object(Box<dyn Object>),
    /// The current one with these changes.
    Patch(Patch),
    /// The current one, or a new one, with these fields of a manager.
    Apply(Wanted),
}

/// How an update ended.
pub type Updated = Committed;

/// Replaces or patches an object, or one of its subresources that has the object's own form.
pub async fn update(at: &Place<'_>, mut replacement: Replacement) -> Result<Updated, ApiError> {
    if let Replacement::Object(object) = &mut replacement {
        metadata::match_namespace(object.metadata_mut(), at.info(), at.namespace)?;
        metadata::match_name(object.metadata(), at.name)?;
    }
    let mut change = Update { at: *at, replacement, claim: Claim::none(), charges: Charges::default() };
    let committed = commit(at, &at.key(at.name), &mut change).await;
    let stored = committed.is_ok() && !at.dry_run;
    change.claim.settle(stored).await;
    change.charges.settle(stored).await;
    let committed = committed?;
    if committed.removed && !at.dry_run {
        at.server.services.release(at, committed.object.as_ref()).await;
    }
    Ok(committed)
}

struct Update<'a> {
    at: Place<'a>,
    replacement: Replacement,
    /// Addresses and ports that the last decision took.
    claim: Claim,
    /// What quotas were charged for it.
    charges: Charges<'a>,
}

#[async_trait]
impl Change for Update<'_> {
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError> {
        std::mem::take(&mut self.claim).settle(false).await;
        std::mem::take(&mut self.charges).settle(false).await;
        let Some(stored) = current else { return self.insert().await };
        let new = self.next(stored)?;
        let new = self.admitted(new, stored).await?;
        let new = self.prepared(new, stored).await?;
        if deletion::is_finished(self.at.strategy, new.as_ref(), stored.metadata()) {
            return Ok(Decision::Remove(new));
        }
        Ok(Decision::Write(new))
    }
}

impl Update<'_> {
    /// A PUT creates the object where the kind allows that, an apply always.
    async fn insert(&mut self) -> Result<Decision, ApiError> {
        let at = self.at;
        let mut object = match &self.replacement {
            _ if at.subresource.is_some() => return Err(at.not_found()),
            Replacement::Object(object) if at.strategy.create_on_update() => {
                if !object.metadata().uid.as_deref().unwrap_or_default().is_empty() {
                    return Err(uid_conflict(&at, &object.metadata().uid, ""));
                }
                let mut object = object.clone_object();
                tracking::track(&at, None, object.as_mut())?;
                object
            }
            Replacement::Apply(wanted) => {
                let mut object = tracking::applied(&at, None, wanted)?;
                if let Some(uid) = object.metadata().uid.as_deref().filter(|uid| !uid.is_empty()) {
                    return Err(unfound(&at, uid));
                }
                metadata::match_namespace(object.metadata_mut(), at.info(), at.namespace)?;
                metadata::match_name(object.metadata(), at.name)?;
                object
            }
            Replacement::Object(_) | Replacement::Patch(_) => return Err(at.not_found()),
        };
        at.admit(Operation::Create, Some(object.as_mut()), None).await?;
        metadata::single_owners(object.metadata_mut(), at.warnings, true);
        let (object, claim, charges) = create::prepare(&at, object).await?;
        (self.claim, self.charges) = (claim, charges);
        Ok(Decision::Write(object))
    }

    /// The object as the client wants it.
    fn next(&self, stored: &Stored) -> Result<Box<dyn Object>, ApiError> {
        let at = self.at;
        let mut new = match &self.replacement {
            Replacement::Object(object) => {
                let uid = &object.metadata().uid;
                if uid.as_deref().is_some_and(|uid| !uid.is_empty()) && *uid != stored.metadata().uid {
                    return Err(uid_conflict(&at, uid, stored.metadata().uid.as_deref().unwrap_or_default()));
                }
                let mut new = object.clone_object();
                metadata::single_owners(new.metadata_mut(), at.warnings, false);
                new
            }
            Replacement::Patch(patch) => match sparse::apply(patch, at.strategy, stored) {
                Some(patched) => patched,
                None => patched(&at, patch, stored)?,
            },
            Replacement::Apply(wanted) => tracking::applied(&at, Some(stored), wanted)?,
        };
        if !matches!(self.replacement, Replacement::Apply(_)) {
            tracking::track(&at, Some(stored), new.as_mut())?;
        }
        metadata::match_namespace(new.metadata_mut(), at.info(), at.namespace)?;
        metadata::match_name(new.metadata(), at.name)?;
        Ok(new)
    }

    async fn admitted(&self, mut new: Box<dyn Object>, stored: &Stored) -> Result<Box<dyn Object>, ApiError> {
        self.at.admit(Operation::Update, Some(new.as_mut()), Some(stored.object.as_ref())).await?;
        metadata::single_owners(new.metadata_mut(), self.at.warnings, true);
        self.check_version(new.as_ref(), stored)?;
        Ok(new)
    }

    /// The version that the client read must be the stored one, if it names one.
    fn check_version(&self, new: &dyn Object, stored: &Stored) -> Result<(), ApiError> {
        let at = &self.at;
        let text = new.metadata().resource_version.as_deref().unwrap_or_default();
        let given = match text {
            "" => 0,
            text => text.parse::<u64>().map_err(|_| {
                ApiError::unclassified(format!(
                    "strconv.ParseUint: parsing {}: invalid syntax",
                    api::field::go_quote(text)
                ))
            })?,
        };
        match given {
            0 if at.strategy.unconditional_update() => Ok(()),
            0 => {
                let path = FieldPath::root("metadata").child("resourceVersion");
                let error = FieldError::invalid(&path, 0, "must be specified for an update");
                // Upstream names the resource where it means the kind.
                let kind = GroupKind::new(&at.info().group, &at.info().plural);
                Err(ApiError::invalid(&kind, at.name, FieldErrors::from(error)))
            }
            version if version == stored.revision.0 => Ok(()),
            _ => Err(ApiError::conflict(&at.info().group_resource(), at.name, api::error::MODIFIED)),
        }
    }

    async fn prepared(&mut self, mut new: Box<dyn Object>, stored: &Stored) -> Result<Box<dyn Object>, ApiError> {
        let (at, old) = (self.at, stored.object.as_ref());
        metadata::carry_over(new.metadata_mut(), old.metadata());
        new.metadata_mut().resource_version.clone_from(&old.metadata().resource_version);
        let new = match at.subresource {
            Some(Subresource::Status) => {
                at.strategy.prepare_for_status_update(new.as_mut(), old);
                new
            }
            Some(Subresource::Finalize) => super::finalize::prepare(at.strategy, new, old)?,
            Some(subresource) => {
                at.strategy.prepare_for_subresource_update(subresource, new.as_mut(), old);
                new
            }
            None => {
                at.strategy.prepare_for_update(new.as_mut(), old);
                self.claim = at.server.services.claim(&at, new.as_mut(), Some(old)).await?;
                new
            }
        };
        let mut new = new;
        at.strategy.stamp(new.as_mut(), Some(old), &at.stamp());
        if at.strategy.generation()
            && at.subresource != Some(Subresource::Status)
            && !at.strategy.same_desired(new.as_ref(), old)
        {
            let generation = old.metadata().generation.unwrap_or(0);
            new.metadata_mut().generation = Some(generation + 1);
        }
        self.validate(new.as_ref(), old)?;
        at.check_admission(Operation::Update, Some(new.as_ref()), Some(old)).await?;
        self.charges = quota::charge(&at, Operation::Update, new.as_ref(), Some(old)).await?;
        Ok(new)
    }

    fn validate(&self, new: &dyn Object, old: &dyn Object) -> Result<(), ApiError> {
        let at = &self.at;
        let checks = match at.subresource {
            Some(Subresource::Status | Subresource::Finalize) => &[MetadataCheck::Change],
            Some(_) | None => at.strategy.metadata_on_update(),
        };
        let name_rule = |name: &str, prefix: bool| at.strategy.validate_name(name, prefix);
        let metas = (new.metadata(), old.metadata());
        let mut errors = metadata::validate_updated(metas, at.info(), checks, &name_rule);
        errors.extend(match at.subresource {
            Some(Subresource::Status) => at.strategy.validate_status_update(new, old),
            Some(Subresource::Finalize) | None => at.strategy.validate_update(new, old),
            Some(subresource) => at.strategy.validate_subresource_update(subresource, new, old),
        });
        if !errors.is_empty() {
            return Err(ApiError::invalid(&at.strategy.group_kind_of(new), at.name, errors));
        }
        at.warnings.extend(at.strategy.tolerated(new, old));
        match at.subresource {
            None => at.warnings.extend(at.strategy.warnings(new, Some(old))),
            Some(Subresource::Status) => at.warnings.extend(at.strategy.status_warnings(new)),
            Some(_) => {}
        }
        Ok(())
    }
}

/// The whole object with the changes of a patch.
fn patched(at: &Place<'_>, patch: &Patch, stored: &Stored) -> Result<Box<dyn Object>, ApiError> {
    let patched = patch.apply(at.strategy, served_form(*at, stored.object.as_ref()))?;
    at.warnings.extend(patched.warnings);
    if !at.info().custom {
        check_type(at, patch, &patched.value)?;
    }
    // The message shows the value, which is made once more for it: a copy would cost every patch that decodes.
    decode_value(at.strategy, patched.value).map_err(|error| {
        match patch.apply(at.strategy, served_form(*at, stored.object.as_ref())) {
            Ok(again) => patch.undecodable(at.strategy, &again.value, error),
            Err(error) => error,
        }
    })
}

/// The object as this place's version serves it.
fn served_form(at: Place<'_>, object: &dyn Object) -> Value {
    let value = object.to_value();
    match at.strategy.served_as() {
        Some(served) => (served.from_stored)(value),
        None => value,
    }
}

/// A patch can't change what kind the object has.
fn check_type(at: &Place<'_>, patch: &Patch, value: &Value) -> Result<(), ApiError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    let info = at.info();
    if kind == info.kind && api_version == info.api_version() {
        return Ok(());
    }
    // A strategic patch is carried out on the typed object, whose kind nothing can change.
    if patch.patch_type == PatchType::Strategic {
        return Ok(());
    }
    let why = body::conversion_problem(api_version, kind, &info.stored_api_version(), &info.kind);
    Err(patch.undecodable(at.strategy, value, ApiError::bad_request(format!(": {why}"))))
}

fn unfound(at: &Place<'_>, uid: &str) -> ApiError {
    let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
    ApiError::conflict(&at.info().group_resource(), at.name, &why)
}

fn uid_conflict(at: &Place<'_>, given: &Option<String>, found: &str) -> ApiError {
    let given = given.as_deref().unwrap_or_default();
    at.not_met(&format!("UID in precondition: {given}, UID in object meta: {found}"))
}
