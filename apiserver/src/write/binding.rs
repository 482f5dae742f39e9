//! `pods/binding`: a scheduler gives a pod its node. Entry point: [`bind`].

use api::field::FieldErrorKind;
use api::{ApiError, FieldError, FieldPath, GroupResource, conditions};
use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::Place;
use super::edit::{edit, own};
use crate::admission::{Operation, Other};
use crate::resources::Subresource;

/// Binds a pod; the place names it.
pub async fn bind(at: &Place<'_>, body: Value) -> Result<(), ApiError> {
    let mut body = body;
    if let Value::Object(fields) = &mut body {
        fields.insert("apiVersion".to_owned(), Value::from("v1"));
        fields.insert("kind".to_owned(), Value::from("Binding"));
    }
    let mut binding: Binding = serde_json::from_value(body).map_err(|error| {
        ApiError::bad_request(format!("Binding in version \"v1\" cannot be handled as a Binding: json: {error}"))
    })?;
    super::metadata::match_namespace(&mut binding.metadata, at.strategy.info(), at.namespace)?;
    if binding.metadata.name.as_deref().unwrap_or_default() != at.name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    validate(&binding)?;
    admit(at, &mut binding).await?;
    carry_out(at, &binding).await
}

/// `POST …/bindings`: the pod is named in the body.
pub async fn create(at: &Place<'_>, order: &Binding) -> Result<Value, ApiError> {
    let mut order = order.clone();
    let resources = &at.server.resources;
    let pods = resources.find("", "v1", "pods").ok_or_else(ApiError::path_not_found)?;
    let name = order.metadata.name.clone().unwrap_or_default();
    let place = Place { strategy: pods.as_ref(), name: &name, subresource: Some(Subresource::Binding), ..*at };
    validate(&order)?;
    admit(&at.named(&name), &mut order).await?;
    carry_out(&place, &order).await?;
    Ok(done())
}

async fn admit(at: &Place<'_>, binding: &mut Binding) -> Result<(), ApiError> {
    let mut other = Other::of(binding);
    at.mutate_other(Operation::Create, binding, &mut other).await?;
    at.check_admission_of(Operation::Create, None, None, Some(&other)).await
}

/// What both forms answer.
pub fn done() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

/// Upstream answers these without a status of their own: 500 with the error's text.
fn validate(binding: &Binding) -> Result<(), ApiError> {
    let path = FieldPath::root("target");
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError {
            kind: FieldErrorKind::NotSupported,
            path: path.child("kind"),
            value: Some(kind.into()),
            detail: "supported values: \"Node\", \"<empty>\"".to_owned(),
        });
    }
    if binding.target.name.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::unclassified(api::FieldErrors(errors).to_string())) }
}

async fn carry_out(at: &Place<'_>, binding: &Binding) -> Result<(), ApiError> {
    let key = at.key(at.name);
    let bound = edit(at, &key, |stored, object| assign(own(object)?, &stored.revision.to_string(), binding, at));
    bound.await.map(drop)
}

/// The pod is at the revision `current`.
fn assign(pod: &mut Pod, current: &str, binding: &Binding, at: &Place<'_>) -> Result<(), ApiError> {
    let conflict = |why: &str| Err(ApiError::conflict(&GroupResource::new("", "pods/binding"), at.name, why));
    let uid = binding.metadata.uid.as_deref().unwrap_or_default();
    if !uid.is_empty() && pod.metadata.uid.as_deref() != Some(uid) {
        let found = pod.metadata.uid.as_deref().unwrap_or_default();
        return Err(at.not_met(&format!("UID in precondition: {uid}, UID in object meta: {found}")));
    }
    let revision = binding.metadata.resource_version.as_deref().unwrap_or_default();
    if !revision.is_empty() && revision != current {
        let why = format!("ResourceVersion in precondition: {revision}, ResourceVersion in object meta: {current}");
        return Err(at.not_met(&why));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return conflict(&format!("pod {} is being deleted, cannot be assigned to a host", at.name));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return conflict(&format!("pod {} is already assigned to node {}", at.name, api::field::go_quote(node)));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return conflict(&format!("pod {} has non-empty .spec.schedulingGates", at.name));
    }
    spec.node_name.clone_from(&binding.target.name);
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata.annotations.get_or_insert_default().extend(annotations.clone());
    }
    if let Some(labels) = &binding.metadata.labels {
        pod.metadata.labels.get_or_insert_default().extend(labels.clone());
    }
    if pod.metadata.generation.is_some_and(|generation| generation > 0) {
        pod.metadata.generation = pod.metadata.generation.map(|generation| generation + 1);
    }
    let scheduled = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(at.server.clock.now_seconds())),
        ..PodCondition::default()
    };
    let status = pod.status.get_or_insert_default();
    status.nominated_node_name = None;
    conditions::set(status.conditions.get_or_insert_default(), scheduled, at.server.clock.now_seconds());
    Ok(())
}
