//! Admission webhooks: servers elsewhere that may change or refuse a write. Entry points: the plugins
//! [`MutatingAdmissionWebhook`] and [`ValidatingAdmissionWebhook`].
//!
//! The configurations are read from the watch cache and prepared once for each state that they have; without any, a request costs
//! one comparison. Mutating webhooks are called in the order of their configurations' names, each with what the one before left;
//! validating ones at the same time, and the first in order that refuses decides.
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

mod hook;
mod mutating;
mod review;
mod validating;

use api::ApiError;
use serde_json::Value;

use self::hook::{Hook, Hooks};
use self::review::{Review, Reviewed};
use super::expressions::{Judge, Subject};
use super::matching::{self, Row, shown};
use super::{Attributes, Context, Lookup, Operation};
use crate::object::Object;
use crate::webhook::CallError;

pub use mutating::MutatingAdmissionWebhook;
pub use validating::ValidatingAdmissionWebhook;

/// Why a webhook did not let a request pass.
enum Failure {
    /// It could not be asked, or its answer is none: the failure policy decides.
    Calling(String),
    /// The request is refused whatever the policy says.
    Refused(ApiError),
}

impl Failure {
    /// The error of a request that fails because of it; none if the policy is to ignore it.
    fn decide(self, hook: &Hook) -> Result<String, ApiError> {
        match self {
            Self::Refused(error) => Err(error),
            Self::Calling(why) => {
                let why = format!("failed calling webhook {}: {why}", api::field::go_quote(&hook.name));
                if hook.ignore { Ok(why) } else { Err(ApiError::internal(why)) }
            }
        }
    }
}

/// Whether a webhook is to be asked about a request, and in which form it gets the object.
async fn concerns(
    hook: &Hook,
    attributes: &Attributes<'_>,
    context: &Context<'_>,
    object: Option<&dyn Object>,
    lookup: &dyn Lookup,
) -> Result<Option<Row>, ApiError> {
    let in_namespace = matching::namespace_matches(&hook.namespaces, attributes, object, lookup).await;
    let labelled = match context.other {
        // What is sent to a subresource has no labels of its own.
        Some(_) if object.is_none() => hook.objects.is_everything(),
        _ => matching::object_matches(&hook.objects, object, attributes.old),
    };
    if matches!(in_namespace, Ok(false)) || !labelled {
        return Ok(None);
    }
    let Some(row) = matching::matching_row(&hook.rules, attributes, context, hook.equivalent) else { return Ok(None) };
    in_namespace?;
    Ok(conditions_hold(hook, attributes, context, &row, object)?.then_some(row))
}

/// Whether the match conditions hold; a failure to find out is what the failure policy is about.
fn conditions_hold(
    hook: &Hook,
    attributes: &Attributes<'_>,
    context: &Context<'_>,
    row: &Row,
    object: Option<&dyn Object>,
) -> Result<bool, ApiError> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let subject = Subject::of(attributes, context, row.strategy(context), object, None);
    let judge = Judge::new(&context.place.server.authorizers, attributes.user);
    match hook.conditions.hold(subject.variables(None, Some(&judge))) {
        Ok(hold) => Ok(hold),
        Err(_) if hook.ignore => Ok(false),
        Err(why) => Err(attributes.forbidden(object.or(attributes.old), &why)),
    }
}

/// Object and old object in the form that a webhook gets.
fn objects(
    attributes: &Attributes<'_>,
    context: &Context<'_>,
    row: &Row,
    object: Option<&dyn Object>,
) -> (Value, Value) {
    match context.other {
        Some(other) => {
            let object = object.map_or_else(|| other.object.clone(), Object::to_value);
            (object, other.old.clone().unwrap_or_default())
        }
        None => {
            let strategy = row.strategy(context);
            let show = |object: &dyn Object| shown(strategy, object);
            (object.map(show).unwrap_or_default(), attributes.old.map(show).unwrap_or_default())
        }
    }
}

/// Asks a webhook.
async fn ask(
    hook: &Hook,
    attributes: &Attributes<'_>,
    context: &Context<'_>,
    row: &Row,
    (object, old): (Value, Value),
    mutating: bool,
) -> Result<Reviewed, Failure> {
    if attributes.dry_run && !hook.free_of_side_effects {
        let name = api::field::go_quote(&hook.name);
        let why = format!("admission webhook {name} does not support dry run");
        return Err(Failure::Refused(ApiError::bad_request(why)));
    }
    let Some(version) = hook.version else {
        let why =
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failure::Calling(why.to_owned()));
    };
    let place = context.place;
    let review = Review { uid: place.server.rng.uuid(), version, attributes, context, row, object, old };
    let answered = place.server.webhooks.call(&hook.client, hook.timeout, &review.to_value()).await;
    let answer = answered.map_err(|error| {
        let what = match &error {
            CallError::Unusable(_) => "could not get REST client",
            CallError::Unreachable { .. } | CallError::Malformed(_) | CallError::Refused(_) => "failed to call webhook",
        };
        Failure::Calling(format!("{what}: {error}"))
    })?;
    let reviewed = review::read(answer, &review.uid, version, mutating).map_err(Failure::Calling)?;
    for (key, value) in &reviewed.annotations {
        place.annotations.add(format!("{}/{key}", hook.name), value.as_str());
    }
    place.warnings.extend(reviewed.warnings.iter().cloned());
    if reviewed.allowed { Ok(reviewed) } else { Err(Failure::Refused(review::denial(&hook.name, reviewed.status))) }
}

/// Whether webhooks have a say in a request at all.
fn applies<'a>(attributes: &Attributes<'a>) -> Option<Context<'a>> {
    attributes.context.filter(|_| !matching::is_configuration(attributes))
}

/// Whether any of these webhooks may have a say in a request.
fn any_applies(hooks: &Hooks, attributes: &Attributes<'_>) -> bool {
    applies(attributes).is_some_and(|context| !hooks.current(context.place.server.view.as_ref()).is_empty())
}

/// Whether the request brings an object that can be changed.
fn is_changeable(operation: Operation) -> bool {
    matches!(operation, Operation::Create | Operation::Update)
}
