//! A write that changes what is stored under a key, and never makes it. Entry point: [`edit`].

use std::any::Any;

use api::ApiError;
use async_trait::async_trait;

use super::{Change, Committed, Decision, Place, Stored, commit};
use crate::object::{self, Object};

/// Lets `change` alter a copy of the stored object, and stores that; asked again when somebody else was faster.
pub async fn edit(
    at: &Place<'_>,
    key: &str,
    change: impl FnMut(&Stored, &mut dyn Object) -> Result<(), ApiError> + Send,
) -> Result<Committed, ApiError> {
    commit(at, key, &mut Edit { at: *at, change }).await
}

/// The object as the type that it has.
pub fn own<T: Any>(object: &mut dyn Object) -> Result<&mut T, ApiError> {
    object::downcast_mut(object).ok_or_else(|| ApiError::internal("the object is of another kind"))
}

struct Edit<'a, F> {
    at: Place<'a>,
    change: F,
}

#[async_trait]
impl<F> Change for Edit<'_, F>
where
    F: FnMut(&Stored, &mut dyn Object) -> Result<(), ApiError> + Send,
{
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError> {
        let stored = current.ok_or_else(|| self.at.not_found())?;
        let mut new = stored.object.clone_object();
        (self.change)(stored, new.as_mut())?;
        Ok(Decision::Write(new))
    }
}
