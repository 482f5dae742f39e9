//! Creating an object: admission, what the server fills in, validation, and a name that nobody has.

use api::ApiError;
use async_trait::async_trait;

use super::claims::Claim;
use super::quota::{self, Charges};
use super::{Change, Committed, Decision, Place, Stored, commit, commit_on, metadata, tracking};
use crate::admission::Operation;
use crate::object::Object;

/// How often a generated name is generated anew because it is taken.
const NAME_ATTEMPTS: usize = 8;

/// Creates an object that was decoded and has its defaults.
pub async fn create(at: &Place<'_>, mut object: Box<dyn Object>) -> Result<Committed, ApiError> {
    metadata::match_namespace(object.metadata_mut(), at.info(), at.namespace)?;
    metadata::wipe(object.metadata_mut());
    metadata::single_owners(object.metadata_mut(), at.warnings, false);
    tracking::track(at, None, object.as_mut())?;
    at.admit(Operation::Create, Some(object.as_mut()), None).await?;
    metadata::single_owners(object.metadata_mut(), at.warnings, true);
    let generated = object.metadata().name.as_deref().unwrap_or_default().is_empty();
    if !generated {
        return create_named(at, object).await;
    }
    for attempt in 1..=NAME_ATTEMPTS {
        match create_named(at, object.clone_object()).await {
            Err(error) if error.is_already_exists() && attempt < NAME_ATTEMPTS => {}
            Err(error) if error.is_already_exists() => return Err(no_name(error)),
            other => return other,
        }
    }
    Err(ApiError::internal("no name was tried"))
}

async fn create_named(at: &Place<'_>, object: Box<dyn Object>) -> Result<Committed, ApiError> {
    let (object, claim, charges) = prepare(at, object).await?;
    let name = object.metadata().name.clone().unwrap_or_default();
    let (key, mut insert) = (at.key(&name), Insert { at: *at, object: Some(object) });
    let committed = match at.dry_run {
        true => commit(at, &key, &mut insert).await,
        // The store knows whether the name is taken.
        false => commit_on(at, &key, None, &mut insert).await,
    };
    let stored = committed.is_ok() && !at.dry_run;
    claim.settle(stored).await;
    charges.settle(stored).await;
    committed
}

/// Everything between admission and the store, for creations by POST, PUT and apply alike.
pub(super) async fn prepare<'a>(
    at: &Place<'a>,
    mut object: Box<dyn Object>,
) -> Result<(Box<dyn Object>, Claim, Charges<'a>), ApiError> {
    let strategy = at.strategy;
    metadata::begin(object.metadata_mut(), &at.server.clock, &at.server.rng);
    strategy.prepare_for_create(object.as_mut());
    strategy.stamp(object.as_mut(), None, &at.stamp());
    if strategy.generation() {
        object.metadata_mut().generation = Some(1);
    }
    let claim = at.server.services.claim(at, object.as_mut(), None).await?;
    match check(at, object.as_ref()).await {
        Ok(charges) => {
            strategy.read_back(object.as_mut());
            Ok((object, claim, charges))
        }
        Err(error) => {
            claim.settle(false).await;
            Err(error)
        }
    }
}

async fn check<'a>(at: &Place<'a>, object: &dyn Object) -> Result<Charges<'a>, ApiError> {
    let mut errors =
        metadata::validate(object.metadata(), at.info(), &|name, prefix| at.strategy.validate_name(name, prefix));
    errors.extend(at.strategy.validate(object));
    if !errors.is_empty() {
        let name = object.metadata().name.as_deref().unwrap_or_default();
        return Err(ApiError::invalid(&at.strategy.group_kind_of(object), name, errors));
    }
    at.warnings.extend(at.strategy.warnings(object, None));
    at.check_admission(Operation::Create, Some(object), None).await?;
    if !object.metadata().resource_version.as_deref().unwrap_or_default().is_empty() {
        return Err(ApiError::unclassified("resourceVersion should not be set on objects to be created"));
    }
    quota::charge(at, Operation::Create, object, None).await
}

fn no_name(mut error: ApiError) -> ApiError {
    error.message.push_str(", the server was not able to generate a unique name for the object");
    error
}

struct Insert<'a> {
    at: Place<'a>,
    object: Option<Box<dyn Object>>,
}

#[async_trait]
impl Change for Insert<'_> {
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError> {
        if let Some(stored) = current {
            let resource = self.at.info().group_resource();
            let name = stored.metadata().name.as_deref().unwrap_or_default();
            return Err(metadata::name_taken(&resource, name, stored.metadata().deletion_timestamp.is_some()));
        }
        // Asked again, it finds what was faster: the object is needed once.
        Ok(self.object.take().map_or(Decision::Unchanged, Decision::Write))
    }
}
