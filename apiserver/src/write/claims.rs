//! What a write takes from outside its object and gives back: addresses and ports of Services.
//!
//! Invariant: a claim is settled exactly once, with whether the object was stored; what was claimed for nothing is free again.

use api::ApiError;
use async_trait::async_trait;

use super::Place;
use crate::object::Object;

/// Hands out what objects need besides their own key.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Fills in what the object lacks and takes it, before validation. `old` is the stored object of an update.
    async fn claim(&self, at: &Place<'_>, new: &mut dyn Object, old: Option<&dyn Object>) -> Result<Claim, ApiError>;

    /// Takes back what an object had that is gone.
    async fn release(&self, at: &Place<'_>, object: &dyn Object);
}

/// What one write has taken, or will give back when it succeeds.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Keeps what was taken if the object was stored, or undoes the claim.
    async fn settle(self: Box<Self>, stored: bool);
}

/// A claim that must be settled.
#[derive(Default)]
pub struct Claim(Option<Box<dyn Settle>>);

impl Claim {
    /// Nothing was taken.
    pub fn none() -> Self {
        Self(None)
    }

    /// Something was.
    pub fn new(taken: impl Settle + 'static) -> Self {
        Self(Some(Box::new(taken)))
    }

    /// See [`Settle::settle`].
    pub async fn settle(self, stored: bool) {
        if let Some(taken) = self.0 {
            taken.settle(stored).await;
        }
    }
}

#[async_trait]
impl Claims for () {
    async fn claim(&self, _: &Place<'_>, _: &mut dyn Object, _: Option<&dyn Object>) -> Result<Claim, ApiError> {
        Ok(Claim::none())
    }

    async fn release(&self, _: &Place<'_>, _: &dyn Object) {}
}
