//! Access reviews: the request that a review describes goes through the authorizers.

use api::error::ApiError;
use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SubjectAccessReview,
    SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Court, invalid};
use crate::authn::User;
use crate::authz::{Attributes, Decision, Target};
use crate::resources::{checks, internal};

pub(super) fn subject(court: &Court<'_>, review: SubjectAccessReview) -> Result<SubjectAccessReview, ApiError> {
    let mut errors = subject_errors(&review.spec);
    no_metadata(&mut errors, &review.metadata, "must be empty");
    invalid(errors)?;
    let status = decide(court, &of_spec(&review.spec));
    Ok(SubjectAccessReview { status: Some(status), ..review })
}

pub(super) fn local(court: &Court<'_>, review: LocalSubjectAccessReview) -> Result<LocalSubjectAccessReview, ApiError> {
    let mut errors = subject_errors(&review.spec);
    let (path, namespace) = (FieldPath::root("spec"), review.metadata.namespace.as_deref().unwrap_or_default());
    let elsewhere = ObjectMeta { namespace: None, ..review.metadata.clone() };
    no_metadata(&mut errors, &elsewhere, "must be empty except for namespace");
    if let Some(asked) = &review.spec.resource_attributes
        && text(&asked.namespace) != namespace
    {
        let field = path.child("resourceAttributes").child("namespace");
        errors.push(FieldError::invalid(&field, text(&asked.namespace), "must match metadata.namespace"));
    }
    if let Some(asked) = &review.spec.non_resource_attributes {
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            as_go(asked),
            "disallowed on this kind of request",
        ));
    }
    invalid(errors)?;
    if court.namespace != namespace {
        return Err(ApiError::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            court.namespace
        )));
    }
    let status = decide(court, &of_spec(&review.spec));
    Ok(LocalSubjectAccessReview { status: Some(status), ..review })
}

pub(super) fn own(court: &Court<'_>, review: SelfSubjectAccessReview) -> Result<SelfSubjectAccessReview, ApiError> {
    let (resource, path) = (review.spec.resource_attributes.as_ref(), review.spec.non_resource_attributes.as_ref());
    let mut errors = one_of(resource, path);
    selectors(&mut errors, resource);
    no_metadata(&mut errors, &review.metadata, "must be empty");
    invalid(errors)?;
    let status = decide(court, &attributes(court.user.clone(), resource, path));
    Ok(SelfSubjectAccessReview { status: Some(status), ..review })
}

fn decide(court: &Court<'_>, asked: &Attributes) -> SubjectAccessReviewStatus {
    let (allowed, reason) = match court.authorizers.authorize(asked) {
        Decision::Allow(reason) => (true, reason),
        Decision::NoOpinion(reason) => (false, reason),
    };
    let reason = if reason.is_empty() { None } else { Some(reason) };
    SubjectAccessReviewStatus { allowed, reason, ..SubjectAccessReviewStatus::default() }
}

fn subject_errors(spec: &SubjectAccessReviewSpec) -> FieldErrors {
    let mut errors = one_of(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    if text(&spec.user).is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty) {
        let field = FieldPath::root("spec").child("user");
        errors.push(FieldError::invalid(&field, "", "at least one of user or group must be specified"));
    }
    selectors(&mut errors, spec.resource_attributes.as_ref());
    errors
}

/// A review is no object: nothing but who manages its fields is known of it.
fn no_metadata(errors: &mut FieldErrors, metadata: &ObjectMeta, detail: &str) {
    if (ObjectMeta { managed_fields: None, ..metadata.clone() }) != ObjectMeta::default() {
        errors.push(internal::invalid(&FieldPath::root("metadata"), "meta/v1.ObjectMeta", metadata, detail));
    }
}

/// What a list would be narrowed to. Operators may be of a later version, which authorizers then do not count on.
fn selectors(errors: &mut FieldErrors, asked: Option<&ResourceAttributes>) {
    let path = FieldPath::root("spec").child("resourceAttributes");
    if let Some(selector) = asked.and_then(|asked| asked.field_selector.as_ref()) {
        let (path, wanted) = (path.child("fieldSelector"), selector.requirements.as_deref().unwrap_or_default());
        one_form(errors, &path, text(&selector.raw_selector), wanted.len());
        for (i, one) in wanted.iter().enumerate() {
            let path = path.child("requirements").index(i);
            if one.key.is_empty() {
                errors.push(FieldError::required(&path.child("key"), "must be specified"));
            }
            checks::requirement(errors, &path, &one.operator, one.values.as_deref().unwrap_or_default());
        }
    }
    if let Some(selector) = asked.and_then(|asked| asked.label_selector.as_ref()) {
        let (path, wanted) = (path.child("labelSelector"), selector.requirements.as_deref().unwrap_or_default());
        one_form(errors, &path, text(&selector.raw_selector), wanted.len());
        for (i, one) in wanted.iter().enumerate() {
            let (path, values) = (path.child("requirements").index(i), one.values.as_deref().unwrap_or_default());
            checks::requirement(errors, &path, &one.operator, values);
            checks::label_key(errors, &path.child("key"), &one.key);
            for (i, value) in values.iter().enumerate() {
                errors.push_invalid(&path.child("values").index(i), value, names::label_value(value));
            }
        }
    }
}

fn one_form(errors: &mut FieldErrors, path: &FieldPath, raw: &str, requirements: usize) {
    match (raw, requirements) {
        ("", 0) => {
            let detail = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&path.child("requirements"), detail));
        }
        ("", _) | (_, 0) => {}
        (raw, _) => {
            let detail = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(&path.child("rawSelector"), raw, detail));
        }
    }
}

fn one_of(resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> FieldErrors {
    let (mut errors, spec) = (FieldErrors::new(), FieldPath::root("spec"));
    match (resource, path) {
        (Some(_), Some(asked)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&spec.child("nonResourceAttributes"), as_go(asked), detail));
        }
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&spec.child("resourceAttributes"), json!(null), detail));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    errors
}

/// As Go prints a type without JSON names.
fn as_go(asked: &NonResourceAttributes) -> serde_json::Value {
    json!({"Path": text(&asked.path), "Verb": text(&asked.verb)})
}

fn of_spec(spec: &SubjectAccessReviewSpec) -> Attributes {
    let extra = spec.extra.iter().flatten().map(|(key, values)| (key.to_lowercase(), values.clone())).collect();
    let user = User {
        name: text(&spec.user).to_owned(),
        uid: text(&spec.uid).to_owned(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra,
    };
    attributes(user, spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref())
}

fn attributes(user: User, resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> Attributes {
    match resource {
        Some(asked) => {
            let target = Target::Resource {
                group: text(&asked.group).to_owned(),
                version: text(&asked.version).to_owned(),
                resource: text(&asked.resource).to_owned(),
                subresource: text(&asked.subresource).to_owned(),
                namespace: text(&asked.namespace).to_owned(),
                name: text(&asked.name).to_owned(),
            };
            Attributes { user, verb: text(&asked.verb).to_owned(), target, fields: fields(asked) }
        }
        None => {
            let asked = path.cloned().unwrap_or_default();
            Attributes {
                user,
                verb: text(&asked.verb).to_owned(),
                target: Target::Path(asked.path.unwrap_or_default()),
                fields: Vec::new(),
            }
        }
    }
}

fn fields(asked: &ResourceAttributes) -> Vec<(String, String)> {
    let requirements = asked.field_selector.iter().flat_map(|selector| selector.requirements.iter().flatten());
    let one = requirements.filter_map(|wanted| match (wanted.operator.as_str(), wanted.values.as_deref()) {
        ("In", Some([value])) => Some((wanted.key.clone(), value.clone())),
        _ => None,
    });
    one.collect()
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}
