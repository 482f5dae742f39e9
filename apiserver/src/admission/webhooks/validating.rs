//! Validating webhooks: asked all at once, each may refuse.

use api::ApiError;
use async_trait::async_trait;
use futures::future::join_all;

use super::hook::{Hooks, Which};
use super::{any_applies, applies, ask, concerns, objects};
use crate::admission::{Attributes, Lookup, Plugin};
use crate::object::Object;

/// See the module.
pub struct ValidatingAdmissionWebhook {
    hooks: Hooks,
}

impl Default for ValidatingAdmissionWebhook {
    fn default() -> Self {
        Self { hooks: Hooks::new(Which::Validating) }
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        any_applies(&self.hooks, attributes)
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(context) = applies(attributes) else { return Ok(()) };
        let hooks = self.hooks.current(context.place.server.view.as_ref());
        let object = if context.other.is_some() { None } else { object };
        let mut calls = Vec::new();
        for hook in hooks.iter() {
            if let Some(row) = concerns(hook, attributes, &context, object, lookup).await? {
                calls.push((hook, row));
            }
        }
        let outcomes = join_all(calls.iter().map(|(hook, row)| {
            let shown = objects(attributes, &context, row, object);
            ask(hook, attributes, &context, row, shown, false)
        }));
        for (index, (outcome, (hook, _))) in outcomes.await.into_iter().zip(&calls).enumerate() {
            let Err(failure) = outcome else { continue };
            let why = failure.decide(hook)?;
            tracing::warn!(webhook = hook.name, why, "a webhook could not be asked, and is not waited for");
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
            context.place.annotations.add(key, hook.name.as_str());
        }
        Ok(())
    }
}
