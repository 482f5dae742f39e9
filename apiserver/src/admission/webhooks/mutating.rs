//! Mutating webhooks: asked one after the other, each may patch the object.

use std::collections::BTreeSet;

use api::ApiError;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::hook::{Hook, Hooks, Which};
use super::{Failure, any_applies, applies, ask, concerns, is_changeable, objects};
use crate::admission::matching::{Row, shown, stored};
use crate::admission::{Attributes, Context, Lookup, Plugin};
use crate::audit::Level;
use crate::object::Object;
use crate::write::managed_fields::Managed;
use crate::write::patch::json as json_patch;

/// See the module.
pub struct MutatingAdmissionWebhook {
    hooks: Hooks,
}

impl Default for MutatingAdmissionWebhook {
    fn default() -> Self {
        Self { hooks: Hooks::new(Which::Mutating) }
    }
}

/// What the second round needs to know of the first.
#[derive(Default)]
struct Kept {
    /// The object as the webhooks left it.
    output: Option<Value>,
    /// Webhooks that want to be asked again if the object changes from now on.
    asked: BTreeSet<String>,
    /// Webhooks after which it did.
    again: BTreeSet<String>,
}

impl Kept {
    fn require_again(&mut self) {
        self.again.append(&mut self.asked);
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        any_applies(&self.hooks, attributes)
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(context) = applies(attributes) else { return Ok(()) };
        let hooks = self.hooks.current(context.place.server.view.as_ref());
        let mut round = Round { attributes, context, lookup, object };
        let owners = round.object.as_deref().and_then(|object| object.metadata().managed_fields.clone());
        round.begin(self.name());
        for (index, hook) in hooks.iter().enumerate() {
            round.call(self.name(), index, hook).await?;
        }
        round.end(self.name());
        if let Some(object) = round.object {
            keep_owners(&context, object, owners);
        }
        Ok(())
    }
}

/// One time around all webhooks.
struct Round<'a, 'o> {
    attributes: &'a Attributes<'a>,
    context: Context<'a>,
    lookup: &'a dyn Lookup,
    object: Option<&'o mut dyn Object>,
}

impl Round<'_, '_> {
    fn value(&self) -> Option<Value> {
        self.object.as_deref().map(Object::to_value)
    }

    /// What the plugins before changed since the last round concerns all who want to be asked again.
    fn begin(&self, plugin: &'static str) {
        let rounds = self.context.rounds;
        if rounds.is_second() {
            let value = self.value();
            rounds.with(plugin, |kept: &mut Kept| {
                if kept.output != value {
                    kept.require_again();
                }
            });
        }
    }

    fn end(&self, plugin: &'static str) {
        let value = self.value();
        self.context.rounds.with(plugin, |kept: &mut Kept| kept.output = value);
    }

    async fn call(&mut self, plugin: &'static str, index: usize, hook: &Hook) -> Result<(), ApiError> {
        let (attributes, context) = (self.attributes, self.context);
        let Some(row) = concerns(hook, attributes, &context, self.object.as_deref(), self.lookup).await? else {
            return Ok(());
        };
        let rounds = context.rounds;
        // Nobody is asked for the first time in the second round.
        if rounds.is_second() && !rounds.with(plugin, |kept: &mut Kept| kept.again.contains(&hook.uid)) {
            return Ok(());
        }
        let outcome = self.ask_and_patch(hook, &row, index).await;
        let changed = matches!(outcome, Ok(true));
        self.annotate(hook, index, "mutation.webhook.admission.k8s.io", Level::Metadata, &mutation(hook, changed));
        rounds.with(plugin, |kept: &mut Kept| {
            if changed {
                kept.require_again();
            }
            if hook.asked_again {
                kept.asked.insert(hook.uid.clone());
            }
        });
        if changed {
            rounds.want_second();
        }
        if let Err(failure) = outcome {
            let why = failure.decide(hook)?;
            tracing::warn!(webhook = hook.name, why, "a webhook could not be asked, and is not waited for");
            self.annotate(hook, index, "failed-open.mutation.webhook.admission.k8s.io", Level::Metadata, &hook.name);
        }
        Ok(())
    }

    /// Whether the object was changed.
    async fn ask_and_patch(&mut self, hook: &Hook, row: &Row, index: usize) -> Result<bool, Failure> {
        let (attributes, context) = (self.attributes, self.context);
        let shown_objects = objects(attributes, &context, row, self.object.as_deref());
        let reviewed = ask(hook, attributes, &context, row, shown_objects, true).await?;
        if reviewed.patch.is_empty() {
            return Ok(false);
        }
        let refused = |error: &dyn std::fmt::Display| Failure::Refused(ApiError::internal(error));
        let object = match &mut self.object {
            Some(object) if is_changeable(attributes.operation) => object,
            _ => {
                let name = api::field::go_quote(&hook.name);
                return Err(refused(&format!(
                    "admission webhook {name} attempted to modify the object, which is not supported for this operation"
                )));
            }
        };
        let before = object.to_value();
        let strategy = row.strategy(&context);
        let mut value = if context.other.is_some() { before.clone() } else { shown(strategy, &**object) };
        json_patch::apply(&mut value, &reviewed.patch).map_err(|why| refused(&why))?;
        let value = if context.other.is_some() { value } else { stored(strategy, value) };
        object.assign(value).map_err(|why| refused(&why))?;
        let patch = patch(hook, &reviewed.patch);
        if context.other.is_none() {
            context.place.strategy.set_defaults(&mut **object);
        }
        let changed = object.to_value() != before;
        self.annotate(hook, index, "patch.webhook.admission.k8s.io", Level::Request, &patch);
        Ok(changed)
    }

    fn annotate(&self, _: &Hook, index: usize, prefix: &str, level: Level, value: &str) {
        let round = u8::from(self.context.rounds.is_second());
        self.context.place.annotations.add_at(level, format!("{prefix}/round_{round}_index_{index}"), value);
    }
}

fn mutation(hook: &Hook, mutated: bool) -> String {
    // In upstream's order of fields.
    let (configuration, webhook) = (json!(hook.configuration), json!(hook.name));
    format!("{{\"configuration\":{configuration},\"webhook\":{webhook},\"mutated\":{mutated}}}")
}

fn patch(hook: &Hook, operations: &[Value]) -> String {
    let (configuration, webhook) = (json!(hook.configuration), json!(hook.name));
    let operations = json!(operations);
    format!(
        "{{\"configuration\":{configuration},\"webhook\":{webhook},\"patch\":{operations},\"patchType\":\"JSONPatch\"}}"
    )
}

/// Webhooks may not leave owners of fields that can't be read.
fn keep_owners(
    context: &Context<'_>,
    object: &mut dyn Object,
    before: Option<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry>>,
) {
    let after = object.metadata().managed_fields.clone();
    if after == before {
        return;
    }
    if let Err(error) = Managed::decode(after.unwrap_or_default()) {
        context.place.warnings.add(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating \
             admission controller; please fix your requests: {error}"
        ));
        object.metadata_mut().managed_fields = before;
    }
}
